package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/bench/statemachine"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/daemon/config"
)

// durationDefault is the length of a phase when no end is asked for.
const durationDefault = 10 * time.Second

// loadFlags are those that every workload takes.
type loadFlags struct {
	target    targetFlags
	plan      load.Plan
	bytes     sizeFlag
	chunkSize sizeFlag
	options   workload.Options
	remote    string
	rounds    int
	floors    bool
	floorSize sizeFlag
	settle    time.Duration
	asJSON    bool
	allow     bool // failures do not make the run fail
	against   string
}

func (l *loadFlags) register(cmd *cobra.Command) {
	l.target.register(cmd)
	flags := cmd.Flags()
	flags.IntVar(&l.plan.Workers, "workers", l.plan.Workers, "operations under way at once, at most")
	flags.Float64Var(&l.plan.Rate, "rate", 0,
		"open loop: this `number` of operations per second; latency counts from the intended start. 0: closed loop")
	flags.DurationVar(&l.plan.Warmup, "warmup", l.plan.Warmup, "operations that begin in it are done and not counted")
	flags.DurationVar(&l.plan.Duration, "duration", 0,
		"length of each phase after the warm-up (default 10s, unless --count or --bytes ends it)")
	flags.Int64Var(&l.plan.Count, "count", 0, "end each phase after this `number` of operations")
	flags.Var(&l.bytes, "bytes", "end each phase after this many bytes of payload")
	flags.IntVar(&l.rounds, "rounds", 1, "how often floors and workload are measured in turn; compare wants 4 or more")
	flags.Uint64Var(&l.options.Seed, "seed", 1, "seed of contents and of random choices")
	flags.BoolVar(&l.options.Verify, "verify", true, "compare every byte")
	flags.IntVar(&l.options.Replication, "replication", 0, "copies of each file; 0: the cluster's default")
	flags.Var(&l.chunkSize, "chunk-size", "chunk size of files; 0: the cluster's default")
	flags.StringVar(&l.remote, "remote", "/wwbench", "remote `directory` to work below")
	flags.BoolVar(&l.floors, "floors", true, "measure the floors of the machine too, in each round")
	flags.Var(&l.floorSize, "floor-size", "bytes per bulk floor")
	settleFlag(cmd, &l.settle)
	flags.BoolVar(&l.asJSON, "json", false, "print one JSON document")
	flags.BoolVar(&l.allow, "allow-failures", false, "exit 0 also when operations failed (never when bytes are wrong)")
}

// restless tells people that the disk did not become quiet.
func restless(cmd *cobra.Command) func(time.Duration) {
	return func(waited time.Duration) {
		fmt.Fprintf(cmd.ErrOrStderr(), "the disk is not quiet after %s: what is measured next may be too low\n", waited)
	}
}

// settleFlag is how long a floor may wait for a quiet disk.
func settleFlag(cmd *cobra.Command, most *time.Duration) {
	cmd.Flags().DurationVar(most, "settle", 10*time.Second,
		"before each floor that uses the disk, and after the last, wait at most this long for the disk to be quiet")
}

// workloadCommands are the verbs that load a cluster.
func workloadCommands() []*cobra.Command {
	return []*cobra.Command{writeCommand(), readCommand(), appendCommand(), recordsCommand(), smallCommand(),
		metaCommand(), mixedCommand()}
}

