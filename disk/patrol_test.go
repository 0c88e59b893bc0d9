package disk

import (
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

// scrubAll has every replica of a store with one volume verified, and returns how it went.
func scrubAll(t testing.TB, s *Store) datanode.Scrub {
	t.Helper()
	for _, pass := range s.Scrub() {
		require.Eventually(t, func() bool { return s.Volumes()[0].Scrub.Passes >= pass }, 10*time.Second,
			time.Millisecond)
	}
	return s.Volumes()[0].Scrub
}

// flipAt changes a bit of a file.
func flipAt(t testing.TB, fsys vfs.FS, name string, offset int64) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	b := make([]byte, 1)
	require.NoError(t, vfs.ReadFull(f, b, offset))
	b[0] ^= 4
	_, err = f.WriteAt(b, offset)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

const (
	patrolFiles   = 6
	patrolRecords = 6
	patrolSmall   = 3000
)

// patrolled is a store of chunk files (0 to 5) and records of a segment (10 to 15).
type patrolled struct {
	*Store
	m      *simdisk.Mem
	faulty *simdisk.Faulty
	mu     sync.Mutex
	events []Event
}

func startPatrolled(t *testing.T) *patrolled {
	p := &patrolled{m: simdisk.NewMem()}
	p.faulty = simdisk.NewFaulty(p.m)
	o := packOptions(p.faulty)
	o.PackSegmentBytes = 1 << 20
	o.OnEvent = func(e Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.events = append(p.events, e)
	}
	p.Store = openStore(t, o)
	for n := range patrolFiles {
		w := mustCreate(t, p.Store, testID(n))
		mustAppend(t, w, p.content(n), true)
		mustSeal(t, w)
	}
	for n := 10; n < 10+patrolRecords; n++ {
		storeSmall(t, p.Store, testID(n), p.content(n))
	}
	p.events = nil
	return p
}

func (p *patrolled) content(n int) []byte {
	if n >= 10 {
		return pattern(uint64(n), patrolSmall)
	}
	return pattern(uint64(n), blockBytes+5000)
}

func (p *patrolled) numbers() (all []int) {
	for n := range patrolFiles {
		all = append(all, n, 10+n)
	}
	return all
}

// path of the file that replica n is in, and where its data are in it.
func (p *patrolled) path(n int) (name string, data int64) {
	r := p.index.lookup(testID(n))
	v := r.snapshot()
	return r.pathOf(v), v.dataAt()
}

func (p *patrolled) rename(t *testing.T, n int, change func(*chunkfile.Name)) {
	from, _ := p.path(n)
	name, ok := chunkfile.ParseName(path.Base(from))
	require.True(t, ok)
	change(&name)
	require.NoError(t, p.m.MkdirAll(path.Dir("/d/"+name.Relative()), 0o755))
	require.NoError(t, p.m.Rename(from, "/d/"+name.Relative()))
}

// damages are what can happen to the bytes of file 3 and of record 13, or of their names, and which replicas are bad
// then.
var damages = map[string]struct {
	do  func(t *testing.T, p *patrolled)
	bad []int
}{
	"nothing": {func(*testing.T, *patrolled) {}, nil},
	"data": {func(t *testing.T, p *patrolled) {
		name, data := p.path(3)
		flipAt(t, p.m, name, data+blockBytes+17)
	}, []int{3}},
	"sum of a block": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(3)
		flipAt(t, p.m, name, 2048+3)
	}, []int{3}},
	"header": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(3)
		flipAt(t, p.m, name, 200)
	}, []int{3}},
	"version in the header": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(3)
		flipAt(t, p.m, name, 8)
	}, []int{3}},
	"every slot": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(3)
		flipAt(t, p.m, name, 512+60)
		flipAt(t, p.m, name, 1024+60)
	}, []int{3}},
	"truncated": {func(t *testing.T, p *patrolled) {
		name, data := p.path(3)
		f, err := p.m.OpenFile(name, os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(data+100))
	}, []int{3}},
	"file gone": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(3)
		require.NoError(t, p.m.Remove(name))
	}, []int{3}},
	"id in the name": {func(t *testing.T, p *patrolled) {
		p.rename(t, 3, func(n *chunkfile.Name) { n.ID[5] ^= 1 })
	}, []int{3}},
	"shard in the name": {func(t *testing.T, p *patrolled) {
		p.rename(t, 3, func(n *chunkfile.Name) { n.ID[15] ^= 0x40 })
	}, []int{3}},
	"generation in the name": {func(t *testing.T, p *patrolled) {
		p.rename(t, 3, func(n *chunkfile.Name) { n.Generation = 9 })
	}, []int{3}},
	"length in the name": {func(t *testing.T, p *patrolled) {
		p.rename(t, 3, func(n *chunkfile.Name) { n.Length ^= 64 })
	}, []int{3}},
	"state in the name": {func(t *testing.T, p *patrolled) {
		p.rename(t, 3, func(n *chunkfile.Name) { n.Sealed = false })
	}, []int{3}},
	"the name of a copy": {func(t *testing.T, p *patrolled) {
		from, _ := p.path(3)
		name, _ := chunkfile.ParseName(path.Base(from))
		name.Generation = 2
		f, err := p.m.OpenFile("/d/"+name.Relative(), os.O_RDWR|os.O_CREATE, 0o644)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}, nil},
	"data of a record": {func(t *testing.T, p *patrolled) {
		name, data := p.path(13)
		flipAt(t, p.m, name, data+17)
	}, []int{13}},
	"header of a record": {func(t *testing.T, p *patrolled) {
		name, data := p.path(13)
		flipAt(t, p.m, name, data-400)
	}, []int{13}},
	"header of the segment": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(13)
		flipAt(t, p.m, name, 30)
	}, nil},
	"name of the segment": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(13)
		require.NoError(t, p.m.Rename(name, strings.Replace(name, "_", "_f", 1)[:len(name)-5]+".pack"))
	}, []int{10, 11, 12, 13, 14, 15}},
	"segment gone": {func(t *testing.T, p *patrolled) {
		name, _ := p.path(13)
		require.NoError(t, p.m.Remove(name))
	}, []int{10, 11, 12, 13, 14, 15}},
}

