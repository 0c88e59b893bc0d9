package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

func newStat(program *app) *cobra.Command {
	return program.ofPaths(1, -1, &cobra.Command{
		Use:     "stat [flags] PATH…",
		Short:   "show everything about files and directories",
		Example: "  ww stat /photos/fox.jpg\n  ww stat --json / | jq .children",
		RunE: program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
			info, err := woods.Stat(ctx, path)
			if err != nil {
				return err
			}
			out.object("entry", entryRecord(info))
			out.text("path:        %s", shown(info.Path))
			if info.Directory {
				out.text("kind:        directory\nchildren:    %d", info.Children)
			} else {
				out.text("kind:        file\nbytes:       %d (%s)\ncopies:      %d\nchunk size:  %s",
					info.Length, size(info.Length, true), info.Replication, size(info.ChunkSize, true))
			}
			out.text("id:          %d\ncreated:     %s\nmodified:    %s", info.FileID, stamp(info.Created),
				stamp(info.Modified))
			if info.Open {
				out.text("written by:  %s since %s", info.LeaseHolder, stamp(info.LeaseSince))
			}
			return nil
		}),
	})
}

func newTest(program *app) *cobra.Command {
	var exists, file, directory bool
	cmd := program.ofPaths(1, 1, &cobra.Command{
		Use:   "test -e|-f|-d PATH",
		Short: "check whether a path exists, as a file or directory",
		Long: `Exit code 0 means yes, 1 means no; any other code is an error, for example 5 when
no namenode answers. Nothing is printed without --json.`,
		Example: "  ww test -e /done && echo finished\n  ww test -d /photos || ww mkdir /photos",
	})
	cmd.Flags().BoolVarP(&exists, "exists", "e", false, "does it exist?")
	cmd.Flags().BoolVarP(&file, "file", "f", false, "is it a file?")
	cmd.Flags().BoolVarP(&directory, "directory", "d", false, "is it a directory?")
	answer := program.askingOf(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
		info, err := woods.Stat(ctx, path)
		if err != nil && !errors.Is(err, fault.NotFound) && !errors.Is(err, fault.NotDirectory) {
			return err
		}
		yes := err == nil && (exists || file && !info.Directory || directory && info.Directory)
		out.object("answer", record{"path": path, "answer": yes})
		if !yes {
			return errNo
		}
		return nil
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asked := 0
		for _, flag := range []bool{exists, file, directory} {
			if flag {
				asked++
			}
		}
		if asked != 1 {
			return usageOf(cmd, "exactly one of -e, -f and -d is needed")
		}
		return answer(cmd, args)
	}
	return cmd
}

func newChecksum(program *app) *cobra.Command {
	return program.ofPaths(1, -1, &cobra.Command{
		Use:   "checksum [flags] PATH…",
		Short: "compare files without reading them",
		Long: `Print a checksum of each file's content, computed by the datanodes from the
checksums that they store. Files with the same content and chunk size have the
same one.`,
		Example: "  ww checksum /a /b",
		RunE: program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
			sum, err := woods.Checksum(ctx, path)
			if err != nil {
				return err
			}
			out.object("checksum", record{"path": path, "checksum": sum})
			out.text("%s  %s", sum, shown(path))
			return nil
		}),
	})
}

func newLocate(program *app) *cobra.Command {
	part := span{length: -1}
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:   "locate [flags] PATH…",
		Short: "show the chunks of files and where their replicas are",
		Example: `  ww locate /photos/fox.jpg
  ww locate --offset 1000000 --length 1 --json /data/image.raw`,
	})
	cmd.Flags().Int64Var(&part.offset, "offset", 0, "chunks from this byte on")
	cmd.Flags().Int64Var(&part.length, "length", -1, "only the chunks of this many bytes; -1: to the end")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if part.offset < 0 {
			return usageOf(cmd, "--offset %d is negative", part.offset)
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
			chunks, err := woods.Locate(ctx, path, part.offset, part.length)
			if err != nil {
				return err
			}
			out.text("%s: %s", shown(path), count(len(chunks), "chunk"))
			for _, ch := range chunks {
				out.chunk(path, ch)
			}
			return nil
		})(cmd, args)
	}
	return cmd
}

func (p *printer) chunk(path string, ch client.ChunkLocation) {
	replicas, places := []record{}, []string{}
	for _, r := range ch.Replicas {
		replicas = append(replicas, record{"node": r.NodeID, "address": r.Address})
		places = append(places, r.Address+" ("+r.NodeID+")")
	}
	p.object("chunk", record{
		"path": path, "index": ch.Index, "chunk": ch.ID.String(), "generation": ch.Generation,
		"offset": ch.Offset, "bytes": ch.Length, "open": ch.Open, "replicas": replicas,
	})
	state := "sealed"
	if ch.Open {
		state = "open"
	}
	if len(places) == 0 {
		places = []string{"no replica is known"}
	}
	p.text("%6d  %s  generation %d  %s  offset %d  bytes %d", ch.Index, ch.ID, ch.Generation, state,
		ch.Offset, ch.Length)
	p.text("        %s", strings.Join(places, "\n        "))
}