// newLoad makes a command around the common flags.
func newLoad(name, short, long, example string, workers int) (*cobra.Command, *loadFlags) {
	l := &loadFlags{floorSize: sizeFlag{512 << 20}, plan: load.Plan{Workers: workers, Warmup: time.Second}}
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

// run measures a workload and prints it.
func (l *loadFlags) run(cmd *cobra.Command, name string) error {
	l.plan.Bytes = l.bytes.value
	l.options.ChunkSize = l.chunkSize.value
	if l.plan.Duration == 0 && l.plan.Count == 0 && l.plan.Bytes == 0 {
		l.plan.Duration = durationDefault
	}
	l.options.Workers = l.plan.Workers
	if err := l.plan.Validate(); err != nil {
		return usage(cmd, "%v", err)
	}
	if l.rounds < 1 || l.rounds > 100 {
		return usage(cmd, "--rounds %d: want 1 to 100", l.rounds)
	}
	document, err := l.measure(cmd, name)
	if err != nil {
		return err
	}
	if l.asJSON {
		err = document.WriteJSON(cmd.OutOrStdout())
	} else {
		err = document.WriteText(cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	switch all, wrong, first := document.Failures(); {
	case wrong > 0:
		return fmt.Errorf("%w: %d verifications failed, the first: %s", errWrong, wrong, first)
	case all > 0 && !l.allow:
		return fmt.Errorf("%d operations failed, the first: %s (--allow-failures accepts this)", all, first)
	}
	return nil
}

func (l *loadFlags) measure(cmd *cobra.Command, name string) (_ *report.Document, err error) {
	ctx := cmd.Context()
	document := &report.Document{
		Schema: report.Schema, Tool: "wwbench", Workload: name, Started: time.Now().UTC().Truncate(time.Second),
		Machine: report.ThisMachine(l.target.directory), Rounds: []report.Round{},
	}
	if l.against == "actor" {
		document.Settings = l.settings("actor")
		err = l.eachRound(cmd, document, func(ctx context.Context, _ int, r *report.Round) error {
			return l.actorRound(ctx, cmd, r)
		})
		return document, err
	}
	cluster, err := l.target.open(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.close(ctx)) }()
	if len(l.options.Cold) == 1 && l.options.Cold[0] == "" {
		l.options.Cold[0] = cluster.dataFiles
	}
	document.Settings = l.settings(cluster.name)
	l.options.Clients = cluster.clients
	err = l.eachRound(cmd, document, func(ctx context.Context, number int, r *report.Round) error {
		return l.clusterRound(ctx, cmd, name, number, r)
	})
	return document, err
}

func (l *loadFlags) eachRound(cmd *cobra.Command, document *report.Document,
	one func(context.Context, int, *report.Round) error) error {
	for i := range l.rounds {
		if l.rounds > 1 {
			fmt.Fprintf(cmd.ErrOrStderr(), "round %d of %d\n", i+1, l.rounds)
		}
		r := report.Round{Floors: []report.Floor{}, Results: []report.Result{}}
		if err := one(cmd.Context(), i, &r); err != nil {
			return err
		}
		document.Rounds = append(document.Rounds, r)
	}
	document.Summarize()
	return nil
}

// clusterRound takes the floors and runs all phases once.
func (l *loadFlags) clusterRound(ctx context.Context, cmd *cobra.Command, name string, number int,
	round *report.Round) (err error) {
	o := l.options
	o.Directory = fmt.Sprintf("%s/%s-%d-%d", strings.TrimSuffix(l.remote, "/"), name, os.Getpid(), number)
	o.Seed += uint64(number)
	load, err := workload.New(ctx, name, o)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, load.Close(closing))
	}()
	var wanted []string
	for _, p := range load.Phases {
		wanted = append(wanted, p.Floors...)
	}
	if err := l.takeFloors(ctx, cmd, wanted, round); err != nil {
		return err
	}
	for _, p := range load.Phases {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s %s\n", name, p.Name)
		result, err := load.Run(ctx, p, l.plan)
		if err != nil {
			return err
		}
		results, err := report.Results(name, result, round.Floors)
		if err != nil {
			return err
		}
		round.Results = append(round.Results, results...)
	}
	return nil
}

// actorRound is clusterRound for the state machine alone.
func (l *loadFlags) actorRound(ctx context.Context, cmd *cobra.Command, round *report.Round) error {
	if err := l.takeFloors(ctx, cmd, []string{floor.MapInsert}, round); err != nil {
		return err
	}
	files := l.options.Files
	if files == 0 {
		files = 100_000
	}
	work, err := statemachine.NewLoad(files)
	if err != nil {
		return err
	}
	names := l.options.Operations
	if len(names) == 0 {
		names = statemachine.Operations()
	}
	for _, name := range names {
		op, err := work.Operation(name)
		if err != nil {
			return err
		}
		phase := workload.Phase{Name: name, Kinds: []string{name}, Floors: []string{floor.MapInsert}}
		out, err := load.Run(ctx, l.plan, phase.Kinds, op)
		if err != nil {
			return err
		}
		results, err := report.Results("actor", workload.Result{Phase: phase, Outcome: out}, round.Floors)
		if err != nil {
			return err
		}
		round.Results = append(round.Results, results...)
	}
	return nil
}

func (l *loadFlags) takeFloors(ctx context.Context, cmd *cobra.Command, names []string, r *report.Round) error {
	if !l.floors {
		return nil
	}
	o := floor.Options{Directory: l.target.directory, SizeBytes: l.floorSize.value, Hops: l.target.datanodes,
		Settle: l.settle, OnRestless: restless(cmd), Only: names}
	return floor.Run(ctx, o, func(f floor.Result) error {
		r.Floors = append(r.Floors, report.FloorOf(f))
		return nil
	})
}

// settings as the document tells them.
func (l *loadFlags) settings(target string) report.Settings {
	settings := report.Settings{
		Workers: l.plan.Workers, Clients: l.target.clients, Rate: l.plan.Rate, WarmupNs: int64(l.plan.Warmup),
		DurationNs: int64(l.plan.Duration),
		Count:      l.plan.Count, Bytes: l.plan.Bytes, Seed: l.options.Seed, Verify: l.options.Verify, Target: target,
		SizeBytes: l.options.SizeBytes, SizeMost: l.options.SizeBytesMost, RangeBytes: l.options.RangeBytes,
		Replication: l.options.Replication,
		Sync:        l.options.Sync, Cold: len(l.options.Cold) > 0,
	}
	if l.options.Mix != (workload.Mix{}) {
		settings.Mix = l.options.Mix.String()
	}
	return settings
}
