package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/daemon/config"
)

// workloadCommands are the verbs that load a cluster.
func workloadCommands() []*cobra.Command {
	return []*cobra.Command{writeCommand(), readCommand(), appendCommand(), recordsCommand(), smallCommand(),
		metaCommand(), mixedCommand()}
}

// newLoad makes a command around the common flags.
func newLoad(name, short, long, example string, workers int) (*cobra.Command, *loadFlags) {
	l := &loadFlags{floorSize: 512 << 20, plan: load.Plan{Workers: workers, Warmup: time.Second}}
	cmd := &cobra.Command{Use: name, Short: short, Long: long, Example: example, Args: noArguments}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return l.run(cmd, name) }
	l.register(cmd)
	return cmd, l
}

func writeCommand() *cobra.Command {
	cmd, l := newLoad("write", "Store large files",
		`Each operation stores one file of --size; it is synced on all replicas when it
returns. When --keep bytes are there, new files replace old ones.
Afterwards the files are read back and compared.`,
		`  wwbench write --mini --dir /data --bytes 4GiB
  wwbench write --config client.yaml --size 1GiB --workers 1 --duration 1m --json > write.json`, 1)
	l.plan.Warmup = 0
	bytesFlag(cmd, "size", "bytes of one file (default 64MiB)", &l.options.SizeBytes)
	bytesFlag(cmd, "keep", "bytes that are kept before files are replaced (default 8GiB)", &l.options.KeepBytes)
	return cmd
}

func readCommand() *cobra.Command {
	cmd, flags := newLoad("read", "Fetch large files, or random ranges of them",
		`Files are stored first. Warm (the default): all of them are fetched once before
the measurement. --cold: the pages of the datanodes' files are dropped before, and
each file is fetched once; it needs --mini, or --drop with the datanodes' local
directories. --range: each operation reads this many bytes at a random place.`,
		`  wwbench read --mini --dir /data
  wwbench read --mini --dir /data --cold --files 32
  wwbench read --config client.yaml --range 64KiB --workers 16 --duration 30s`, 1)
	flags.plan.Warmup = 0
	bytesFlag(cmd, "size", "bytes of one file (default 64MiB)", &flags.options.SizeBytes)
	bytesFlag(cmd, "range", "bytes of one random read; 0: whole files", &flags.options.RangeBytes)
	cmd.Flags().IntVar(&flags.options.Files, "files", 0, "files to store first (default 16)")
	cold := cmd.Flags().Bool("cold", false, "drop the page cache first")
	cmd.Flags().StringSliceVar(&flags.options.Cold, "drop", nil,
		"local data `directory` of a datanode whose pages --cold drops")
	cmd.PreRunE = func(c *cobra.Command, _ []string) error {
		if *cold && !flags.target.mini && len(flags.options.Cold) == 0 {
			return usage(c, "--cold needs --mini, or --drop with the datanodes' local directories")
		}
		if !*cold && len(flags.options.Cold) > 0 {
			return usage(c, "--drop means nothing without --cold")
		}
		if *cold && len(flags.options.Cold) == 0 {
			flags.options.Cold = []string{""} // the cluster's own directory, once it is known
		}
		return nil
	}
	return cmd
}

func appendCommand() *cobra.Command {
	cmd, flags := newLoad("append", "Append records, flushed or synced",
		`Each operation writes one record of --record bytes and waits until it is in the
page caches of all replicas (flush), or on their disks (--sync). Each worker has
a file of its own; with --files fewer, workers share files and their writers.
--ahead: a worker waits for a record only when this many later ones are under way;
the latency of an operation is then its cost to the worker, not the time until the
ack, and the records that are under way at the end count before their acks.`,
		`  wwbench append --mini --dir /data --record 100
  wwbench append --mini --dir /data --record 100 --ahead 16
  wwbench append --mini --dir /data --record 4KiB --sync --workers 8 --files 1`, 1)
	cmd.Flags().IntVar(&flags.options.Files, "files", 0,
		"files to append to, at most --workers (default one per worker)")
	cmd.Flags().IntVar(&flags.options.Ahead, "ahead", 0,
		"records of a worker that may be under way when it writes its next")
	bytesFlag(cmd, "record", "bytes of one record (default 100)", &flags.options.SizeBytes)
	cmd.Flags().BoolVar(&flags.options.Sync, "sync", false, "wait for the disks of all replicas")
	return cmd
}

func recordsCommand() *cobra.Command {
	cmd, l := newLoad("records", "Append records of many writers to one file",
		`Each worker is a writer of its own; all append to the same file. An operation
ends when the record is acknowledged. Afterwards every acknowledged record must be
in the file, complete, once, in the order of its writer.`,
		`  wwbench records --mini --dir /data --workers 16
  wwbench records --mini --dir /data --record 4KiB --sync --rate 2000`, 16)
	bytesFlag(cmd, "record", "bytes of one record (default 100)", &l.options.SizeBytes)
	cmd.Flags().BoolVar(&l.options.Sync, "sync", false, "wait for the disks of all replicas")
	return cmd
}

