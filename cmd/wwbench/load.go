package main

import (
	"cmp"
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
)

// durationDefault is the length of a phase when no end is asked for.
const durationDefault = 10 * time.Second

// loadFlags are those that every workload takes.
type loadFlags struct {
	target    targetFlags
	plan      load.Plan
	options   workload.Options
	remote    string
	rounds    int
	floors    bool
	floorSize int64
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
	bytesFlag(cmd, "bytes", "end each phase after this many bytes of payload", &l.plan.Bytes)
	flags.IntVar(&l.rounds, "rounds", 1, "how often floors and workload are measured in turn; compare wants 4 or more")
	flags.Uint64Var(&l.options.Seed, "seed", 1, "seed of contents and of random choices")
	flags.BoolVar(&l.options.Verify, "verify", true, "compare every byte")
	flags.IntVar(&l.options.Replication, "replication", 0, "copies of each file; 0: the cluster's default")
	bytesFlag(cmd, "chunk-size", "chunk size of files; 0: the cluster's default", &l.options.ChunkSize)
	flags.StringVar(&l.remote, "remote", "/wwbench", "remote `directory` to work below")
	flags.BoolVar(&l.floors, "floors", true, "measure the floors of the machine too, in each round")
	bytesFlag(cmd, "floor-size", "bytes per bulk floor", &l.floorSize)
	settleFlag(cmd, &l.settle)
	flags.BoolVar(&l.asJSON, "json", false, "print one JSON document")
	flags.BoolVar(&l.allow, "allow-failures", false, "exit 0 also when operations failed (never when bytes are wrong)")
}

// restless returns a callback that warns: the disk did not become quiet.
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

// run measures a workload and prints it.
func (l *loadFlags) run(cmd *cobra.Command, name string) error {
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
		err = report.WriteJSON(cmd.OutOrStdout(), document)
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
	if err := l.measureFloors(ctx, cmd, wanted, round); err != nil {
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
	if err := l.measureFloors(ctx, cmd, []string{floor.MapInsert}, round); err != nil {
		return err
	}
	work, err := statemachine.NewLoad(cmp.Or(l.options.Files, 100_000))
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

func (l *loadFlags) measureFloors(ctx context.Context, cmd *cobra.Command, names []string, r *report.Round) error {
	if !l.floors {
		return nil
	}
	o := floor.Options{Directory: l.target.directory, SizeBytes: l.floorSize, Hops: l.target.datanodes,
		Settle: l.settle, OnRestless: restless(cmd), Only: names}
	return floor.Run(ctx, o, func(f floor.Result) error {
		r.Floors = append(r.Floors, report.FloorOf(f))
		return nil
	})
}

// settings are those that the document records.
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
