package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
)

const (
	linesDefault     = 10
	tailBlockBytes   = 64 << 10
	followEveryLeast = 10 * time.Millisecond
)

// ends are the flags of head and tail.
type ends struct {
	lines, bytes int64
}

func (e *ends) register(cmd *cobra.Command) {
	cmd.Flags().Int64VarP(&e.lines, "lines", "n", linesDefault, "how many lines")
	cmd.Flags().Int64VarP(&e.bytes, "bytes", "c", -1, "how many bytes, instead of lines")
}

func (e *ends) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("lines") && cmd.Flags().Changed("bytes") {
		return usageOf(cmd, "-n and -c exclude each other")
	}
	if e.lines < 0 || e.bytes < 0 && cmd.Flags().Changed("bytes") {
		return usageOf(cmd, "a number of lines or bytes cannot be negative")
	}
	return nil
}

func newHead(program *app) *cobra.Command {
	var limits ends
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:   "head [flags] PATH…",
		Short: "show the beginning of files",
		Example: `  ww head /logs/today
  ww head -c 512 /data/image.raw | xxd`,
	})
	limits.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := limits.check(cmd); err != nil {
			return err
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, _ *printer, path string) error {
			return program.head(ctx, woods, path, limits)
		})(cmd, args)
	}
	return cmd
}

// pathBody is what a verb does with one path of the cluster; its results go to out.
type pathBody func(ctx context.Context, woods *client.Client, out *printer, path string) error

// eachPath makes a verb of any number of paths.
func (a *app) eachPath(body pathBody) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		paths, err := a.remotes(args)
		if err != nil {
			return err
		}
		return a.eachOf(cmd.Context(), verbName(cmd), paths, body)
	}
}

// eachOf runs a body for every path and goes on after a failure.
func (a *app) eachOf(ctx context.Context, verb string, paths []string, body pathBody) error {
	woods, err := a.connect(ctx)
	if err != nil {
		return err
	}
	out, failed := a.printer(), failures{total: len(paths)}
	for _, path := range paths {
		if err := body(ctx, woods, out, path); err != nil {
			if ctx.Err() != nil {
				return out.done(err)
			}
			a.complain(verb, &failed, err)
		}
	}
	return out.done(failed.err())
}

func (a *app) head(ctx context.Context, woods *client.Client, path string, limits ends) error {
	if limits.bytes >= 0 {
		return a.copyOut(ctx, woods, path, span{length: limits.bytes})
	}
	r, err := woods.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // read only
	out := a.content(path, 0)
	buffer := make([]byte, tailBlockBytes)
	for left := limits.lines; left > 0; {
		n, err := r.Read(buffer)
		piece := buffer[:n]
		for at := 0; at < len(piece) && left > 0; {
			line := bytes.IndexByte(piece[at:], '\n')
			if line < 0 {
				break
			}
			at += line + 1
			if left--; left == 0 {
				piece = piece[:at]
			}
		}
		if _, err := out.Write(piece); err != nil {
			return transfer.LocalError("write", path, err)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newTail(program *app) *cobra.Command {
	var limits ends
	var follow bool
	var every time.Duration
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:   "tail [flags] PATH…",
		Short: "show the end of files",
		Long: `Show the end of files. With -f, keep showing what is appended, as soon as the
writer has flushed it, until Ctrl-C or until the file is removed.`,
		Example: `  ww tail -n 100 /logs/today
  ww tail -f /logs/today`,
	})
	limits.register(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep showing what is appended")
	cmd.Flags().DurationVar(&every, "every", 500*time.Millisecond, "how often -f checks for more")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := limits.check(cmd); err != nil {
			return err
		}
		if follow && len(args) > 1 {
			return usageOf(cmd, "-f follows one file")
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, _ *printer, path string) error {
			end, err := program.tail(ctx, woods, path, limits)
			if err != nil || !follow {
				return err
			}
			return program.follow(ctx, woods, path, end, max(every, followEveryLeast))
		})(cmd, args)
	}
	return cmd
}

// tail writes the end of a file and returns the length that it saw.
func (a *app) tail(ctx context.Context, woods *client.Client, path string, limits ends) (int64, error) {
	reader, err := woods.Open(ctx, path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = reader.Close() }() // read only
	length, err := reader.Size(ctx)
	if err != nil {
		return 0, err
	}
	begin := max(length-limits.bytes, 0)
	if limits.bytes < 0 {
		if begin, err = lastLines(reader, length, limits.lines); err != nil {
			return 0, err
		}
	}
	_, err = io.Copy(a.content(path, begin), io.NewSectionReader(reader, begin, length-begin))
	return length, transfer.LocalError("write", path, err)
}

// lastLines finds where the last lines of the first length bytes begin. A last line without an end counts as one.
func lastLines(r io.ReaderAt, length, lines int64) (int64, error) {
	if lines == 0 {
		return length, nil
	}
	buffer := make([]byte, tailBlockBytes)
	for end := length; end > 0; {
		begin := max(end-tailBlockBytes, 0)
		block := buffer[:end-begin]
		if n, err := r.ReadAt(block, begin); n < len(block) {
			return 0, err
		}
		for at := len(block) - 1; at >= 0; at-- {
			if block[at] != '\n' || begin+int64(at) == length-1 {
				continue
			}
			if lines--; lines == 0 {
				return begin + int64(at) + 1, nil
			}
		}
		end = begin
	}
	return 0, nil
}

// follow writes what is added to a file behind offset until ctx ends.
func (a *app) follow(ctx context.Context, woods *client.Client, path string, offset int64, every time.Duration) error {
	o := client.FollowOptions{
		Every:     every,
		Restarted: func() { a.note("ww tail: %q: is shorter than before, or another file: starting over", path) },
		Trouble:   func(err error) { a.note("%s", describe("tail", err)) },
	}
	return woods.Follow(ctx, path, offset, o, func(offset int64, p []byte) error {
		_, err := a.content(path, offset).Write(p)
		return transfer.LocalError("write", path, err)
	})
}
