package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// What the peers reached on the machine that the targets were set on, as ratios
// to the floors that were measured there: absolute numbers of another day say
// nothing. 1 GiB stored: MooseFS 3.0.117 5.2 s (synced), SeaweedFS 4.44 6.6 s (not
// synced), raw pipeline with sync 1.8 s. 4 KiB files, 16 writers: MooseFS 727 /s,
// SeaweedFS 1,875 /s (not synced), create + fdatasync + rename + directory sync in
// three directories 1,200 /s. Each is the peer's best run.
const (
	mooseStore   = 1.8 / 5.2
	seaweedStore = 1.8 / 6.6
	mooseSmall   = 727.0 / 1200
	seaweedSmall = 1875.0 / 1200
)

// floors takes some floors.
func (r *runner) floors(ctx context.Context, names ...string) (map[string]floor.Result, error) {
	return r.floorsOf(ctx, floor.Options{SizeBytes: r.scale.floorBytes, Only: names})
}

func (r *runner) floorsOf(ctx context.Context, o floor.Options) (map[string]floor.Result, error) {
	out := map[string]floor.Result{}
	o.Directory, o.CountDuration, o.Settle = r.directory, r.phase(), r.scale.settle
	o.Restless = func(waited time.Duration) {
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

// data stores and fetches one large file.
func data(ctx context.Context, run *runner) error {
	system, err := run.processes(ctx)
	if err != nil {
		return err
	}
	woods := system.clients[0]
	err = run.rounds("store and fetch", func(number int) error {
		floors, err := run.floors(ctx, floor.Pipeline, floor.Sendfile, floor.Copying)
		if err != nil {
			return err
		}
		path := fmt.Sprintf("/data-%d", number)
		source := workload.Source(uint64(number), 0)
		before := time.Now()
		if _, err := woods.Store(ctx, path, source, run.scale.fileBytes, client.StoreOptions{}); err != nil {
			return err
		}
		store := floor.Result{Bytes: run.scale.fileBytes, Duration: time.Since(before)}

		var got dropper
		if _, err := woods.Fetch(ctx, path, &got, client.FetchOptions{}); err != nil { // warms what the store evicted
			return err
		}
		used, err := system.datanodesCPU()
		if err != nil {
			return err
		}
		before = time.Now()
		if _, err := woods.Fetch(ctx, path, &got, client.FetchOptions{}); err != nil {
			return err
		}
		fetch := floor.Result{Bytes: run.scale.fileBytes, Duration: time.Since(before)}
		after, err := system.datanodesCPU()
		if err != nil {
			return err
		}
		fetch.ServerCPU = after - used
		if got.bytes.Load() != 2*run.scale.fileBytes {
			return fault.New(fault.CorruptData, "fetch", "%d bytes came, not %d", got.bytes.Load(), 2*run.scale.fileBytes)
		}
		if _, err := woods.Fetch(ctx, path, workload.Checker(uint64(number), 0), client.FetchOptions{}); err != nil { // not measured
			return err
		}
		run.addData(store, fetch, floors)
		return nil
	})
	for number := range run.options.Rounds {
		_, removeErr := woods.Remove(ctx, fmt.Sprintf("/data-%d", number), client.RemoveOptions{})
		if err == nil {
			err = removeErr
		}
	}
	return err
}

func (r *runner) addData(store, fetch floor.Result, f map[string]floor.Result) {
	size := fmt.Sprintf("%d MiB", r.scale.fileBytes>>20)
	pipeline, sendfile, copying := f[floor.Pipeline], f[floor.Sendfile], f[floor.Copying]
	ratio := store.Rate() / pipeline.Rate()
	r.add(Row{Part: "data", Name: "store " + size + ", 3 replicas, synced", Unit: "ratio", Goal: 0.85, Guarded: true, Floors: []float64{pipeline.Rate()}}, ratio,
		"%s against the raw pipeline's %s", mbs(store), mbs(pipeline))
	r.add(Row{Part: "data", Name: "fetch " + size + ", warm, verified", Unit: "ratio", Goal: 0.9, Guarded: true, Floors: []float64{sendfile.Rate()}}, fetch.Rate()/sendfile.Rate(),
		"%s against one verified sendfile connection's %s", mbs(fetch), mbs(sendfile))
	r.add(Row{Part: "data", Name: "datanodes' CPU per GB fetched", Unit: "ratio", Goal: 0.8, Less: true, Guarded: true, Floors: []float64{1 / copying.CPUPerGB()}}, fetch.CPUPerGB()/copying.CPUPerGB(),
		"%.2f s against a copying server's %.2f s (sendfile: %.2f s)", fetch.CPUPerGB(), copying.CPUPerGB(), sendfile.CPUPerGB())
	r.add(Row{Part: "data", Name: "store, times MooseFS's ratio to its floor", Unit: "factor", Goal: 3}, ratio/mooseStore,
		"MooseFS stored at %.0f %% of the raw pipeline of its day", 100*mooseStore)
	r.add(Row{Part: "data", Name: "store, times SeaweedFS's ratio to its floor", Unit: "factor", Goal: 3}, ratio/seaweedStore,
		"SeaweedFS, without sync, at %.0f %%", 100*seaweedStore)
}

func mbs(f floor.Result) string { return fmt.Sprintf("%.0f MB/s", f.Rate()/1e6) }

// dropper counts what it is given.
type dropper struct{ bytes atomic.Int64 }

// WriteAt implements io.WriterAt.
func (d *dropper) WriteAt(p []byte, _ int64) (int, error) {
	d.bytes.Add(int64(len(p)))
	return len(p), nil
}

var _ io.WriterAt = (*dropper)(nil)

// run measures a workload on the cluster that the parts share.
func (r *runner) run(ctx context.Context, name string, o workload.Options, only ...string) (map[string]report.Result, error) {
	system, err := r.processes(ctx)
	if err != nil {
		return nil, err
	}
	return r.runOn(ctx, system, name, o, only...)
}

// runOn measures one phase after the other of a workload and returns the results
// by name.
func (r *runner) runOn(ctx context.Context, system *processes, name string, options workload.Options, only ...string) (_ map[string]report.Result, err error) {
	options.Clients, options.Directory, options.Seed, options.Verify = system.clients, fmt.Sprintf("/%s-%d", name, time.Now().UnixNano()), 1, true
	w, err := workload.New(ctx, name, options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close(context.WithoutCancel(ctx))) }()
	out := map[string]report.Result{}
	for _, phase := range w.Phases {
		result, err := w.Run(ctx, phase, load.Plan{Workers: options.Workers, Warmup: r.phase() / 6, Duration: r.phase()})
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
		synced, journal, echo := floors[floor.SmallSynced].Rate(), floors[floor.SmallJournal].Rate(), floors[floor.Echo].Rate()
		ratio := create / synced
		run.add(Row{Part: "small", Name: "4 KiB files, 3 replicas, durable, 16 writers", Unit: "ratio", Guarded: true, Floors: []float64{synced}}, ratio,
			"%.0f /s against %.0f /s of create + fdatasync + rename + directory sync (p99 %.1f ms)", create, synced, float64(got["small/create"].Latency.P99Ns)/1e6)
		run.add(Row{Part: "small", Name: "4 KiB files, to a journal's rate", Unit: "ratio"}, create/journal, "%.0f /s in a group-committed journal", journal)
		run.add(Row{Part: "small", Name: "4 KiB files, times SeaweedFS's ratio", Unit: "factor", Goal: 2}, ratio/seaweedSmall,
			"SeaweedFS, without sync, made %.0f %% of the synced files' rate of its day", 100*seaweedSmall)
		run.add(Row{Part: "small", Name: "4 KiB files, times MooseFS's ratio", Unit: "factor", Goal: 5}, ratio/mooseSmall, "MooseFS made %.0f %%", 100*mooseSmall)
		run.add(Row{Part: "small", Name: "4 KiB reads, verified, 16 readers", Unit: "ratio", Guarded: true, Floors: []float64{echo}}, read/echo, "%.0f /s against %.0f /s of empty gRPC calls", read, echo)
		run.add(Row{Part: "small", Name: "small files deleted, 16 callers", Unit: "ratio", Guarded: true, Floors: []float64{echo}}, remove/echo, "%.0f /s", remove)
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
		result := func(name string, o workload.Options, kind string) (report.Result, error) {
			got, err := run.run(ctx, name, o, name+"/"+kind)
			return got[name+"/"+kind], err
		}
		synced, err := result("append", workload.Options{Workers: 1, SizeBytes: 4096, Sync: true}, "append-sync")
		if err != nil {
			return err
		}
		run.add(Row{Part: "append", Name: "4 KiB records, synced, one writer", Unit: "ratio", Goal: 0.4, Guarded: true, Floors: []float64{fdatasync}}, synced.OpsRate/fdatasync,
			"%.0f /s on three replicas of one disk, against %.0f /s of one fdatasync loop", synced.OpsRate, fdatasync)
		run.add(Row{Part: "append", Name: "4 KiB records, synced, to three files synced at once", Unit: "ratio", Guarded: true, Floors: []float64{inStep}}, synced.OpsRate/inStep,
			"%.0f /s in three files of that disk, without network and protocol", inStep)
		if synced, err = result("append", workload.Options{Workers: appendCallers, Files: 1, SizeBytes: 4096, Sync: true}, "append-sync"); err != nil {
			return err
		}
		run.add(Row{Part: "append", Name: fmt.Sprintf("4 KiB records, synced, one writer of %d callers", appendCallers), Unit: "ratio", Goal: 0.4, Guarded: true, Floors: []float64{fdatasync}}, synced.OpsRate/fdatasync,
			"%.0f /s", synced.OpsRate)
		if synced, err = result("append", workload.Options{Workers: 1, Ahead: appendAhead, SizeBytes: 4096, Sync: true}, "append-sync"); err != nil {
			return err
		}
		run.add(Row{Part: "append", Name: fmt.Sprintf("4 KiB records, synced, one caller, %d under way", appendAhead), Unit: "ratio", Goal: 0.4, Guarded: true, Floors: []float64{fdatasync}}, synced.OpsRate/fdatasync,
			"%.0f /s", synced.OpsRate)
		flushed, err := result("append", workload.Options{Workers: 1, SizeBytes: 100}, "append-flush")
		if err != nil {
			return err
		}
		run.add(Row{Part: "append", Name: "100-byte records, flushed, a lone caller", Unit: "/s", Goal: 5000}, flushed.OpsRate, "p99 %.2f ms; each waits for the one before", float64(flushed.Latency.P99Ns)/1e6)
		run.add(Row{Part: "append", Name: "100-byte records, flushed, to a bare echo", Unit: "ratio", Guarded: true, Floors: []float64{echo}}, flushed.OpsRate/echo, "%.0f /s of 100 bytes through three hops, without files and protocol", echo)
		run.add(Row{Part: "append", Name: "100-byte records, flushed, to an echo by sleeping threads", Unit: "ratio", Floors: []float64{threads}}, flushed.OpsRate/threads, "%.0f /s, a thread for each hop", threads)
		if flushed, err = result("append", workload.Options{Workers: 1, Ahead: appendAhead, SizeBytes: 100}, "append-flush"); err != nil {
			return err
		}
		run.add(Row{Part: "append", Name: fmt.Sprintf("100-byte records, flushed, one caller, %d under way", appendAhead), Unit: "/s", Goal: 5000}, flushed.OpsRate, "a packet and an answer for each")
		if flushed, err = result("append", workload.Options{Workers: appendCallers, Files: 1, SizeBytes: 100}, "append-flush"); err != nil {
			return err
		}
		run.add(Row{Part: "append", Name: fmt.Sprintf("100-byte records, flushed, one writer of %d callers", appendCallers), Unit: "/s", Goal: 5000}, flushed.OpsRate, "p99 %.2f ms", float64(flushed.Latency.P99Ns)/1e6)
		records, err := result("records", workload.Options{Workers: 16, SizeBytes: 100}, "record-flush")
		if err != nil {
			return err
		}
		run.add(Row{Part: "append", Name: "100-byte records of 16 writers, to a bare echo", Unit: "ratio", Guarded: true, Floors: []float64{echo}}, records.OpsRate/echo, "%.0f /s into one file, each flushed", records.OpsRate)
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
		f, err := run.floors(ctx, floor.Echo)
		if err != nil {
			return err
		}
		got, err := run.run(ctx, "meta", workload.Options{Workers: 64, Operations: []string{"mkdir", "create", "stat"}}, "meta/mkdir", "meta/create", "meta/stat")
		if err != nil {
			return err
		}
		echo := f[floor.Echo].Rate()
		mkdir, create, stat := got["meta/mkdir"].OpsRate, got["meta/create"].OpsRate, got["meta/stat"].OpsRate
		run.add(Row{Part: "meta", Name: "durable creates (mkdir), 64 callers", Unit: "/s", Goal: 20_000}, mkdir, "p99 %.1f ms", float64(got["meta/mkdir"].Latency.P99Ns)/1e6)
		run.add(Row{Part: "meta", Name: "durable creates, to gRPC calls", Unit: "ratio", Guarded: true, Floors: []float64{echo}}, mkdir/echo, "%.0f empty gRPC calls /s", echo)
		run.add(Row{Part: "meta", Name: "stats, 64 callers", Unit: "/s", Goal: 30_000}, stat, "p99 %.1f ms", float64(got["meta/stat"].Latency.P99Ns)/1e6)
		run.add(Row{Part: "meta", Name: "stats, to gRPC calls", Unit: "ratio", Guarded: true, Floors: []float64{echo}}, stat/echo, "one call each")
		run.add(Row{Part: "meta", Name: "empty files, to gRPC calls", Unit: "ratio", Guarded: true, Floors: []float64{echo}}, create/echo, "%.0f /s, create and complete: two durable changes each", create)
		return nil
	})
}
