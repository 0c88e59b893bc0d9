package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/client"
)

const smallSizeDefault = 4 << 10

// made is the list of small files that exist. Safe for concurrent use.
type made struct {
	sync.Mutex
	files []uint64
}

func (m *made) add(file uint64) {
	m.Lock()
	defer m.Unlock()
	m.files = append(m.files, file)
}

// pop removes one file from the list; false: none is left.
func (m *made) pop() (uint64, bool) {
	m.Lock()
	defer m.Unlock()
	if len(m.files) == 0 {
		return 0, false
	}
	file := m.files[len(m.files)-1]
	m.files = m.files[:len(m.files)-1]
	return file, true
}

// pick returns one file; false: there is none.
func (m *made) pick(at uint64) (uint64, bool) {
	m.Lock()
	defer m.Unlock()
	if len(m.files) == 0 {
		return 0, false
	}
	return m.files[at%uint64(len(m.files))], true
}

func (m *made) len() int {
	m.Lock()
	defer m.Unlock()
	return len(m.files)
}

// smallFiles makes, reads and removes files of one page or a few.
type smallFiles struct {
	w       *Workload
	content *content
	made    made
	buffers []smallBuffers // per worker
}

type smallBuffers struct{ out, in []byte }

// foldersOfSmall is the number of folders that the files are spread over.
const foldersOfSmall = 64

func newSmallFiles(workload *Workload) *smallFiles {
	if workload.options.SizeBytes == 0 && workload.options.SizeBytesMost == 0 {
		workload.options.SizeBytes = smallSizeDefault
	}
	return &smallFiles{w: workload, content: newContent(workload.options.Seed),
		buffers: make([]smallBuffers, workload.options.Workers)}
}

func (s *smallFiles) path(file uint64) string {
	return fmt.Sprintf("%s/%02d/%09d", s.w.options.Directory, file%foldersOfSmall, file)
}

// size of a file follows from its number.
func (s *smallFiles) size(file uint64) int64 {
	options := s.w.options
	if options.SizeBytesMost <= options.SizeBytes {
		return options.SizeBytes
	}
	return options.SizeBytes + rand.New(rand.NewPCG(options.Seed,
		file)).Int64N(options.SizeBytesMost-options.SizeBytes+1)
}

func (s *smallFiles) folders(ctx context.Context) error {
	return each(ctx, foldersOfSmall, func(ctx context.Context, i int) error {
		return s.w.client(i).Mkdir(ctx, fmt.Sprintf("%s/%02d", s.w.options.Directory, i),
			client.MkdirOptions{Parents: true})
	})
}

// create stores a file in one call: it is whole, and durable on all replicas, when the call returns.
func (s *smallFiles) create(ctx context.Context, worker int, file uint64) (int64, error) {
	size := s.size(file)
	b := grow(&s.buffers[worker].out, size)
	s.content.fill(b, file, 0)
	if _, err := s.w.client(worker).Store(ctx, s.path(file), bytes.NewReader(b), size,
		client.StoreOptions{CreateOptions: s.w.create()}); err != nil {
		return 0, err
	}
	s.made.add(file)
	return size, nil
}

// read is open, read to the end, close, and compare.
func (s *smallFiles) read(ctx context.Context, worker int, file uint64, b *[]byte) (int64, error) {
	size := s.size(file)
	r, err := s.w.client(worker).Open(ctx, s.path(file))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	in := grow(b, size+1) // one more, to see a file that is too long
	read, err := r.ReadAt(in, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if int64(read) != size {
		return 0, fmt.Errorf("%w: %s has %d bytes, not %d", load.ErrWrongBytes, s.path(file), read, size)
	}
	if !s.w.options.Verify {
		return size, nil
	}
	return size, s.content.check(in[:read], file, 0)
}

func grow(b *[]byte, size int64) []byte {
	if int64(cap(*b)) < size {
		*b = make([]byte, size)
	}
	return (*b)[:size]
}

// makeSmall creates small files, reads them in random order, and removes them.
func makeSmall(workload *Workload) error {
	files := newSmallFiles(workload)
	options := &workload.options
	workload.Phases = []Phase{
		{
			Name: "create", Kinds: []string{"create"},
			Floors:  []string{floor.SmallSynced, floor.SmallJournal, floor.Echo},
			prepare: files.folders,
			op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
				n, err := files.create(ctx, worker, uint64(number))
				return load.Done{Bytes: n}, err
			},
			verify: workload.verifySmall(files),
		},
		{
			Name: "read", Kinds: []string{"read"}, Floors: []string{floor.Echo},
			op: func(ctx context.Context, worker int, number int64) (load.Done, error) {
				file, found := files.made.pick(rand.New(rand.NewPCG(options.Seed, uint64(number))).Uint64())
				if !found {
					return load.Done{}, load.ErrExhausted
				}
				n, err := files.read(ctx, worker, file, &files.buffers[worker].in)
				return load.Done{Bytes: n}, err
			},
		},
		{
			Name: "delete", Kinds: []string{"delete"}, Floors: []string{floor.Echo}, plan: noWarmup,
			op: func(ctx context.Context, worker int, _ int64) (load.Done, error) {
				file, found := files.made.pop()
				if !found {
					return load.Done{}, load.ErrExhausted
				}
				_, err := workload.client(worker).Remove(ctx, files.path(file), client.RemoveOptions{})
				return load.Done{}, err
			},
		},
	}
	return nil
}

// verifySmall reads all files that exist.
func (w *Workload) verifySmall(s *smallFiles) func(context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		var total atomic.Int64
		err := eachWorker(ctx, w.options.Workers, s.made.len(), func(ctx context.Context, worker, i int) error {
			file, _ := s.made.pick(uint64(i))
			n, err := s.read(ctx, worker, file, &s.buffers[worker].in)
			total.Add(n)
			return err
		})
		return total.Load(), err
	}
}
