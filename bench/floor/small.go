package floor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const smallBytes = 4096

// smallSynced makes files of 4 KiB durable in each of the directories, the plain
// way: create, write, fdatasync, rename, sync the directory.
func smallSynced(ctx context.Context, options Options) (Result, error) {
	directories, done, err := openDirectories(options, "small")
	if err != nil {
		return Result{}, err
	}
	defer done()
	result, err := many(ctx, options, func(_ context.Context, number int64) error {
		return eachHop(directories, func(directory *os.File) error {
			name := filepath.Join(directory.Name(), fmt.Sprintf("%09d", number))
			file, err := os.Create(name + ".new")
			if err != nil {
				return err
			}
			defer file.Close()
			if _, err := file.Write(pattern(smallBytes)); err != nil {
				return err
			}
			if err := unix.Fdatasync(int(file.Fd())); err != nil {
				return err
			}
			if err := os.Rename(name+".new", name); err != nil {
				return err
			}
			return directory.Sync()
		})
	})
	result.How = fmt.Sprintf("4 KiB: create, fdatasync, rename, sync the directory; "+
		"in %d directories at once, %d writers", options.Hops, options.Writers)
	return result, err
}

// smallJournal makes records of 4 KiB durable in one preallocated, recycled file
// per directory; what waits while a sync runs shares the next one.
func smallJournal(ctx context.Context, options Options) (Result, error) {
	directories, done, err := openDirectories(options, "journal")
	if err != nil {
		return Result{}, err
	}
	defer done()
	var journals []*journal
	for _, directory := range directories {
		j, err := newJournal(filepath.Join(directory.Name(), "journal"))
		if err != nil {
			return Result{}, err
		}
		defer j.close()
		journals = append(journals, j)
	}
	r, err := many(ctx, options, func(context.Context, int64) error {
		return eachHop(journals, (*journal).append)
	})
	r.How = fmt.Sprintf("4 KiB records in a recycled journal with group-committed fdatasync, "+
		"one in each of %d directories, %d writers", options.Hops, options.Writers)
	return r, err
}

func openDirectories(options Options, name string) (directories []*os.File, done func(), err error) {
	done = func() {
		for _, directory := range directories {
			directory.Close()
			_ = os.RemoveAll(directory.Name()) // what is left goes with the folder that Run removes
		}
	}
	for hop := range options.Hops {
		path := filepath.Join(options.Directory, fmt.Sprintf("%s%d", name, hop))
		if err := os.Mkdir(path, 0o755); err != nil {
			done()
			return nil, nil, err
		}
		directory, err := os.Open(path)
		if err != nil {
			done()
			return nil, nil, err
		}
		directories = append(directories, directory)
	}
	return directories, done, nil
}

// eachHop does something at all hops at once and waits.
func eachHop[T any](hops []T, do func(T) error) error {
	var g errgroup.Group
	for _, h := range hops[1:] {
		g.Go(func() error { return do(h) })
	}
	err := do(hops[0])
	return errors.Join(err, g.Wait())
}

// many counts operations, numbered from 0, of o.Writers goroutines in o.CountDuration.
func many(ctx context.Context, options Options, do func(ctx context.Context, number int64) error) (Result, error) {
	var number, count atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range options.Writers {
		group.Go(func() error {
			for time.Since(start) < options.CountDuration {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(ctx, number.Add(1)-1); err != nil {
					return err
				}
				count.Add(1)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	return Result{Count: count.Load(), Duration: time.Since(start)}, nil
}

// journal is a file that is written round and round. Its blocks are written
// once before, so that a sync finds no new extents.
type journal struct {
	file  *os.File
	syncs sync.WaitGroup // the running sync
	mu    struct {
		sync.Mutex
		next    int64 // slot of the next record
		syncing bool
		waiting *batch // records written and not yet covered by a sync that has begun
	}
}

// batch is what one fdatasync makes durable.
type batch struct {
	records int // guarded by the journal's mu
	done    chan struct{}
	err     error // set before done is closed
}

const journalSlots = 4096 // 16 MiB

func newJournal(path string) (*journal, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	kept := &journal{file: file}
	kept.mu.waiting = &batch{done: make(chan struct{})}
	block := pattern(1 << 20)
	for offset := int64(0); offset < journalSlots*smallBytes && err == nil; offset += int64(len(block)) {
		_, err = file.WriteAt(block, offset)
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return kept, nil
}

func (j *journal) close() {
	j.syncs.Wait()
	j.file.Close()
}

// append writes a record and returns when it is durable. The first that finds
// no sync running starts one, which goes on as long as records wait.
func (j *journal) append() error {
	record := pattern(smallBytes)
	j.mu.Lock()
	slot := j.mu.next % journalSlots
	j.mu.next++
	j.mu.Unlock()
	if _, err := j.file.WriteAt(record, slot*smallBytes); err != nil {
		return err
	}
	j.mu.Lock()
	b := j.mu.waiting
	b.records++
	if !j.mu.syncing {
		j.mu.syncing = true
		j.syncs.Go(j.sync)
	}
	j.mu.Unlock()
	<-b.done
	return b.err
}

func (j *journal) sync() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.mu.waiting.records > 0 {
		b := j.mu.waiting
		j.mu.waiting = &batch{done: make(chan struct{})}
		j.mu.Unlock()
		b.err = unix.Fdatasync(int(j.file.Fd()))
		close(b.done)
		j.mu.Lock()
	}
	j.mu.syncing = false
}
