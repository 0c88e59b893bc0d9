package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench"
	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/config"
	"github.com/whispering-woods/ww/internal/daemon"
)

// closeTimeout bounds the end of the mini cluster.
const closeTimeout = 20 * time.Second

// miniOptions are the flags of wwbench mini.
type miniOptions struct {
	directory string
	sizeBytes int64
	datanodes int
	runs      int
}

func miniCommand() *cobra.Command {
	var o miniOptions
	var size string
	var asJSON, verbose bool
	c := &cobra.Command{
		Use:   "mini",
		Short: "Store and fetch a file in a mini cluster, beside the limits of the machine",
		Long: `Each run takes the floors of the machine (see wwbench floor), then stores one
file in a mini cluster of its own (one process, loopback, real files) and fetches
it back. The file is compared byte by byte afterwards. What counts are the ratios
to the floors of the same run; run it while nothing else runs.`,
		Example: "  wwbench mini --dir /data --size 1GiB\n  wwbench mini --json | jq .median",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			n, err := parseSize(size)
			if err != nil {
				return err
			}
			if o.runs < 1 {
				return fmt.Errorf("--runs %d: want 1 or more", o.runs)
			}
			o.sizeBytes = n
			logger := slog.New(slog.DiscardHandler)
			if verbose {
				logger = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			}
			report, err := runMini(c.Context(), o, logger, c.ErrOrStderr())
			if err != nil {
				return err
			}
			if asJSON {
				return report.WriteJSON(c.OutOrStdout())
			}
			return report.WriteText(c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.directory, "dir", ".", "directory on the disk to measure; a temporary folder is made in it")
	c.Flags().StringVar(&size, "size", "1GiB", "bytes of the file, and of each floor")
	c.Flags().IntVar(&o.datanodes, "datanodes", 3, "datanodes of the mini cluster")
	c.Flags().IntVar(&o.runs, "runs", 3, "how often everything is measured; the median counts")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the log of the mini cluster")
	return c
}

// runMini measures floors and cluster in turn; progress goes to w.
func runMini(ctx context.Context, o miniOptions, logger *slog.Logger, w io.Writer) (_ bench.Report, err error) {
	directory, err := os.MkdirTemp(o.directory, "wwbench-mini-")
	if err != nil {
		return bench.Report{}, fmt.Errorf("make a folder for the mini cluster: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()

	settings := config.Default().Mini
	settings.Dir, settings.Listen, settings.Datanodes = directory, "127.0.0.1:0", o.datanodes
	settings.TrashDelay = config.Duration(time.Second)
	cluster, err := daemon.StartMini(ctx, settings, logger)
	if err != nil {
		return bench.Report{}, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, cluster.Close(closing))
	}()
	if err := cluster.WaitReady(ctx); err != nil {
		return bench.Report{}, err
	}
	c, err := client.Dial(ctx, client.Options{Namenodes: []string{cluster.Address("grpc")}, Name: "wwbench", Logger: logger})
	if err != nil {
		return bench.Report{}, err
	}
	defer c.Close() // nothing is being written

	var report bench.Report
	for run := range o.runs {
		fmt.Fprintf(w, "run %d of %d\n", run+1, o.runs)
		report.Floors = nil
		err := floor.Run(ctx, floor.Options{Directory: o.directory, SizeBytes: o.sizeBytes, Hops: o.datanodes}, func(r floor.Result) error {
			report.Floors = append(report.Floors, r)
			return nil
		})
		if err != nil {
			return report, err
		}
		results, err := bench.Transfer(ctx, c, bench.TransferOptions{
			Path: fmt.Sprintf("/wwbench-%d", run), SizeBytes: o.sizeBytes, Replication: o.datanodes,
		})
		if err != nil {
			return report, err
		}
		report.Runs = append(report.Runs, bench.Compare(results, report.Floors))
	}
	return report, nil
}
