package workload

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	fileSizeDefault = 64 << 20
	keepDefault     = 8 << 30
)

// makeWrite stores whole files. Once KeepBytes are there, new files take the place of old ones, so that a long run
// does not fill the disks; what is there at the end is read back.
func makeWrite(workload *Workload) error {
	options := &workload.options
	options.SizeBytes = cmp.Or(options.SizeBytes, fileSizeDefault)
	options.KeepBytes = cmp.Or(options.KeepBytes, keepDefault)
	slots := min(max(options.KeepBytes/options.SizeBytes, 2*int64(options.Workers)), filesMax)
	stored := &kept{files: map[int64]uint64{}, busy: map[int64]bool{}}
	pattern := newContent(options.Seed)
	path := func(slot int64) string { return fmt.Sprintf("%s/%07d", options.Directory, slot) }
	workload.Phases = []Phase{{
		Kinds: []string{"store"}, Floors: bulkFloors(),
		op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
			slot := number % slots
			if !stored.claim(slot) { // the file before is still being written
				slot = slots + int64(worker)
				stored.claim(slot)
			}
			_, err := workload.client(worker).Store(ctx, path(slot), source{pattern, uint64(number)}, options.SizeBytes,
				client.StoreOptions{CreateOptions: workload.create()})
			stored.put(slot, uint64(number), err == nil)
			return load.Done{Bytes: options.SizeBytes}, err
		},
		verify: func(ctx context.Context) (int64, error) {
			var total atomic.Int64
			slots := stored.list()
			err := each(ctx, len(slots), func(ctx context.Context, i int) error {
				total.Add(options.SizeBytes)
				_, err := workload.client(i).Fetch(ctx, path(slots[i]),
					checker{content: pattern, file: stored.files[slots[i]]}, client.FetchOptions{})
				return err
			})
			return total.Load(), err
		},
	}}
	return nil
}

// kept says which file's content is in which slot.
type kept struct {
	sync.Mutex
	files map[int64]uint64
	busy  map[int64]bool
}

func (k *kept) claim(slot int64) bool {
	k.Lock()
	defer k.Unlock()
	if k.busy[slot] {
		return false
	}
	k.busy[slot] = true
	return true
}

// put notes what a slot holds; after a failure that is not known.
func (k *kept) put(slot int64, file uint64, stored bool) {
	k.Lock()
	defer k.Unlock()
	delete(k.busy, slot)
	delete(k.files, slot)
	if stored {
		k.files[slot] = file
	}
}

// list returns the slots; nothing is being written any more.
func (k *kept) list() []int64 {
	k.Lock()
	defer k.Unlock()
	return slices.Collect(maps.Keys(k.files))
}

// makeRead fetches whole files, or random ranges of them.
func makeRead(workload *Workload) error {
	options := &workload.options
	options.SizeBytes = cmp.Or(options.SizeBytes, fileSizeDefault)
	options.Files = cmp.Or(options.Files, 16)
	if options.RangeBytes < 0 || options.RangeBytes > options.SizeBytes {
		return fault.New(fault.Invalid, "make workload", "ranges of %d bytes in files of %d",
			options.RangeBytes, options.SizeBytes)
	}
	pattern := newContent(options.Seed)
	path := func(file int) string { return fmt.Sprintf("%s/%07d", options.Directory, file) }
	files := &openFiles{w: workload, path: path}
	workload.close = files.close
	phase := Phase{
		Kinds: []string{"fetch"}, Floors: fetchFloors(),
		prepare: func(ctx context.Context) error {
			err := each(ctx, options.Files, func(ctx context.Context, i int) error {
				_, err := workload.client(i).Store(ctx, path(i), source{pattern, uint64(i)}, options.SizeBytes,
					client.StoreOptions{CreateOptions: workload.create()})
				return err
			})
			if err != nil || len(options.Cold) > 0 {
				return firstOf(err, func() error { return DropPages(options.Cold) })
			}
			return each(ctx, options.Files, func(ctx context.Context, i int) error { // warm
				_, err := workload.client(i).Fetch(ctx, path(i),
					checker{content: pattern, file: uint64(i), off: !options.Verify}, client.FetchOptions{})
				return err
			})
		},
		op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
			file := int(number % int64(options.Files))
			if len(options.Cold) > 0 && number >= int64(options.Files) {
				return load.Done{}, load.ErrExhausted // a second time it would be warm
			}
			_, err := workload.client(worker).Fetch(ctx, path(file),
				checker{content: pattern, file: uint64(file), off: !options.Verify}, client.FetchOptions{})
			return load.Done{Bytes: options.SizeBytes}, err
		},
	}
	if len(options.Cold) > 0 {
		phase.Kinds, phase.Floors = []string{"fetch-cold"},
			[]string{floor.DiskRead, floor.DiskReadDirect, floor.Sendfile}
		phase.plan = noWarmup // it would warm the pages
	}
	if options.RangeBytes > 0 {
		phase.Kinds, phase.Floors = []string{"read-range"}, []string{floor.Echo, floor.Sendfile}
		buffers := make([][]byte, options.Workers)
		phase.op = func(ctx context.Context, worker int, number int64) (load.Done, error) {
			if buffers[worker] == nil {
				buffers[worker] = make([]byte, options.RangeBytes)
			}
			random := rand.New(rand.NewPCG(options.Seed, uint64(number)))
			file, offset := random.IntN(options.Files), random.Int64N(options.SizeBytes-options.RangeBytes+1)
			r, err := files.get(ctx, worker, file)
			if err != nil {
				return load.Done{}, err
			}
			if _, err := r.ReadAt(buffers[worker], offset); err != nil {
				return load.Done{}, err
			}
			if options.Verify {
				err = pattern.check(buffers[worker], uint64(file), offset)
			}
			return load.Done{Bytes: options.RangeBytes}, err
		}
	}
	workload.Phases = []Phase{phase}
	return nil
}

func firstOf(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// openFiles keeps a reader per file and client; readers take any number of calls at once.
type openFiles struct {
	w    *Workload
	path func(int) string
	mu   struct {
		sync.Mutex
		readers map[[2]int]*client.FileReader
	}
}

func (f *openFiles) get(ctx context.Context, worker, file int) (*client.FileReader, error) {
	key := [2]int{worker % len(f.w.options.Clients), file}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.mu.readers[key]; r != nil {
		return r, nil
	}
	r, err := f.w.client(worker).Open(context.WithoutCancel(ctx), f.path(file))
	if err != nil {
		return nil, err
	}
	if f.mu.readers == nil {
		f.mu.readers = map[[2]int]*client.FileReader{}
	}
	f.mu.readers[key] = r
	return r, nil
}

func (f *openFiles) close(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.mu.readers {
		r.Close()
	}
	return nil
}
