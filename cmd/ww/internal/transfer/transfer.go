// Package transfer moves files and trees between the local file system and the
// cluster, and from one place in the cluster to another.
//
// A transfer goes on after a file that failed and reports every file through Options.Done. Nothing half done ever
// carries its final name: the cluster shows a stored file when it is complete, and a fetched one is renamed into
// place when all its bytes are there and verified.
//
// Each call runs one goroutine that walks the source and Options.Parallel workers; all have ended when it returns.
// The package keeps no state between calls and prints nothing.
package transfer

import (
	"context"
	"path"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client"
)

const (
	// ParallelDefault is how many files travel at once if the caller does not say.
	ParallelDefault = 16
	// ParallelMax bounds Options.Parallel.
	ParallelMax = 256
)

// Options says how a transfer treats what it finds. The functions may be nil.
type Options struct {
	Parallel  int  // files at the same time, 1..ParallelMax; 0: ParallelDefault
	Recursive bool // directories are taken with everything in them
	Overwrite bool // existing files are replaced (directories never)
	Parents   bool // missing parent directories of the target are made

	Replication int   // of files that are made in the cluster; 0: its default
	ChunkSize   int64 // of files that are made in the cluster, bytes; 0: its default

	// Planned is called with how many more bytes will move, by one goroutine.
	Planned func(bytes int64)
	// Progress is called with how many more bytes have moved, negative when some
	// have to move again, by several goroutines.
	Progress func(bytes int64)
	// Done is called at the end of every file and directory, never twice at once.
	Done func(Result)
}

// Result is what became of one file or directory.
type Result struct {
	Pair
	Directory bool
	Bytes     int64
	Elapsed   time.Duration
	Err       error // nil: done
	// SlowNodes held up the writing and were replaced.
	SlowNodes []client.SlowNode
}

// mover is one running transfer.
type mover struct {
	client *client.Client
	o      Options
	jobs   chan func(context.Context) Result
	mu     struct { // serialises Done
		sync.Mutex
	}
}

// run walks the sources on the calling goroutine while workers do the jobs
// that the walk submits. It returns the context's error, or nil.
func run(ctx context.Context, woods *client.Client, options Options, walk func(context.Context, *mover)) error {
	if options.Parallel <= 0 {
		options.Parallel = ParallelDefault
	}
	if options.Planned == nil {
		options.Planned = func(int64) {}
	}
	if options.Progress == nil {
		options.Progress = func(int64) {}
	}
	if options.Done == nil {
		options.Done = func(Result) {}
	}
	transfer := &mover{client: woods, o: options, jobs: make(chan func(context.Context) Result)}
	var workers sync.WaitGroup
	for range min(options.Parallel, ParallelMax) {
		workers.Go(func() {
			for job := range transfer.jobs {
				if ctx.Err() != nil {
					continue
				}
				start := time.Now()
				result := job(ctx)
				result.Elapsed = time.Since(start)
				transfer.finish(result)
			}
		})
	}
	walk(ctx, transfer)
	close(transfer.jobs)
	workers.Wait()
	return ctx.Err()
}

// submit passes a job to the workers; it waits until one is free.
func (m *mover) submit(ctx context.Context, bytes int64, job func(context.Context) Result) {
	m.o.Planned(bytes)
	select {
	case m.jobs <- job:
	case <-ctx.Done():
	}
}

// failed reports a file or directory that was not transferred.
func (m *mover) failed(pair Pair, err error) { m.finish(Result{Pair: pair, Err: err}) }

// each passes the entries of a directory of the cluster, and reports why they end early.
func (m *mover) each(ctx context.Context, pair Pair, join func(...string) string, do func(client.FileInfo, Pair)) {
	for entry, err := range m.client.List(ctx, pair.Source) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.finish(Result{Pair: pair, Directory: true, Err: err})
			return
		}
		do(entry, Pair{Source: path.Join(pair.Source, entry.Name), Target: join(pair.Target, entry.Name)})
	}
}

// finish reports a result.
func (m *mover) finish(r Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.o.Done(r)
}

// createOptions are those of every file that the transfer makes.
func (m *mover) createOptions() client.CreateOptions {
	return client.CreateOptions{
		Overwrite: m.o.Overwrite, Parents: m.o.Parents,
		Replication: m.o.Replication, ChunkSize: m.o.ChunkSize, VisibleOnComplete: true,
	}
}
