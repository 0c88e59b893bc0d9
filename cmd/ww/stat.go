package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

func newStat(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "stat [flags] PATH…",
		Short:             "show everything about files and directories",
		Example:           "  ww stat /photos/fox.jpg\n  ww stat --json / | jq .children",
		Args:              arguments(1, -1),
		ValidArgsFunction: a.completeRemote,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out := a.printer()
		err := a.eachFile(cmd, args, func(ctx context.Context, c *client.Client, path string) error {
			info, err := c.Stat(ctx, path)
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
			out.text("id:          %d\ncreated:     %s\nmodified:    %s", info.FileID, stamp(info.Created), stamp(info.Modified))
			if info.Open {
				out.text("written by:  %s since %s", info.LeaseHolder, stamp(info.LeaseSince))
			}
			return nil
		})
		return out.done(err)
	}
	return cmd
}

func newTest(a *app) *cobra.Command {
	var exists, file, directory bool
	cmd := &cobra.Command{
		Use:   "test -e|-f|-d PATH",
		Short: "ask whether a path exists, as a file or directory",
		Long: `Exit code 0 is yes, 1 is no; any other code is an error, for example 5 when no
namenode answers. Nothing is printed but with --json.`,
		Example:           "  ww test -e /done && echo finished\n  ww test -d /photos || ww mkdir /photos",
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeRemote,
	}
	cmd.Flags().BoolVarP(&exists, "exists", "e", false, "is there anything?")
	cmd.Flags().BoolVarP(&file, "file", "f", false, "is it a file?")
	cmd.Flags().BoolVarP(&directory, "directory", "d", false, "is it a directory?")
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
		path, err := a.remote(args[0])
		if err != nil {
			return err
		}
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		info, err := c.Stat(cmd.Context(), path)
		if err != nil && !errors.Is(err, fault.NotFound) && !errors.Is(err, fault.NotDirectory) {
			return err
		}
		yes := err == nil && (exists || file && !info.Directory || directory && info.Directory)
		out := a.printer()
		out.object("answer", record{"path": path, "answer": yes})
		if !yes {
			return out.done(errNo)
		}
		return out.flush()
	}
	return cmd
}

func newChecksum(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checksum [flags] PATH…",
		Short: "compare files without reading them",
		Long: `Print a checksum of each file's content, computed by the datanodes from the
checksums that they store. Files with the same content and chunk size have the
same one.`,
		Example:           "  ww checksum /a /b",
		Args:              arguments(1, -1),
		ValidArgsFunction: a.completeRemote,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out := a.printer()
		err := a.eachFile(cmd, args, func(ctx context.Context, c *client.Client, path string) error {
			sum, err := c.Checksum(ctx, path)
			if err != nil {
				return err
			}
			out.object("checksum", record{"path": path, "checksum": sum})
			out.text("%s  %s", sum, shown(path))
			return nil
		})
		return out.done(err)
	}
	return cmd
}

func newLocate(a *app) *cobra.Command {
	s := span{length: -1}
	cmd := &cobra.Command{
		Use:   "locate [flags] PATH…",
		Short: "show the chunks of files and where their replicas are",
		Example: `  ww locate /photos/fox.jpg
  ww locate --offset 1000000 --length 1 --json /data/image.raw`,
		Args:              arguments(1, -1),
		ValidArgsFunction: a.completeRemote,
	}
	cmd.Flags().Int64Var(&s.offset, "offset", 0, "chunks from this byte on")
	cmd.Flags().Int64Var(&s.length, "length", -1, "chunks of so many bytes; -1: to the end")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if s.offset < 0 {
			return usageOf(cmd, "--offset %d is negative", s.offset)
		}
		out := a.printer()
		err := a.eachFile(cmd, args, func(ctx context.Context, c *client.Client, path string) error {
			chunks, err := c.Locate(ctx, path, s.offset, s.length)
			if err != nil {
				return err
			}
			out.text("%s: %s", shown(path), count(len(chunks), "chunk"))
			for _, ch := range chunks {
				out.chunk(path, ch)
			}
			return nil
		})
		return out.done(err)
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
	p.text("%6d  %s  generation %d  %s  offset %d  bytes %d", ch.Index, ch.ID, ch.Generation, state, ch.Offset, ch.Length)
	p.text("        %s", strings.Join(places, "\n        "))
}
