package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/internal/fault"
)

// lineBufferBytes is read at once from a source of records.
const lineBufferBytes = 64 << 10

// appendRecords appends each line of the sources as one record; "-" is the
// standard input. It waits until all are acknowledged.
func (a *app) appendRecords(ctx context.Context, sources []string, files []*os.File, target string,
	o client.RecordOptions) error {
	woods, err := a.connect(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	records, err := woods.OpenRecords(ctx, target, o)
	if err != nil {
		return err
	}
	var count, total int64
	appendAll := func() error {
		for i, source := range sources {
			from := a.stdin
			if source != "-" {
				from = files[i]
			}
			n, bytes, err := appendLines(ctx, records, from)
			count += n
			total += bytes
			if err != nil {
				return transfer.LocalError("append", source, err)
			}
		}
		return nil
	}
	err = appendAll()
	// Also after an error: what was sent is waited for.
	if closeErr := records.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	out := a.printer()
	out.text("%d records", count)
	out.object("records_appended", record{"path": target, "records": count, "bytes": total,
		"seconds": seconds(time.Since(start))})
	return out.flush()
}

// appendLines appends the lines of a source, without their ends.
func appendLines(ctx context.Context, records *client.RecordAppender, source io.Reader) (count,
	bytes int64, err error) {
	lines := bufio.NewScanner(source)
	// One more byte than a record may have tells a line that is too long.
	lines.Buffer(make([]byte, 0, lineBufferBytes), client.RecordBytesMax+2)
	for lines.Scan() {
		if _, err := records.AppendAsync(ctx, lines.Bytes()); err != nil {
			return count, bytes, err
		}
		count++
		bytes += int64(len(lines.Bytes()))
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return count, bytes, fault.New(fault.Invalid, "append record", "line %d has more than %d bytes", count+1,
			client.RecordBytesMax)
	}
	return count, bytes, lines.Err()
}

func newRecords(program *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "records",
		Short: "read files of records",
		Long: `Files that "ww append --records" (or the Go API) wrote hold records: pieces of
up to 16 MiB that many clients append at once, each whole and at least once.`,
		Example: `  ww records cat /logs/events
  ww records cat -f /logs/events`,
	}, newRecordsCat(program))
}

func newRecordsCat(program *app) *cobra.Command {
	var follow bool
	var offset int64
	var every time.Duration
	cmd := program.ofPaths(1, 1, &cobra.Command{
		Use:   "cat [flags] PATH",
		Short: "show the records of a file, one per line",
		Long: `Show the records of a file in their order, one per line. Remains of failed
attempts are skipped, and a record that was appended twice is shown once. With
--json, each record has its writer, its sequence number from that writer, its
offset in the file, and its payload in base64.`,
		Example: `  ww records cat /logs/events
  ww records cat --json --offset 4096 /logs/events
  ww records cat -f /logs/events`,
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep showing what is appended")
	cmd.Flags().Int64Var(&offset, "offset", 0, "start with the record at this offset")
	cmd.Flags().DurationVar(&every, "every", 500*time.Millisecond, "how often -f checks for more")
	show := program.askingOf(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
		r, err := woods.ReadRecords(ctx, path, offset,
			client.RecordReadOptions{Follow: follow, Every: max(every, followEveryLeast)})
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }() // read only
		return out.records(ctx, r, follow)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if offset < 0 {
			return usageOf(cmd, "--offset cannot be negative")
		}
		return show(cmd, args)
	}
	return cmd
}

// records writes records until the end, or until ctx ends.
func (p *printer) records(ctx context.Context, r *client.RecordReader, follow bool) error {
	for {
		got, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.text("%s", got.Payload)
		p.object("record", record{"offset": got.Offset, "writer": hex.EncodeToString(got.Writer[:]),
			"sequence": got.Sequence, "payload": got.Payload})
		if follow || p.err != nil {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
}
