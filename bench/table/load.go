package table

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/internal/fault"
)

// floors takes some floors.
func (r *runner) floors(ctx context.Context, names ...string) (map[string]floor.Result, error) {
	return r.floorsOf(ctx, floor.Options{SizeBytes: r.scale.floorBytes, Only: names})
}

func (r *runner) floorsOf(ctx context.Context, o floor.Options) (map[string]floor.Result, error) {
	out := map[string]floor.Result{}
	o.Directory, o.CountDuration, o.Settle = r.directory, r.phase(), r.scale.settle
	o.OnRestless = func(waited time.Duration) {
		r.say("the disk is not quiet after %s: what is measured next may be too low", waited)
		r.scale.settle = min(r.scale.settle, floor.SettleAgain)
	}
	err := floor.Run(ctx, o, func(f floor.Result) error {
		out[f.Name] = f
		return nil
	})
	return out, err
}

// phase is the length of one measurement.
func (r *runner) phase() time.Duration { return time.Duration(r.scale.seconds * float64(time.Second)) }

// rounds does something so often.
func (r *runner) rounds(name string, one func(number int) error) error {
	for i := range r.options.Rounds {
		r.say("%s, round %d of %d", name, i+1, r.options.Rounds)
		if err := one(i); err != nil {
			return err
		}
	}
	return nil
}

// run measures a workload on the cluster that the parts share.
func (r *runner) run(
	ctx context.Context, name string, o workload.Options, only ...string,
) (map[string]report.Result, error) {
	system, err := r.processes(ctx)
	if err != nil {
		return nil, err
	}
	return r.runOn(ctx, system, name, o, only...)
}

// runOn measures one phase after the other of a workload and returns the results by name.
func (r *runner) runOn(ctx context.Context, system *processes, name string, options workload.Options,
	only ...string) (_ map[string]report.Result, err error) {
	options.Clients, options.Directory, options.Seed, options.Verify = system.clients,
		fmt.Sprintf("/%s-%d", name, time.Now().UnixNano()), 1, true
	w, err := workload.New(ctx, name, options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close(context.WithoutCancel(ctx))) }()
	out := map[string]report.Result{}
	for _, phase := range w.Phases {
		result, err := w.Run(ctx, phase, load.Plan{Workers: options.Workers, Warmup: r.phase() / 6,
			Duration: r.phase()})
		if err != nil {
			return nil, err
		}
		if f := result.Outcome.Failures; f.Count > 0 {
			return nil, fault.New(fault.Internal, name, "%d operations failed, the first: %s", f.Count, f.First)
		}
		results, err := report.Results(name, result, nil)
		if err != nil {
			return nil, err
		}
		for _, one := range results {
			out[one.Name] = one
		}
	}
	for _, name := range only {
		if out[name].Operations == 0 {
			return nil, fault.New(fault.Internal, name, "no operation succeeded")
		}
	}
	return out, nil
}

// small makes and reads files of 4 KiB.
func small(ctx context.Context, run *runner) error {
	return run.rounds("small files", func(int) error {
		floors, err := run.floors(ctx, floor.SmallSynced, floor.SmallJournal, floor.Echo)
		if err != nil {
			return err
		}
		got, err := run.run(ctx, "small", workload.Options{Workers: 16}, "small/create", "small/read", "small/delete")
		if err != nil {
			return err
		}
		create, read, remove := got["small/create"].OpsRate, got["small/read"].OpsRate, got["small/delete"].OpsRate
		synced, journal, echo := floors[floor.SmallSynced].Rate(), floors[floor.SmallJournal].Rate(),
			floors[floor.Echo].Rate()
		ratio := create / synced
		run.ratio("4 KiB files, 3 replicas, durable, 16 writers", 0, create, synced,
			"%.0f /s against %.0f /s of create + fdatasync + rename + directory sync (p99 %.1f ms)", create, synced,
			float64(got["small/create"].Latency.P99Ns)/1e6)
		run.add(Row{Name: "4 KiB files, to a journal's rate", Unit: "ratio"}, create/journal,
			"%.0f /s in a group-committed journal", journal)
		run.add(Row{Name: "4 KiB files, times SeaweedFS's ratio", Unit: "factor", Goal: 2}, ratio/seaweedSmall,
			"SeaweedFS, without sync, made %.0f %% of the synced files' rate of its day", 100*seaweedSmall)
		run.add(Row{Name: "4 KiB files, times MooseFS's ratio", Unit: "factor", Goal: 5}, ratio/mooseSmall,
			"MooseFS made %.0f %%", 100*mooseSmall)
		run.ratio("4 KiB reads, verified, 16 readers", 0, read, echo, "%.0f /s against %.0f /s of empty gRPC calls",
			read, echo)
		run.ratio("small files deleted, 16 callers", 0, remove, echo, "%.0f /s", remove)
		return nil
	})
}

