package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/trash"
)

// load is a workload whose effects are known exactly: what was acknowledged has
// to be there, what failed may be there whole or not at all, and nothing else
// may be there.
//
// A storing worker owns the names below /load/store-N and stores, overwrites
// and removes whole files. An appending worker owns the file /load/append-N,
// whose byte at each offset is given by a formula, and remembers up to where it
// was synced.
type load struct {
	namenode  string
	storers   []*storer
	appenders []*appender
}

func newLoad(namenode string, seed uint64, storers, appenders int) *load {
	work := &load{namenode: namenode}
	for i := range storers {
		work.storers = append(work.storers, &storer{
			directory: fmt.Sprintf("/load/store-%d", i), random: rand.New(rand.NewPCG(seed, uint64(i))),
			possible: map[string][]version{},
		})
	}
	for i := range appenders {
		work.appenders = append(work.appenders, &appender{
			path: fmt.Sprintf("/load/append-%d", i), stream: seed + uint64(i),
			random: rand.New(rand.NewPCG(seed, uint64(1000+i))),
		})
	}
	return work
}

// begin lets the workers run until the context ends; the returned function
// waits for them. Each worker has a client of its own, as separate users would.
func (l *load) begin(ctx context.Context, t *testing.T) (wait func()) {
	t.Helper()
	var group sync.WaitGroup
	work := func(name string, step func(ctx context.Context, user *client.Client) error) {
		user, err := client.Dial(ctx, client.Options{Namenodes: []string{l.namenode}, Name: name})
		require.NoError(t, err)
		group.Go(func() {
			defer user.Close()
			for ctx.Err() == nil {
				if err := step(ctx, user); err != nil && ctx.Err() == nil {
					// A daemon is down. Try again, but not in a spin.
					timer := time.NewTimer(20 * time.Millisecond)
					select {
					case <-timer.C:
					case <-ctx.Done():
						timer.Stop()
					}
				}
			}
		})
	}
	for i, s := range l.storers {
		work(fmt.Sprintf("storer-%d", i), s.step)
	}
	for i, a := range l.appenders {
		work(fmt.Sprintf("appender-%d", i), a.step)
	}
	return group.Wait
}

// acknowledged counts the operations of all workers that succeeded, the least
// busy worker's of each kind.
func (l *load) acknowledged() (stores, syncs int64) {
	for _, s := range l.storers {
		stores += s.acknowledged.Load()
	}
	for _, a := range l.appenders {
		syncs += a.acknowledged.Load()
	}
	return stores, syncs
}

// verify checks the whole tree against what the workers know, while none runs.
func (l *load) verify(ctx context.Context, t *testing.T, user *client.Client) {
	t.Helper()
	known := map[string]bool{}
	for _, a := range l.appenders {
		a.verify(ctx, t, user)
		known[a.path] = true
	}
	for _, s := range l.storers {
		s.verify(ctx, t, user)
		for name := range s.possible {
			known[name] = true
		}
	}
	var walk func(directory string)
	walk = func(directory string) {
		for info, err := range user.List(ctx, directory) {
			require.NoError(t, err)
			if info.Directory {
				walk(info.Path)
				continue
			}
			require.True(t, known[info.Path] || trash.Within(info.Path), "%s appeared from nowhere", info.Path)
		}
	}
	walk("/")
}

// version is one content of a file; size -1 means that there is no file.
type version struct {
	seed uint64
	size int
}

// storer works on whole files.
type storer struct {
	directory    string
	random       *rand.Rand
	next         uint64
	acknowledged atomic.Int64
	// possible holds every content that a name may have: one after an
	// acknowledgement, more while the outcome of an operation is unknown.
	possible map[string][]version
}

func (s *storer) step(ctx context.Context, user *client.Client) error {
	name := fmt.Sprintf("%s/%d", s.directory, s.random.IntN(20))
	before, ok := s.possible[name]
	if !ok {
		before = []version{{size: -1}}
	}
	s.next++
	after := version{seed: s.random.Uint64(), size: s.size()}
	remove := s.random.IntN(5) == 0
	if remove {
		after = version{size: -1}
	}
	// Recorded before the attempt: its outcome is unknown until it is known.
	s.possible[name] = append(append([]version{}, before...), after)
	var err error
	if remove {
		_, err = user.Remove(ctx, name, client.RemoveOptions{Trash: true}) // if the namenode keeps it
		if errors.Is(err, fault.NotFound) {
			// An earlier, unacknowledged step may have removed it; the name is
			// absent either way.
			err = nil
		}
	} else {
		content := bytesOf(after.seed, after.size)
		_, err = user.Store(ctx, name, bytes.NewReader(content), int64(len(content)), client.StoreOptions{
			CreateOptions: client.CreateOptions{Overwrite: true, Parents: true, ChunkSize: 256 << 10},
		})
	}
	if err != nil {
		return err
	}
	s.possible[name] = []version{after}
	s.acknowledged.Add(1)
	return nil
}

// size favours the small and the edges.
func (s *storer) size() int {
	switch s.random.IntN(6) {
	case 0:
		return 0
	case 1:
		return 256 << 10
	case 2:
		return 3*(256<<10) + 17
	case 3:
		return s.random.IntN(1 << 20)
	}
	return s.random.IntN(64 << 10)
}

