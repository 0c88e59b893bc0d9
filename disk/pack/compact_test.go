package pack

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryOwner is an Owner whose replicas are a map.
type memoryOwner struct {
	mu     sync.Mutex
	places map[chunk.ID]Found
}

type memoryClaim struct {
	owner *memoryOwner
	id    chunk.ID
}

func (o *memoryOwner) Claim(g *Segment, r Record) Claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, there := o.places[r.ID]; !there || at.Segment != g || at.Offset != r.Offset {
		return nil
	}
	return &memoryClaim{o, r.ID}
}

func (o *memoryOwner) Left(g *Segment) (count int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.places {
		if at.Segment == g {
			count++
		}
	}
	return count
}

func (c *memoryClaim) Moved(to *Segment, offset int64) {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	at := c.owner.places[c.id]
	at.Segment, at.Offset = to, offset
	c.owner.places[c.id] = at
}

func (c *memoryClaim) Corrupt(error) error {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	delete(c.owner.places, c.id)
	return nil
}

func (c *memoryClaim) Release() {}

// newSet makes a Set on a file system, and tells its owner what is in it.
func newSet(t *testing.T, fsys vfs.FS, owner *memoryOwner) *Set {
	t.Helper()
	require.NoError(t, fsys.MkdirAll("/packs", 0o755))
	fake := fakeclock.New(testTime)
	set := New(Options{
		FS: fsys, Directory: "/packs", Files: filecache.New(4), Logger: slog.New(slog.DiscardHandler), Clock: fake,
		SegmentBytes: SegmentBytesMin,
		Random: func(b []byte) error {
			_, err := rand.NewChaCha8([32]byte{1}).Read(b)
			return err
		},
		OnError: func(error) {}, Expire: func(Found, time.Time) {},
	})
	found, err := set.Load()
	require.NoError(t, err)
	for _, f := range found {
		owner.places[f.ID] = f
	}
	return set
}

// start runs the packer of a set; stop waits for it.
func start(set *Set) (stop func()) {
	var group sync.WaitGroup
	group.Go(set.Run)
	return func() {
		set.Close()
		group.Wait()
		set.options.Files.Close()
	}
}

// store appends a record and waits for it.
func store(t *testing.T, set *Set, owner *memoryOwner, id chunk.ID, data []byte) {
	t.Helper()
	done := make(chan error)
	j := &Job{Record: Record{ID: id, Generation: 1, ChunkSize: chunkSize}, Data: data}
	j.Done = func(g *Segment, err error) {
		owner.mu.Lock()
		owner.places[id] = Found{g, j.Record}
		owner.mu.Unlock()
		done <- err
	}
	set.Submit(j)
	require.NoError(t, <-done)
}

func TestCompactionMovesWhatIsClaimed(t *testing.T) {
	fsys := simdisk.NewMem()
	owner := &memoryOwner{places: make(map[chunk.ID]Found)}
	set := newSet(t, fsys, owner)
	stop := start(set)
	for n := range 4 { // two fill a segment
		store(t, set, owner, testID(n), pattern(uint64(n), 30_000))
	}
	require.NoError(t, owner.places[testID(0)].Segment.Remove(owner.places[testID(0)].Record))
	delete(owner.places, testID(0))
	first := set.Closed()[0]
	require.NoError(t, NewCompactor(owner, set.options.Clock).Compact(first, func(int64) bool { return true }))
	require.NotEqual(t, first, owner.places[testID(1)].Segment)
	stop()

	// The next start finds the same.
	again := &memoryOwner{places: make(map[chunk.ID]Found)}
	set = newSet(t, fsys, again)
	defer start(set)()
	require.Len(t, again.places, 3)
	for n := 1; n < 4; n++ {
		at := again.places[testID(n)]
		data, err := at.Segment.ReadData(at.Offset, at.Length)
		require.NoError(t, err)
		require.Equal(t, pattern(uint64(n), 30_000), data)
	}
}

// TestOneSegmentDoesNotStopTheOthers: what could not be compacted is left alone for a while, and a segment whose file
// is gone already is done with.
func TestOneSegmentDoesNotStopTheOthers(t *testing.T) {
	fsys := simdisk.NewMem()
	owner := &memoryOwner{places: make(map[chunk.ID]Found)}
	set := newSet(t, fsys, owner)
	defer start(set)()
	for n := range 6 { // two fill a segment
		store(t, set, owner, testID(n), pattern(uint64(n), 30_000))
	}
	for n := range 4 {
		at := owner.places[testID(n)]
		require.NoError(t, at.Segment.RemoveDurably(at.Record))
	}
	first, second := owner.places[testID(0)].Segment, owner.places[testID(2)].Segment
	require.NotEqual(t, first, second)
	compactor, now := NewCompactor(owner, set.options.Clock), set.options.Clock.Now()
	delete(owner.places, testID(2))
	delete(owner.places, testID(3))
	require.Error(t, compactor.Compact(first, func(int64) bool { return true }), "replicas are left in it")
	first.retryAt = now.Add(1)
	require.Same(t, second, compactor.next(set))
	require.NoError(t, fsys.Remove(second.Path()))
	require.NoError(t, compactor.Compact(second, func(int64) bool { return true }))
	require.True(t, second.gone)
	require.Nil(t, compactor.next(set))
	first.retryAt = now
	require.Same(t, first, compactor.next(set))
}