func TestTheScrubFindsAllDamage(t *testing.T) {
	for name, damage := range damages {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", name, restarted), func(t *testing.T) {
				p := startPatrolled(t)
				if restarted { // nothing is open or known but the names
					p.Store = reopenStore(t, p.Store)
					p.events = nil
				}
				damage.do(t, p)
				got := scrubAll(t, p.Store)
				require.EqualValues(t, len(damage.bad), got.Bad)
				require.EqualValues(t, patrolFiles+patrolRecords, got.Replicas)
				p.requireBad(t, damage.bad)
				require.True(t, p.Volumes()[0].Healthy)
				// A good copy may come, and then all is as if nothing had been.
				for _, n := range damage.bad {
					w, err := p.Create(testID(n), 1, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
					require.NoError(t, err)
					mustAppend(t, w, p.content(n), false)
					mustSeal(t, w)
				}
				got = scrubAll(t, p.Store)
				require.Zero(t, got.Bad)
				require.EqualValues(t, len(damage.bad), got.BadTotal)
				p.Store = reopenStore(t, p.Store)
				require.Len(t, p.Replicas(), patrolFiles+patrolRecords)
				p.requireBad(t, nil)
			})
		}
	}
}

// requireBad checks that the replicas of a list are corrupt, and were reported so, and that the others are whole.
func (p *patrolled) requireBad(t *testing.T, bad []int) {
	t.Helper()
	corrupt := make(map[chunk.ID]bool)
	for _, n := range bad {
		corrupt[testID(n)] = true
		_, err := readVerified(p.Store, testID(n))
		require.ErrorIs(t, err, fault.CorruptData)
	}
	for _, n := range p.numbers() {
		if !corrupt[testID(n)] {
			requireContent(t, p.Store, testID(n), p.content(n))
		}
	}
	if len(bad) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Len(t, p.events, len(bad))
	for _, e := range p.events {
		require.Equal(t, Corrupt, e.Kind)
		require.True(t, corrupt[e.Replica.ID])
	}
}

func TestABadSectorIsNoVerdictOnTheDisk(t *testing.T) {
	p := startPatrolled(t)
	name, _ := p.path(3)
	defer p.faulty.Inject(simdisk.Rule{Op: simdisk.OpRead, Path: path.Base(name), Err: syscall.EIO})()
	got := scrubAll(t, p.Store)
	require.EqualValues(t, 1, got.Bad)
	require.Equal(t, datanode.VolumeHealthy, p.Volumes()[0].Health)
	p.requireBad(t, []int{3})
}