func (s *storer) verify(ctx context.Context, t *testing.T, user *client.Client) {
	t.Helper()
	for name, possible := range s.possible {
		got, err := readAll(ctx, user, name)
		found := -1
		for i, v := range possible {
			switch {
			case v.size < 0 && errors.Is(err, fault.NotFound):
				found = i
			case v.size >= 0 && err == nil && bytes.Equal(got, bytesOf(v.seed, v.size)):
				found = i
			}
		}
		if found < 0 {
			require.FailNow(t, "wrong content", "%s: read %d bytes and error %v; possible are %v (size -1: absent)",
				name, len(got), err, possible)
		}
		s.possible[name] = []version{possible[found]}
	}
}

// appender writes one file that grows.
type appender struct {
	path         string
	stream       uint64
	random       *rand.Rand
	acknowledged atomic.Int64
	created      bool  // the file is known to exist
	synced       int64 // bytes that a returned Sync or Close covers
	written      int64 // bytes ever passed to a Write that may have left the client
}

// step opens the file, appends a few pieces, and closes it most of the time.
func (a *appender) step(ctx context.Context, user *client.Client) error {
	writer, err := a.open(ctx, user)
	if err != nil {
		return err
	}
	offset := writer.Offset()
	for range 1 + a.random.IntN(6) {
		piece := make([]byte, 1+a.random.IntN(40<<10))
		a.fill(piece, offset)
		a.written = max(a.written, offset+int64(len(piece)))
		if _, err := writer.Write(piece); err != nil {
			return a.giveUp(writer, err)
		}
		offset += int64(len(piece))
		switch a.random.IntN(3) {
		case 0:
			err = writer.Flush(ctx)
		case 1:
			if err = writer.Sync(ctx); err == nil {
				a.acknowledge(offset)
			}
		}
		if err != nil {
			return a.giveUp(writer, err)
		}
	}
	if err := writer.Close(); err != nil {
		return a.giveUp(writer, err)
	}
	a.acknowledge(offset)
	return nil
}

func (a *appender) acknowledge(length int64) {
	a.synced = length
	a.acknowledged.Add(1)
}

// giveUp leaves a writer that failed: its lease is taken back by the next open.
func (a *appender) giveUp(w *client.FileWriter, err error) error {
	_ = w.Close() // it failed already
	return err
}

func (a *appender) open(ctx context.Context, user *client.Client) (*client.FileWriter, error) {
	if !a.created {
		w, err := user.Create(ctx, a.path, client.CreateOptions{Parents: true, ChunkSize: 128 << 10})
		if err == nil {
			a.created = true
			return w, nil
		}
		if !errors.Is(err, fault.Exists) && !errors.Is(err, fault.LeaseHeld) {
			return nil, err
		}
		a.created = true // by a call that was not acknowledged
	}
	w, err := user.Append(ctx, a.path, client.AppendOptions{})
	if errors.Is(err, fault.LeaseHeld) {
		if _, recoverErr := user.RecoverLease(ctx, a.path); recoverErr != nil {
			return nil, recoverErr
		}
	}
	return w, err
}

// fill writes the stream's bytes from offset on.
func (a *appender) fill(data []byte, offset int64) {
	var word [8]byte
	for i := range data {
		at := uint64(offset) + uint64(i)
		if i == 0 || at%8 == 0 {
			x := (at/8 + 1) * 0x9e3779b97f4a7c15 // splitmix64 of stream and position
			x ^= a.stream * 0xbf58476d1ce4e5b9
			x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
			x = (x ^ x>>27) * 0x94d049bb133111eb
			binary.LittleEndian.PutUint64(word[:], x^x>>31)
		}
		data[i] = word[at%8]
	}
}

// verify reads the file as it was left, ends a lease that nobody holds any more,
// and reads it again.
func (a *appender) verify(ctx context.Context, t *testing.T, user *client.Client) {
	t.Helper()
	got, err := readAll(ctx, user, a.path)
	if errors.Is(err, fault.NotFound) {
		require.Zero(t, a.synced, "%s is gone, %d bytes of it were synced", a.path, a.synced)
		a.created = false
		return
	}
	require.NoError(t, err, "read %s, of which %d bytes were synced", a.path, a.synced)
	a.check(t, got, "as it was left")

	err = pollUntilClosed(ctx, user, a.path)
	require.NoError(t, err, "recover the lease of %s", a.path)
	got, err = readAll(ctx, user, a.path)
	require.NoError(t, err)
	a.check(t, got, "after lease recovery")
	a.synced, a.written, a.created = int64(len(got)), int64(len(got)), true
}

func (a *appender) check(t *testing.T, got []byte, when string) {
	t.Helper()
	require.GreaterOrEqual(t, int64(len(got)), a.synced, "%s %s: synced bytes are lost", a.path, when)
	require.LessOrEqual(t, int64(len(got)), a.written, "%s %s: more bytes than were ever written", a.path, when)
	want := make([]byte, len(got))
	a.fill(want, 0)
	sameBytes(t, want, got, a.path+" "+when)
}
