package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// appended is a file with the one writer that its workers share.
type appended struct {
	sync.Mutex // so that the records are written in the order of their content
	writer     *client.FileWriter
	length     int64 // written; acknowledged at the latest when the writer is closed
	buffer     []byte
}

// append writes the next record.
func (f *appended) append(pattern *content, file int) error {
	f.Lock()
	defer f.Unlock()
	pattern.fill(f.buffer, uint64(file), f.length)
	n, err := f.writer.Write(f.buffer)
	f.length += int64(n)
	return err
}

// waiter is a client.Pending.
type waiter interface {
	Wait(ctx context.Context) error
}

// underWay are the records of one worker that were started and not waited for, oldest first.
type underWay []waiter

// add takes one more, and waits for the oldest when they are more than most.
func (u *underWay) add(ctx context.Context, started waiter, most int) error {
	*u = append(*u, started)
	if len(*u) <= most {
		return nil
	}
	oldest := (*u)[0]
	*u = slices.Delete(*u, 0, 1)
	return oldest.Wait(ctx)
}

// makeAppend appends records to Files files, by default one per worker. A worker has each record flushed or synced
// before its next, or before the one that is Ahead records later; workers that share a file share its writer.
func makeAppend(workload *Workload) error {
	settings := &workload.options
	settings.SizeBytes = cmp.Or(settings.SizeBytes, 100)
	kind, floors := "append-flush", []string{floor.PipelineEcho, floor.Echo}
	if settings.Sync {
		kind, floors = "append-sync", []string{floor.DiskSync, floor.PipelineEcho}
	}
	pattern := newContent(settings.Seed)
	if settings.Files < 0 || settings.Files > settings.Workers {
		return fault.New(fault.Invalid, "make workload", "%d files for %d workers: there may be one for each at most",
			settings.Files, settings.Workers)
	}
	files := make([]appended, cmp.Or(settings.Files, settings.Workers))
	pending := make([]underWay, settings.Workers)
	path := func(file int) string { return fmt.Sprintf("%s/%04d", settings.Directory, file) }
	settle := func() error {
		var errs []error
		for i := range files {
			if writer := files[i].writer; writer != nil {
				errs = append(errs, writer.Close())
				files[i].writer = nil
			}
		}
		return errors.Join(errs...)
	}
	workload.close = func(context.Context) error { return settle() }
	workload.Phases = []Phase{{
		Kinds: []string{kind}, Floors: floors,
		prepare: func(ctx context.Context) error {
			for i := range files {
				options := workload.create()
				options.VisibleOnComplete = false
				writer, err := workload.client(i).Create(ctx, path(i), options)
				if err != nil {
					return err
				}
				files[i].writer, files[i].length, files[i].buffer = writer, 0, make([]byte, settings.SizeBytes)
			}
			for i := range pending {
				pending[i] = pending[i][:0] // Close did what was left
			}
			return nil
		},
		op: func(ctx context.Context, worker int, _ int64) (load.Done, error) {
			file := worker % len(files)
			f := &files[file]
			if err := f.append(pattern, file); err != nil {
				return load.Done{}, err
			}
			begin := f.writer.BeginFlush
			if settings.Sync {
				begin = f.writer.BeginSync
			}
			started, err := begin(ctx)
			if err != nil {
				return load.Done{}, err
			}
			return load.Done{Bytes: settings.SizeBytes}, pending[worker].add(ctx, started, settings.Ahead)
		},
		verify: func(ctx context.Context) (int64, error) {
			if err := settle(); err != nil {
				return 0, err
			}
			total := int64(0)
			for i := range files {
				if err := workload.checkFile(ctx, pattern, i, path(i), uint64(i), files[i].length); err != nil {
					return total, err
				}
				total += files[i].length
			}
			return total, nil
		},
	}}
	return nil
}

// checkFile compares the whole content of a file, which has at least the given number of bytes.
func (w *Workload) checkFile(ctx context.Context, pattern *content, worker int, path string, file uint64,
	least int64) error {
	info, err := w.client(worker).Fetch(ctx, path, checker{content: pattern, file: file}, client.FetchOptions{})
	if err != nil {
		return err
	}
	if info.Length < least {
		return fmt.Errorf("%w: %s has %d bytes, %d were acknowledged", load.ErrWrongBytes, path, info.Length, least)
	}
	return nil
}

// makeRecords appends records of many writers to one file.
func makeRecords(workload *Workload) error {
	options := &workload.options
	options.SizeBytes = cmp.Or(options.SizeBytes, 100)
	kind, floors := "record-flush", []string{floor.PipelineEcho, floor.Echo}
	if options.Sync {
		kind, floors = "record-sync", []string{floor.DiskSync, floor.SmallJournal}
	}
	pattern := newContent(options.Seed)
	path := options.Directory + "/records"
	writers := make([]recordWriter, options.Workers)
	settle := func() error {
		var errs []error
		for i := range writers {
			if a := writers[i].appender; a != nil {
				errs = append(errs, a.Close())
				writers[i].appender = nil
			}
		}
		return errors.Join(errs...)
	}
	workload.close = func(context.Context) error { return settle() }
	workload.Phases = []Phase{{
		Kinds: []string{kind}, Floors: floors,
		prepare: func(ctx context.Context) error {
			for i := range writers {
				a, err := workload.client(i).OpenRecords(ctx, path,
					client.RecordOptions{Create: true, New: workload.create(), Sync: options.Sync})
				if err != nil {
					return err
				}
				writers[i] = recordWriter{appender: a, id: a.WriterID(), buffer: make([]byte, options.SizeBytes)}
			}
			return nil
		},
		op: func(ctx context.Context, worker int, _ int64) (load.Done, error) {
			r := &writers[worker]
			pattern.fill(r.buffer, uint64(worker), r.acknowledged*options.SizeBytes)
			if _, err := r.appender.Append(ctx, r.buffer); err != nil {
				return load.Done{}, err
			}
			r.acknowledged++
			return load.Done{Bytes: options.SizeBytes}, nil
		},
		verify: func(ctx context.Context) (int64, error) {
			if err := settle(); err != nil {
				return 0, err
			}
			return workload.checkRecords(ctx, pattern, path, writers)
		},
	}}
	return nil
}

// recordWriter is one worker's appender. Only that worker touches it.
type recordWriter struct {
	appender     *client.RecordAppender
	id           [16]byte
	acknowledged int64
	buffer       []byte
}

// checkRecords reads the file's records: those of each writer have to be there, in order, with their bytes.
func (w *Workload) checkRecords(ctx context.Context, pattern *content, path string,
	writers []recordWriter) (int64, error) {
	byID := map[[16]byte]int{}
	for i := range writers {
		byID[writers[i].id] = i
	}
	seen := make([]int64, len(writers))
	r, err := w.client(0).ReadRecords(ctx, path, 0, client.RecordReadOptions{})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	total := int64(0)
	for {
		record, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return total, err
		}
		i, known := byID[record.Writer]
		if !known {
			return total, fmt.Errorf("%w: a record at %d of an unknown writer", load.ErrWrongBytes, record.Offset)
		}
		if err := pattern.check(record.Payload, uint64(i), seen[i]*w.options.SizeBytes); err != nil {
			return total, err
		}
		seen[i]++
		total += int64(len(record.Payload))
	}
	for i := range writers {
		if seen[i] < writers[i].acknowledged {
			return total, fmt.Errorf("%w: writer %d: %d records acknowledged, %d are there", load.ErrWrongBytes, i,
				writers[i].acknowledged, seen[i])
		}
	}
	return total, nil
}