func TestAReadThatFailsOnceIsRepeated(t *testing.T) {
	p := startPatrolled(t)
	defer p.faulty.Inject(simdisk.Rule{Op: simdisk.OpRead, Times: 1, Err: syscall.EIO})()
	require.Zero(t, scrubAll(t, p.Store).Bad)
	p.requireBad(t, nil)
}

func TestADiskThatReadsNothingIsOut(t *testing.T) {
	p := startPatrolled(t)
	defer p.faulty.Inject(simdisk.Rule{Op: simdisk.OpRead, Path: "*.chunk", Err: syscall.EIO})()
	p.Scrub()
	require.Eventually(t, func() bool { return p.Volumes()[0].Health == datanode.VolumeFailed }, 10*time.Second,
		time.Millisecond)
	require.LessOrEqual(t, len(files(t, &Store{env: &env{fs: p.m}}, testID(3))), patrolFiles)
}

// TestTheScrubDoesNotDisturbWriters scrubs all the time while replicas are created, appended to, cut, sealed and
// deleted: what is being changed is never called bad.
func TestTheScrubDoesNotDisturbWriters(t *testing.T) {
	p := startPatrolled(t)
	done := make(chan struct{})
	var scrubs sync.WaitGroup
	scrubs.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				p.Scrub()
				for n := range 30 {
					err := p.ScrubReplica(testID(n))
					if fault.KindOf(err) == fault.CorruptData {
						t.Errorf("replica %d: %v", n, err)
					}
				}
			}
		}
	})
	for round := range 40 {
		for n := 20; n < 24; n++ {
			id, gen := testID(n), chunk.Generation(1)
			size := 1 + round*37*n%2000
			w := createSmall(t, p.Store, id, size)
			_, err := run(w, Job{Data: pattern(uint64(n), size), Seal: n%2 == 0})
			require.NoError(t, err)
			if n%2 == 1 {
				mustAppend(t, w, pattern(1, blockBytes), n == 21)
				mustSeal(t, w)
			}
			length := w.Length()
			for range 3 {
				gen++
				w, err = p.Resume(id, 1, gen, length/2)
				require.NoError(t, err)
				mustAppend(t, w, pattern(2, int(min(length, 30_000))), round%2 == 0)
				length = w.Length()
				if round%3 > 0 {
					mustSeal(t, w)
				}
			}
			require.NoError(t, p.Delete(id, gen))
		}
	}
	close(done)
	scrubs.Wait()
	require.Zero(t, scrubAll(t, p.Store).BadTotal)
	entries, err := p.m.ReadDir("/d/quarantine")
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestTheScrubLeavesACopyBesideAStaleReplicaAlone(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	w := mustCreate(t, s, testID(1))
	mustAppend(t, w, pattern(1, 5000), true)
	mustSeal(t, w)
	newer, err := s.Create(testID(1), 2, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
	require.NoError(t, err)
	mustAppend(t, newer, pattern(2, 6000), true)
	scrubAll(t, s)
	mustSeal(t, newer)
	requireContent(t, s, testID(1), pattern(2, 6000))
	require.Zero(t, scrubAll(t, s).BadTotal)
}

func TestTheScrubIsPeriodicAndBounded(t *testing.T) {
	o := testOptions(simdisk.NewMem())
	o.ScrubPeriod, o.ScrubBandwidth = time.Hour, 1<<20
	s := openStore(t, o)
	require.Eventually(t, func() bool { return s.Volumes()[0].Scrub.Passes == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, testTime, s.Volumes()[0].Scrub.Ended.UTC())
	require.Eventually(t, func() bool { // it is written down after the pass counts
		_, err := o.FS.Stat("/d/scrub")
		return err == nil
	}, 10*time.Second, time.Millisecond)
	for _, bad := range []Options{{ScrubPeriod: -1}, {ScrubBandwidth: -1}} {
		bad.Directories = o.Directories
		_, err := Open(bad)
		require.ErrorIs(t, err, fault.Invalid)
	}
}