// appends flushes and syncs records of one writer: with a lone caller, which
// waits for each record before its next, with one that has several under way, and
// with several callers. What the disk bounds comes first, right after its floors.
func appends(ctx context.Context, run *runner) error {
	return run.rounds("appends", func(int) error {
		f, err := run.floors(ctx, floor.DiskSync, floor.DiskSyncHops, floor.PipelineEcho, floor.ThreadsEcho)
		if err != nil {
			return err
		}
		fdatasync, inStep, echo := f[floor.DiskSync].Rate(), f[floor.DiskSyncHops].Rate(), f[floor.PipelineEcho].Rate()
		threads := f[floor.ThreadsEcho].Rate()
		measure := func(name string, options workload.Options, kind string) (rate, p99 float64) {
			if err != nil {
				return 0, 0
			}
			var got map[string]report.Result
			got, err = run.run(ctx, name, options, name+"/"+kind)
			return got[name+"/"+kind].OpsRate, float64(got[name+"/"+kind].Latency.P99Ns) / 1e6
		}
		many := workload.Options{Workers: appendCallers, Files: 1}
		ahead := workload.Options{Workers: 1, Ahead: appendAhead}
		sized := func(options workload.Options, bytes int64, sync bool) workload.Options {
			options.SizeBytes, options.Sync = bytes, sync
			return options
		}
		lone := workload.Options{Workers: 1}
		synced, _ := measure("append", sized(lone, 4096, true), "append-sync")
		syncedMany, _ := measure("append", sized(many, 4096, true), "append-sync")
		syncedAhead, _ := measure("append", sized(ahead, 4096, true), "append-sync")
		flushed, flushedP99 := measure("append", sized(lone, 100, false), "append-flush")
		flushedAhead, _ := measure("append", sized(ahead, 100, false), "append-flush")
		flushedMany, manyP99 := measure("append", sized(many, 100, false), "append-flush")
		records, _ := measure("records", workload.Options{Workers: 16, SizeBytes: 100}, "record-flush")
		if err != nil {
			return err
		}
		run.ratio("4 KiB records, synced, one writer", 0.4, synced, fdatasync,
			"%.0f /s on three replicas of one disk, against %.0f /s of one fdatasync loop", synced, fdatasync)
		run.ratio("4 KiB records, synced, to three files synced at once", 0, synced, inStep,
			"%.0f /s in three files of that disk, without network and protocol", inStep)
		run.ratio(fmt.Sprintf("4 KiB records, synced, one writer of %d callers", appendCallers), 0.4, syncedMany,
			fdatasync, "%.0f /s", syncedMany)
		run.ratio(fmt.Sprintf("4 KiB records, synced, one caller, %d under way", appendAhead), 0.4, syncedAhead,
			fdatasync, "%.0f /s", syncedAhead)
		run.add(Row{Name: "100-byte records, flushed, a lone caller", Unit: "/s", Goal: 5000}, flushed,
			"p99 %.2f ms; each waits for the one before", flushedP99)
		run.ratio("100-byte records, flushed, to a bare echo", 0, flushed, echo,
			"%.0f /s of 100 bytes through three hops, without files and protocol", echo)
		run.add(Row{Name: "100-byte records, flushed, to an echo by sleeping threads", Unit: "ratio",
			Floors: []float64{threads}}, flushed/threads, "%.0f /s, a thread for each hop", threads)
		run.add(Row{Name: fmt.Sprintf("100-byte records, flushed, one caller, %d under way", appendAhead),
			Unit: "/s", Goal: 5000}, flushedAhead, "a packet and an answer for each")
		run.add(Row{Name: fmt.Sprintf("100-byte records, flushed, one writer of %d callers", appendCallers),
			Unit: "/s", Goal: 5000}, flushedMany, "p99 %.2f ms", manyP99)
		run.ratio("100-byte records of 16 writers, to a bare echo", 0, records, echo,
			"%.0f /s into one file, each flushed", records)
		return nil
	})
}

const (
	appendCallers = 8  // goroutines that share a writer, in the rows that say so
	appendAhead   = 16 // records that a caller has under way, likewise
)

// meta changes and reads the namespace through a namenode process.
func meta(ctx context.Context, run *runner) error {
	return run.rounds("metadata", func(int) error {
		floors, err := run.floors(ctx, floor.Echo)
		if err != nil {
			return err
		}
		got, err := run.run(ctx, "meta", workload.Options{Workers: 64, Operations: []string{"mkdir", "create", "stat"}},
			"meta/mkdir", "meta/create", "meta/stat")
		if err != nil {
			return err
		}
		echo := floors[floor.Echo].Rate()
		mkdir, create, stat := got["meta/mkdir"].OpsRate, got["meta/create"].OpsRate, got["meta/stat"].OpsRate
		run.add(Row{Name: "durable creates (mkdir), 64 callers", Unit: "/s", Goal: 20_000}, mkdir,
			"p99 %.1f ms", float64(got["meta/mkdir"].Latency.P99Ns)/1e6)
		run.ratio("durable creates, to gRPC calls", 0, mkdir, echo, "%.0f empty gRPC calls /s", echo)
		run.add(Row{Name: "stats, 64 callers", Unit: "/s", Goal: 30_000}, stat, "p99 %.1f ms",
			float64(got["meta/stat"].Latency.P99Ns)/1e6)
		run.ratio("stats, to gRPC calls", 0, stat, echo, "one call each")
		run.ratio("empty files, to gRPC calls", 0, create, echo,
			"%.0f /s, create and complete: two durable changes each", create)
		return nil
	})
}