func smallCommand() *cobra.Command {
	cmd, l := newLoad("small", "Create, read and delete small files",
		`Three phases: create (create, write, close: durable on all replicas), read in
random order, delete. --size is one size, or a range from which each file draws its
size.`,
		`  wwbench small --mini --dir /data --size 4KiB
  wwbench small --mini --dir /data --size 0-64KiB --workers 16 --duration 20s`, 16)
	cmd.Flags().Var(&rangeFlag{&l.options.SizeBytes, &l.options.SizeBytesMost}, "size",
		"bytes of one file, or LEAST-MOST (default 4KiB)")
	return cmd
}

func metaCommand() *cobra.Command {
	cmd, flags := newLoad("meta", "Change and read the namespace",
		`One phase per operation: mkdir (one durable change), create (an empty file: two
durable changes), stat, list, rename, delete. --against says what is loaded: a
cluster (as for all workloads), a namenode of its own with a log server and no
datanode (with folders instead of files, which need datanodes), or the
namenode's state machine alone, without network and log (one worker; its files
have a chunk and three replicas).`,
		`  wwbench meta --against actor
  wwbench meta --against namenode --dir /data --workers 64
  wwbench meta --config client.yaml --ops mkdir,stat --duration 30s`, 64)
	cmd.Flags().StringSliceVar(&flags.options.Operations, "ops", nil, "operations to measure: "+
		strings.Join(workload.MetaOperations(), ",")+" (default: all)")
	cmd.Flags().IntVar(&flags.options.Files, "files", 0,
		"files to make for operations that need some and find none (default 2000)")
	cmd.Flags().StringVar(&flags.against, "against", "cluster", "cluster, namenode or actor")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		switch flags.against {
		case "cluster":
		case "namenode":
			flags.target.alone, flags.options.FoldersOnly = true, true
		case "actor":
			if cmd.Flags().Changed("workers") && flags.plan.Workers != 1 {
				return usage(cmd, "--workers %d: the state machine has one caller", flags.plan.Workers)
			}
			flags.plan.Workers = 1
		default:
			return usage(cmd, "--against %q: want cluster, namenode or actor", flags.against)
		}
		if flags.against != "cluster" &&
			(flags.target.mini || flags.target.config != "" || len(flags.target.namenodes) > 0) {
			return usage(cmd, "--against %s starts what it measures: leave --mini, --config and --namenode out",
				flags.against)
		}
		return nil
	}
	return cmd
}

func mixedCommand() *cobra.Command {
	cmd, flags := newLoad("mixed", "Read, create, stat, list and delete small files at random",
		`Operations are drawn by the shares of --mix. Files made during the run are read
during it; those that are left are read at the end.`,
		`  wwbench mixed --mini --dir /data --duration 30s
  wwbench mixed --config client.yaml --rate 500 --mix read=80,create=10,delete=10`, 16)
	cmd.Flags().Var(&rangeFlag{&flags.options.SizeBytes, &flags.options.SizeBytesMost}, "size",
		"bytes of one file, or LEAST-MOST (default 4KiB)")
	cmd.Flags().IntVar(&flags.options.Files, "files", 0, "files that are there before the mix begins (default 1000)")
	mix := cmd.Flags().String("mix", workload.DefaultMix().String(), "shares of the operations")
	cmd.PreRunE = func(c *cobra.Command, _ []string) (err error) {
		if flags.options.Mix, err = workload.ParseMix(*mix); err != nil {
			return usage(c, "--mix: %v", err)
		}
		return nil
	}
	return cmd
}

// bytesFlag is a size flag that sets a field.
func bytesFlag(cmd *cobra.Command, name, text string, field *int64) {
	cmd.Flags().Var(&rangeFlag{least: field}, name, text)
}

// rangeFlag is a size, or LEAST-MOST if most is set.
type rangeFlag struct{ least, most *int64 }

func (r *rangeFlag) Type() string { return "size" }
func (r *rangeFlag) String() string {
	switch {
	case r.least == nil || *r.least == 0 && (r.most == nil || *r.most == 0):
		return ""
	case r.most == nil || *r.most == 0:
		return config.Size(*r.least).String()
	}
	return config.Size(*r.least).String() + "-" + config.Size(*r.most).String()
}

// Set implements pflag.Value.
func (r *rangeFlag) Set(text string) error {
	least, most, isRange := strings.Cut(text, "-")
	bytes, err := config.ParseSize(least)
	if err != nil {
		return err
	}
	*r.least = int64(bytes)
	if !isRange {
		return nil
	}
	if r.most == nil {
		return fmt.Errorf("%q: want one size", text)
	}
	if bytes, err = config.ParseSize(most); err != nil {
		return err
	}
	if *r.most = int64(bytes); *r.most < *r.least || bytes == 0 {
		return fmt.Errorf("%q: want LEAST-MOST, such as 0-64KiB", text)
	}
	return nil
}
