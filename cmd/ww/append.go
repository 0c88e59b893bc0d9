package main

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/internal/fault"
)

func newAppend(program *app) *cobra.Command {
	var flags transferFlags
	var create, recoverLease, lines bool
	var records, sync bool
	cmd := &cobra.Command{
		Use:   "append [flags] SOURCE… PATH",
		Short: "add local files to the end of a file",
		Long: `Add the bytes of local files, or of standard input ("-"), to the end of a
file of the cluster. When the command succeeds, they are on the
disk of every replica; while it runs, readers see what has been flushed. Only one
client writes a file at a time; if the last one died, --recover-lease takes its
lease over after a minute.

With --records each line is appended as one record, by any number of clients at
once: every record is in the file as a whole, at least once, and in the order of its
source. "ww records cat" reads them.`,
		Example: `  ww append today.log /logs/2026
  dmesg -w | ww append --create - /logs/kernel
  tail -f access.log | ww append --records --create - /logs/all`,
		Args:              arguments(2, -1),
		ValidArgsFunction: program.completeTransfer(false),
	}
	cmd.Flags().BoolVar(&create, "create", false, "make the file if it does not exist")
	cmd.Flags().BoolVar(&recoverLease, "recover-lease", false,
		"take over the lease of a writer that has been silent for a long time")
	cmd.Flags().BoolVar(&records, "records", false, "append each line as one record; many clients may do so at once")
	cmd.Flags().BoolVar(&sync, "sync", false, "with --records: a record counts only when it is on every replica's disk")
	flags.parallel = 1
	flags.registerCreate(cmd)
	flags.bandwidth.register(cmd)
	cmd.Flags().BoolVar(&lines, "flush-lines", false,
		"flush after every line of standard input, instead of a few times per second")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		options, err := flags.options()
		if err != nil {
			return err
		}
		sources := args[:len(args)-1]
		target, err := program.remote(args[len(args)-1])
		if err != nil {
			return err
		}
		if slices.Contains(sources, "-") && len(sources) > 1 {
			return usageOf(cmd, `"-" cannot stand beside other sources`)
		}
		if lines && sources[0] != "-" {
			return usageOf(cmd, `--flush-lines goes with "-" as the source`)
		}
		// A source that cannot be read is found before the target is touched.
		files := []*os.File{}
		defer func() {
			for _, file := range files {
				_ = file.Close() // read only
			}
		}()
		for _, source := range sources {
			if source == "-" {
				continue
			}
			file, err := os.Open(source)
			if err != nil {
				return transfer.LocalError("read", source, err)
			}
			files = append(files, file)
			if info, err := file.Stat(); err == nil && info.IsDir() {
				return &fault.Error{Kind: fault.IsDirectory, Path: source}
			}
		}
		if sync && !records {
			return usageOf(cmd, "--sync goes with --records; without it the verb syncs at its end")
		}
		if records {
			return program.appendRecords(ctx, sources, files, target, client.RecordOptions{Create: create, Sync: sync,
				New: client.CreateOptions{Replication: options.Replication, ChunkSize: options.ChunkSize}})
		}
		woods, err := program.connectWithin(ctx, flags.bandwidth)
		if err != nil {
			return err
		}
		start := time.Now()
		// A signal ends the copying; closing the file still needs the cluster.
		writing, done := outlive(ctx, closeTimeout)
		defer done()
		writer, err := woods.Append(writing, target, client.AppendOptions{RecoverLease: recoverLease})
		if create && errors.Is(err, fault.NotFound) {
			writer, err = woods.Create(writing, target,
				client.CreateOptions{Replication: options.Replication, ChunkSize: options.ChunkSize})
		}
		if err != nil {
			return err
		}
		bar := program.progress("append")
		var total int64
		copyAll := func() error {
			if sources[0] == "-" {
				n, err := program.appendStream(ctx, writer, bar, lines)
				total += n
				return err
			}
			for i, file := range files {
				n, err := transfer.CopyStream(ctx, writer, file, bar.moved)
				total += n
				if err != nil {
					return transfer.LocalError("append", sources[i], err)
				}
			}
			return nil
		}
		err = copyAll()
		// Also after an error: what was written stays, and the lease ends.
		if closeErr := writer.Close(); err == nil {
			err = closeErr
		}
		bar.end()
		if err != nil {
			return err
		}
		out := program.printer()
		out.object("appended", record{
			"path": target, "bytes": total, "length": writer.Info().Length, "seconds": seconds(time.Since(start)),
		})
		return out.flush()
	}
	return cmd
}
