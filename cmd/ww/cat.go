package main

import (
	"context"
	"encoding/base64"
	"io"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/internal/fault"
)

// dataBytesMax bounds the content of one JSON object of a file's bytes.
const dataBytesMax = 192 << 10

// span is a part of a file: length < 0 means to its end.
type span struct{ offset, length int64 }

func newCat(program *app) *cobra.Command {
	part := span{length: -1}
	var limit bandwidth
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:   "cat [flags] PATH…",
		Short: "write files to standard output",
		Long: `Write files to standard output, one after the other. For a file that is
being written that is what has been flushed. With --json the bytes come in objects of
type "data", in base64.`,
		Example: `  ww cat /logs/today
  ww cat --offset 1048576 --length 4096 /data/image.raw | xxd`,
	})
	cmd.Flags().Int64Var(&part.offset, "offset", 0, "start at this byte")
	cmd.Flags().Int64Var(&part.length, "length", -1, "at most this many bytes; -1: to the end")
	limit.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if part.offset < 0 {
			return usageOf(cmd, "--offset %d is negative", part.offset)
		}
		paths, err := program.remotes(args)
		if err != nil {
			return err
		}
		if err := limit.check(); err != nil {
			return err
		}
		if _, err := program.connectWithin(cmd.Context(), limit); err != nil {
			return err
		}
		return program.catAll(cmd.Context(), "cat", paths, part)
	}
	return cmd
}

// copyOut writes a part of a file to standard output.
func (a *app) copyOut(ctx context.Context, woods *client.Client, path string, part span) error {
	reader, err := woods.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }() // read only
	out := a.content(path, part.offset)
	var source io.Reader = reader
	if part.offset > 0 {
		length, err := reader.Size(ctx)
		if err != nil {
			return err
		}
		if part.offset > length {
			return fault.WithPath(fault.New(fault.Invalid, "", "begins at byte %d of %d", part.offset, length), path)
		}
		if _, err := reader.Seek(part.offset, io.SeekStart); err != nil {
			return err
		}
	}
	if part.length >= 0 {
		source = io.LimitReader(reader, part.length)
	}
	_, err = io.Copy(out, source)
	return transfer.LocalError("write", path, err)
}

// content is where the bytes of a file go: to stdout as they are, or as JSON objects.
func (a *app) content(path string, offset int64) io.Writer {
	if !a.global.json {
		return a.stdout
	}
	return &jsonContent{out: a.printer(), path: path, offset: offset}
}

// jsonContent writes bytes as objects of type "data".
type jsonContent struct {
	out    *printer
	path   string
	offset int64
}

func (w *jsonContent) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := min(len(p), dataBytesMax)
		w.out.object("data", record{
			"path": w.path, "offset": w.offset, "bytes": n, "data": base64.StdEncoding.EncodeToString(p[:n]),
		})
		w.offset += int64(n)
		p = p[n:]
	}
	return written, w.out.flush()
}
