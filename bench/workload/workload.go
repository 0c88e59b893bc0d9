// Package workload loads a cluster the ways its users do, through package client: large files, appends, records of
// many writers, small files, metadata, and a mix of them. It decides what the operations are; package load decides
// when they begin, and counts.
//
// Every byte that is written follows from a seed and differs from page to page, and by default every byte that is
// read is compared with it; what a write phase wrote is read back after the phase, outside of its time. A workload
// keeps all its files below one directory of its own and removes them.
package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options say what a workload does. Fields that it does not use are ignored.
type Options struct {
	Clients     []*client.Client // workers take turns; at least one
	Directory   string           // remote folder; it is made, and removed at the end
	Workers     int              // as in load.Plan
	Seed        uint64
	Replication int   // 0: the cluster's default
	ChunkSize   int64 // 0: the cluster's default
	Verify      bool  // compare every byte

	SizeBytes     int64    // write, read: of one file. append, records: of one record
	SizeBytesMost int64    // small: sizes are spread over SizeBytes..SizeBytesMost; 0: all SizeBytes
	Files         int      // read, small/read, meta: how many files to prepare. append: how many the workers share
	RangeBytes    int64    // read: bytes of one random read; 0: whole files
	Cold          []string // read: local directories whose pages are dropped before
	Sync          bool     // append, records: wait for the disks of all replicas
	Ahead         int      // append: records of a worker that may be under way when it writes its next; 0..aheadMax
	Operations    []string // meta: which, in this order; empty: all
	FoldersOnly   bool     // meta: folders instead of files, for a cluster without datanodes
	Mix           Mix      // mixed: shares
	KeepBytes     int64    // write: how much is kept before files are replaced
}

// Phase is one measured part of a workload.
type Phase struct {
	Name    string                          // "create"; "" if it is the only one
	Kinds   []string                        // what its operations are: the names of the results
	Floors  []string                        // the limits that the results are compared with; the first one counts
	prepare func(ctx context.Context) error // not measured
	op      load.Operation
	verify  func(ctx context.Context) (bytes int64, err error) // not measured; nil: done in op
	plan    func(load.Plan) load.Plan                          // nil: as asked for
}

// Workload is a list of phases. Run them in order, then Close.
type Workload struct {
	Name   string
	Phases []Phase

	options Options
	close   func(ctx context.Context) error
}

// Result is what one phase gave.
type Result struct {
	Phase    Phase
	Outcome  load.Outcome
	Verified int64 // bytes read back and compared after the phase
}

// noWarmup is the plan of a phase that uses up what is there: a warm-up might leave nothing to measure.
func noWarmup(p load.Plan) load.Plan {
	p.Warmup = 0
	return p
}

// maker makes one workload.
type maker struct {
	name string
	make func(*Workload) error
}

func makers() []maker {
	return []maker{
		{"write", makeWrite}, {"read", makeRead}, {"append", makeAppend}, {"records", makeRecords},
		{"small", makeSmall}, {"meta", makeMeta}, {"mixed", makeMixed},
	}
}

// Names lists the workloads.
func Names() []string {
	var names []string
	for _, m := range makers() {
		names = append(names, m.name)
	}
	return names
}

// New makes a workload. Errors: fault.Invalid, and those of making its folder.
func New(ctx context.Context, name string, options Options) (*Workload, error) {
	const op = "make workload"
	index := slices.IndexFunc(makers(), func(m maker) bool { return m.name == name })
	switch {
	case index < 0:
		return nil, fault.New(fault.Invalid, op, "there is no workload %q; there are %s", name,
			strings.Join(Names(), ", "))
	case len(options.Clients) == 0:
		return nil, fault.New(fault.Invalid, op, "no client")
	case options.Workers < 1 || options.Workers > load.WorkersMax:
		return nil, fault.New(fault.Invalid, op, "%d workers: want 1 to %d", options.Workers, load.WorkersMax)
	case options.SizeBytes < 0 || options.SizeBytesMost < 0 || options.SizeBytesMost > 0 &&
		options.SizeBytesMost < options.SizeBytes:
		return nil, fault.New(fault.Invalid, op, "sizes of %d to %d bytes", options.SizeBytes, options.SizeBytesMost)
	case options.Ahead < 0 || options.Ahead > aheadMax:
		return nil, fault.New(fault.Invalid, op, "%d records ahead: want up to %d", options.Ahead, aheadMax)
	case options.Files < 0 || options.Files > filesMax:
		return nil, fault.New(fault.Invalid, op, "%d files: want up to %d", options.Files, filesMax)
	}
	workload := &Workload{Name: name, options: options}
	if err := makers()[index].make(workload); err != nil {
		return nil, err
	}
	if err := options.Clients[0].Mkdir(ctx, options.Directory, client.MkdirOptions{Parents: true}); err != nil {
		return nil, fmt.Errorf("make the workload's folder: %w", err)
	}
	return workload, nil
}

const (
	filesMax = 10_000_000
	aheadMax = 10_000
	// parallelPrepare is how many files are prepared, verified or removed at once.
	parallelPrepare = 16
)

// Run prepares, measures and verifies one phase. A failed verification after the
// phase is a failure in its Outcome, like one during it.
func (w *Workload) Run(ctx context.Context, phase Phase, plan load.Plan) (Result, error) {
	if phase.prepare != nil {
		if err := phase.prepare(ctx); err != nil {
			return Result{}, fmt.Errorf("prepare %s %s: %w", w.Name, phase.Name, err)
		}
	}
	if phase.plan != nil {
		plan = phase.plan(plan)
	}
	out, err := load.Run(ctx, plan, phase.Kinds, phase.op)
	if err != nil {
		return Result{}, fmt.Errorf("%s %s: %w", w.Name, phase.Name, err)
	}
	result := Result{Phase: phase, Outcome: out}
	if w.options.Verify && phase.verify != nil {
		result.Verified, err = phase.verify(ctx)
		if errors.Is(err, load.ErrWrongBytes) {
			result.Outcome.Failures.Count++
			result.Outcome.Failures.WrongBytes++
			result.Outcome.Failures.ByKind["verification"]++
			result.Outcome.Failures.First = cmp.Or(result.Outcome.Failures.First, err.Error())
			err = nil
		}
		if err != nil {
			return result, fmt.Errorf("verify %s %s: %w", w.Name, phase.Name, err)
		}
	}
	return result, nil
}

// Close ends what the workload holds and removes its folder.
func (w *Workload) Close(ctx context.Context) error {
	var err error
	if w.close != nil {
		err = w.close(ctx)
	}
	_, removeErr := w.options.Clients[0].Remove(ctx, w.options.Directory, client.RemoveOptions{Recursive: true})
	if removeErr != nil && !errors.Is(removeErr, fault.NotFound) {
		err = errors.Join(err, fmt.Errorf("remove what the workload made: %w", removeErr))
	}
	return err
}

// client is the client of a worker.
func (w *Workload) client(worker int) *client.Client {
	return w.options.Clients[worker%len(w.options.Clients)]
}

// create is how the workload's files are made.
func (w *Workload) create() client.CreateOptions {
	return client.CreateOptions{Overwrite: true, Replication: w.options.Replication, ChunkSize: w.options.ChunkSize,
		VisibleOnComplete: true}
}

// each does something for 0..n-1, a few at once.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelPrepare)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// bulkFloors and the like are what phases are compared with.
func bulkFloors() []string  { return []string{floor.Pipeline, floor.PipelineNoIO, floor.DiskBuffered} }
func fetchFloors() []string { return []string{floor.Sendfile, floor.Loopback} }
