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

func newCat(a *app) *cobra.Command {
	s := span{length: -1}
	var limit bandwidth
	cmd := &cobra.Command{
		Use:   "cat [flags] PATH…",
		Short: "write files to standard output",
		Long: `Write files to standard output, one after the other. Of a file that is being
written it shows what has been flushed. With --json the bytes come in objects of
type "data", in base64.`,
		Example: `  ww cat /logs/today
  ww cat --offset 1048576 --length 4096 /data/image.raw | xxd`,
		Args:              arguments(1, -1),
		ValidArgsFunction: a.completeRemote,
	}
	cmd.Flags().Int64Var(&s.offset, "offset", 0, "begin at this byte")
	cmd.Flags().Int64Var(&s.length, "length", -1, "at most so many bytes; -1: to the end")
	limit.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if s.offset < 0 {
			return usageOf(cmd, "--offset %d is negative", s.offset)
		}
		paths, err := a.remotes(args)
		if err != nil {
			return err
		}
		if err := limit.check(); err != nil {
			return err
		}
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		if err := c.SetBandwidth(limit.rate); err != nil {
			return err
		}
		return a.catAll(cmd.Context(), "cat", paths, s)
	}
	return cmd
}

// copyOut writes a part of a file to standard output.
func (a *app) copyOut(ctx context.Context, c *client.Client, path string, s span) error {
	r, err := c.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // read only
	out := a.content(path, s.offset)
	var source io.Reader = r
	if s.offset > 0 {
		length, err := r.Size(ctx)
		if err != nil {
			return err
		}
		if s.offset > length {
			e := fault.New(fault.Invalid, "", "begins at byte %d of %d", s.offset, length)
			e.Path = path
			return e
		}
		if _, err := r.Seek(s.offset, io.SeekStart); err != nil {
			return err
		}
	}
	if s.length >= 0 {
		source = io.LimitReader(r, s.length)
	}
	_, err = io.Copy(out, source)
	return transfer.LocalError("write", path, err)
}

// content is where the bytes of a file go: to stdout as they are, or as JSON
// objects.
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
