package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// makeWrite stores whole files. Once KeepBytes are there, new files take the
// place of old ones, so that a long run does not fill the disks; what is there
// at the end is read back.
func makeWrite(w *Workload) error {
	o := &w.options
	if o.SizeBytes == 0 {
		o.SizeBytes = fileSizeDefault
	}
	if o.KeepBytes == 0 {
		o.KeepBytes = keepDefault
	}
	slots := max(o.KeepBytes/o.SizeBytes, 2*int64(o.Workers))
	if slots > filesMax {
		slots = filesMax
	}
	k := &kept{files: map[int64]uint64{}, busy: map[int64]bool{}}
	c := newContent(o.Seed)
	path := func(slot int64) string { return fmt.Sprintf("%s/%07d", o.Directory, slot) }
	w.Phases = []Phase{{
		Kinds: []string{"store"}, Floors: bulkFloors(),
		op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
			slot := number % slots
			if !k.take(slot) { // the file before is still being written
				slot = slots + int64(worker)
				k.take(slot)
			}
			_, err := w.client(worker).Store(ctx, path(slot), source{c, uint64(number)}, o.SizeBytes, client.StoreOptions{CreateOptions: w.create()})
			k.put(slot, uint64(number), err == nil)
			return load.Done{Bytes: o.SizeBytes}, err
		},
		verify: func(ctx context.Context) (int64, error) {
			var total atomic.Int64
			slots := k.list()
			err := each(ctx, len(slots), func(ctx context.Context, i int) error {
				total.Add(o.SizeBytes)
				_, err := w.client(i).Fetch(ctx, path(slots[i]), checker{content: c, file: k.files[slots[i]]}, client.FetchOptions{})
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

func (k *kept) take(slot int64) bool {
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
	slots := make([]int64, 0, len(k.files))
	for slot := range k.files {
		slots = append(slots, slot)
	}
	return slots
}

// makeRead fetches whole files, or random ranges of them.
func makeRead(w *Workload) error {
	o := &w.options
	if o.SizeBytes == 0 {
		o.SizeBytes = fileSizeDefault
	}
	if o.Files == 0 {
		o.Files = 16
	}
	if o.RangeBytes < 0 || o.RangeBytes > o.SizeBytes {
		return fault.New(fault.Invalid, "make workload", "ranges of %d bytes in files of %d", o.RangeBytes, o.SizeBytes)
	}
	c := newContent(o.Seed)
	path := func(file int) string { return fmt.Sprintf("%s/%07d", o.Directory, file) }
	files := &openFiles{w: w, path: path}
	w.close = files.close
	phase := Phase{
		Kinds: []string{"fetch"}, Floors: fetchFloors(),
		prepare: func(ctx context.Context) error {
			err := each(ctx, o.Files, func(ctx context.Context, i int) error {
				_, err := w.client(i).Store(ctx, path(i), source{c, uint64(i)}, o.SizeBytes, client.StoreOptions{CreateOptions: w.create()})
				return err
			})
			if err != nil || len(o.Cold) > 0 {
				return firstOf(err, func() error { return dropPages(o.Cold) })
			}
			return each(ctx, o.Files, func(ctx context.Context, i int) error { // warm
				_, err := w.client(i).Fetch(ctx, path(i), checker{content: c, file: uint64(i), off: !o.Verify}, client.FetchOptions{})
				return err
			})
		},
		op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
			file := int(number % int64(o.Files))
			if len(o.Cold) > 0 && number >= int64(o.Files) {
				return load.Done{}, load.ErrExhausted // a second time it would be warm
			}
			_, err := w.client(worker).Fetch(ctx, path(file), checker{content: c, file: uint64(file), off: !o.Verify}, client.FetchOptions{})
			return load.Done{Bytes: o.SizeBytes}, err
		},
	}
	if len(o.Cold) > 0 {
		phase.Kinds, phase.Floors = []string{"fetch-cold"}, []string{floor.DiskRead, floor.DiskReadDirect, floor.Sendfile}
		phase.plan = noWarmup // it would warm the pages
	}
	if o.RangeBytes > 0 {
		phase.Kinds, phase.Floors = []string{"read-range"}, []string{floor.Echo, floor.Sendfile}
		buffers := make([][]byte, o.Workers)
		phase.op = func(ctx context.Context, worker int, number int64) (load.Done, error) {
			if buffers[worker] == nil {
				buffers[worker] = make([]byte, o.RangeBytes)
			}
			random := rand.New(rand.NewPCG(o.Seed, uint64(number)))
			file, offset := random.IntN(o.Files), random.Int64N(o.SizeBytes-o.RangeBytes+1)
			r, err := files.get(ctx, worker, file)
			if err != nil {
				return load.Done{}, err
			}
			if _, err := r.ReadAt(buffers[worker], offset); err != nil {
				return load.Done{}, err
			}
			if o.Verify {
				err = c.check(buffers[worker], uint64(file), offset)
			}
			return load.Done{Bytes: o.RangeBytes}, err
		}
	}
	w.Phases = []Phase{phase}
	return nil
}

func firstOf(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// openFiles keeps a reader per file and client; readers take any number of
// calls at once.
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
