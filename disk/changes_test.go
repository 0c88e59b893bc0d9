package disk

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// directories are those of the volumes of a store that are in service.
func directories(s *Store) (list []string) {
	for _, v := range inService(s.volumes.all()) {
		list = append(list, v.directory)
	}
	return list
}

// newDirectories makes empty ones.
func newDirectories(t *testing.T, fsys *simdisk.Mem, names ...string) {
	for _, name := range names {
		require.NoError(t, fsys.MkdirAll(name, 0o755))
		require.NoError(t, fsys.SyncDir("/"))
	}
}

// fill stores sealed replicas of chunks first..last-1.
func fill(t *testing.T, s *Store, first, last int) {
	for n := first; n < last; n++ {
		w := mustCreate(t, s, testID(n))
		mustAppend(t, w, pattern(uint64(n), 1000), true)
		mustSeal(t, w)
	}
}

func TestAnAddedDiskIsUsedAtOnceAndAfterARestart(t *testing.T) {
	mem := simdisk.NewMem()
	newDirectories(t, mem, "/new")
	s := openStore(t, testOptions(mem))
	fill(t, s, 0, 4)
	state, err := s.AddDisk("/new/")
	require.NoError(t, err)
	require.Equal(t, datanode.VolumeHealthy, state.Health)
	again, err := s.AddDisk("/new")
	require.NoError(t, err, "adding it again does nothing")
	require.Equal(t, state.ID, again.ID)
	fill(t, s, 4, 40)
	require.Positive(t, s.volumes.all()[1].replicas.Load(), "new replicas go there")
	require.NoError(t, s.ObserveEpoch(7, 8))

	s = reopenStore(t, s)
	require.Equal(t, []string{"/d", "/new"}, directories(s), "the options name /d only")
	for n := range 40 {
		requireContent(t, s, testID(n), pattern(uint64(n), 1000))
	}
	require.Equal(t, uint64(7), s.Identity().HighestEpoch)
}

func TestWhatCannotBeAdded(t *testing.T) {
	disks := newTwoDisks()
	mem := disks.memory["/a"]
	newDirectories(t, mem, "/used", "/above", "/theirs", "/copy", "/full")
	for _, name := range []string{"/a/inside", "/above/a"} {
		require.NoError(t, mem.MkdirAll(name, 0o755))
	}
	o := testOptions(disks)
	o.Directories = []string{"/a/d", "/above/a"}
	require.NoError(t, mem.MkdirAll("/a/d/inside", 0o755))
	s := openStore(t, o)
	file, err := mem.OpenFile("/used/somebody's", 66, 0o644)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	other := testOptions(mem)
	other.Directories, other.Random = []string{"/theirs"}, nil
	require.NoError(t, openStore(t, other).Close())
	require.NoError(t, mem.MkdirAll("/copy", 0o755))
	require.NoError(t, writeIdentity(mem, "/copy/identity", s.volumes.all()[0].identity))

	for directory, reason := range map[string]string{
		"relative": "not an absolute path", "/nowhere": "does not exist", "/a/d/inside": "inside or above",
		"/above": "inside or above", "/used": "not empty", "/theirs": "it is a disk of datanode",
		"/copy": "a copy of the disk /a/d", "/used/somebody's": "not a directory",
	} {
		_, err := s.AddDisk(directory)
		require.ErrorIs(t, err, fault.Invalid, directory)
		require.ErrorContains(t, err, reason)
	}
	require.Len(t, s.volumes.all(), 2)
	s = reopenStore(t, s)
	require.Len(t, s.volumes.all(), 2, "nothing of it is remembered")
}

func TestAFullDiskIsNotAdded(t *testing.T) {
	mem := simdisk.NewMem()
	newDirectories(t, mem, "/new")
	o := testOptions(mem)
	o.ReserveBytes = 1 << 50
	s := openStore(t, o)
	_, err := s.AddDisk("/new")
	require.ErrorIs(t, err, fault.NoSpace)
}

func TestAFailedDiskIsRemovedAndItsFilesStay(t *testing.T) {
	l := startLossy(t)
	lost := len(l.on("/b"))
	_, err := l.RemoveDisk("nobody's")
	require.ErrorIs(t, err, fault.NotFound)
	heal := l.disks.fail("/b", syscall.EIO)
	for range 3 {
		l.monitor.check()
		l.monitor.group.Wait()
	}
	l.requireLost(datanode.VolumeFailed)
	id := l.byDirectory()["/b"].id
	gone, err := l.RemoveDisk(id[:8])
	require.NoError(t, err)
	require.Equal(t, "/b", gone.Directory)
	require.Len(t, l.Volumes(), 1)
	_, err = l.RemoveDisk("/b")
	require.NoError(t, err, "removing it again does nothing")
	_, _, err = l.BeginRecovery(testID(l.on("/b")[1]), 2)
	require.ErrorIs(t, err, fault.Disk, "not: there never was one")
	_, err = l.RemoveDisk("/a")
	require.ErrorIs(t, err, fault.TooFewNodes)

	// It comes back, and the options still name it.
	heal()
	s := reopenStore(t, l.Store)
	require.Equal(t, []string{"/a"}, directories(s))
	files := 0
	for last := range 256 {
		entries, err := l.disks.memory["/b"].ReadDir(fmt.Sprintf("/b/chunks/%02x", last))
		require.NoError(t, err)
		files += len(entries)
	}
	require.Equal(t, lost, files)
	before := len(s.Replicas())
	_, err = s.AddDisk("/b")
	require.NoError(t, err, "unless somebody wants it")
	require.Len(t, s.Replicas(), before+lost-1, "it is read; of one replica there is another one")
	s = reopenStore(t, s)
	require.Equal(t, []string{"/a", "/b"}, directories(s))
	for n := range lossyReplicas {
		requireContent(t, s, testID(n), pattern(uint64(n), 1000))
	}
}

func TestAFailedDiskIsReplaced(t *testing.T) {
	l := startLossy(t)
	_, err := l.ReplaceDisk("/b", "")
	require.ErrorIs(t, err, fault.Exists, "it works")
	heal := l.disks.fail("/b", syscall.EIO)
	for range 3 {
		l.monitor.check()
		l.monitor.group.Wait()
	}
	l.requireLost(datanode.VolumeFailed)
	heal()
	old := l.byDirectory()["/b"].id
	_, err = l.ReplaceDisk("/b", "")
	require.ErrorIs(t, err, fault.Invalid, "the old disk is still there, with what it had")
	require.Equal(t, []string{"/a"}, directories(l.Store), "but it is removed")
	l.disks.put("/b")
	newDirectories(t, l.disks.memory["/b"], "/b")
	state, err := l.ReplaceDisk(old, "")
	require.NoError(t, err)
	require.NotEqual(t, old, state.ID)
	fill(t, l.Store, 100, 140)
	require.Positive(t, l.byDirectory()["/b"].replicas.Load())
	s := reopenStore(t, l.Store)
	require.Equal(t, []string{"/a", "/b"}, directories(s))
	for n := 100; n < 140; n++ {
		requireContent(t, s, testID(n), pattern(uint64(n), 1000))
	}
}

func (l *lossy) byDirectory() map[string]*volume {
	found := map[string]*volume{}
	for _, v := range l.Store.volumes.all() {
		found[v.directory] = v
	}
	return found
}

func TestTheLastDiskIsNotRemoved(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	s.volumes.all()[0].noteError(syscall.EROFS)
	_, err := s.RemoveDisk("/d")
	require.ErrorIs(t, err, fault.TooFewNodes)
}

// TestPowerFailsWhileDisksChange: whatever a crash leaves, a start works and has all that was acknowledged; the disk is
// one of the node or not, and the change can be made again.
func TestPowerFailsWhileDisksChange(t *testing.T) {
	mem := simdisk.NewMem()
	newDirectories(t, mem, "/new", "/more")
	o := testOptions(mem)
	o.FailedVolumesTolerated = -1
	s := openStore(t, o)
	fill(t, s, 0, 3)
	type crash struct {
		left *simdisk.Mem
		at   string
	}
	var crashes []crash
	var mu sync.Mutex // the identity files are written side by side
	record := func(change string, run func()) {
		mem.OnChange(func(op simdisk.Op, name string) {
			mu.Lock()
			defer mu.Unlock()
			for seed, mode := range []simdisk.CrashMode{simdisk.CrashKeepAll, simdisk.CrashDropUnsynced,
				simdisk.CrashTornLast, simdisk.CrashSubset} {
				policy := simdisk.CrashPolicy{Mode: mode, Seed: uint64(len(crashes) + seed)}
				if len(crashes)%7 == seed || !slices.Contains([]simdisk.Op{simdisk.OpMkdir}, op) {
					crashes = append(crashes, crash{mem.CrashClone(policy), fmt.Sprint(change, op, name, mode)})
				}
			}
		})
		defer mem.OnChange(nil)
		run()
	}
	record("add", func() {
		_, err := s.AddDisk("/new")
		require.NoError(t, err)
	})
	s.volumes.all()[1].noteError(syscall.EROFS)
	record("replace", func() {
		_, err := s.ReplaceDisk("/new", "/more")
		require.NoError(t, err)
	})
	require.NotEmpty(t, crashes)
	for _, c := range crashes {
		after := testOptions(c.left)
		after.FailedVolumesTolerated = -1
		started, err := Open(after)
		require.NoError(t, err, c.at)
		for n := range 3 {
			requireContent(t, started, testID(n), pattern(uint64(n), 1000))
		}
		require.Contains(t, [][]string{{"/d"}, {"/d", "/new"}, {"/d", "/more"}}, directories(started), c.at)
		require.Len(t, started.volumes.all(), len(directories(started)), c.at)
		for _, name := range []string{"/new", "/more"} {
			require.NoError(t, c.left.MkdirAll(name, 0o755))
			_, err = started.AddDisk(name)
			require.NoError(t, err, c.at)
		}
		require.NoError(t, started.Close())
	}
}

// TestAListThatADiskMissedIsOverruled: the siblings of a removed disk that were away at that time do not bring it back.
func TestAListThatADiskMissedIsOverruled(t *testing.T) {
	l := startLossy(t)
	newDirectories(t, l.disks.memory["/a"], "/c")
	_, err := l.AddDisk("/c")
	require.NoError(t, err)
	l.byDirectory()["/b"].noteError(syscall.EROFS) // it misses what follows
	l.byDirectory()["/c"].noteError(syscall.EROFS)
	_, err = l.RemoveDisk("/c")
	require.NoError(t, err)
	s := reopenStore(t, l.Store)
	require.Equal(t, []string{"/a", "/b"}, directories(s), "the list of /b still has /c")
	require.Equal(t, chunk.Sealed, s.Replicas()[0].State)
}

// copyTo makes a whole copy of a sealed replica, as the copier does.
func (l *lossy) copyTo(n int) {
	w, err := l.Create(testID(n), 1, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
	require.NoError(l.t, err)
	mustAppend(l.t, w, pattern(uint64(n), 1000), true)
	mustSeal(l.t, w)
}

func TestADiskThatWorksDrainsBeforeItIsRemoved(t *testing.T) {
	l := startLossy(t)
	onB := l.on("/b")
	drain := func(s *Store) {
		s.monitor.check()
		s.monitor.group.Wait()
	}
	state, err := l.RemoveDisk("/b")
	require.NoError(t, err)
	require.Equal(t, datanode.VolumeDraining, state.Health)
	require.Zero(t, state.FreeBytes)
	told := map[chunk.ID]bool{}
	for len(told) < len(onB) {
		e := <-l.events
		require.True(t, e.Kind == Stored && e.Replica.Leaving)
		told[e.Replica.ID] = true
	}
	_, err = l.RemoveDisk("/a")
	require.ErrorIs(t, err, fault.TooFewNodes, "somebody must take what is new")
	_, err = l.ReplaceDisk("/b", "")
	require.ErrorIs(t, err, fault.Exists)
	fill(t, l.Store, 100, 120)
	require.Equal(t, int64(len(onB)), l.byDirectory()["/b"].replicas.Load(), "nothing new goes there")

	state, err = l.KeepDisk("/b")
	require.NoError(t, err)
	require.Equal(t, datanode.VolumeHealthy, state.Health)
	_, err = l.RemoveDisk("/b")
	require.NoError(t, err)
	l.Store = reopenStore(t, l.Store)
	l.copyTo(onB[0])
	drain(l.Store)
	require.Equal(t, []string{"/a", "/b"}, directories(l.Store), "a restart goes on with it")
	replica, err := l.Stat(testID(onB[0]))
	require.NoError(t, err)
	require.False(t, replica.Leaving, "it is on the other disk now")
	for _, n := range onB[1:] {
		requireContent(t, l.Store, testID(n), pattern(uint64(n), 1000))
		require.NoError(t, l.Delete(testID(n), 1))
	}
	drain(l.Store)
	require.Equal(t, []string{"/a"}, directories(l.Store))
	_, err = l.KeepDisk("/b")
	require.ErrorIs(t, err, fault.Exists)
	drain(l.Store)
	trashed, err := l.disks.memory["/b"].ReadDir("/b/trash")
	require.NoError(t, err)
	require.Len(t, trashed, len(onB), "its files stay")
	lock, err := l.disks.memory["/b"].Lock("/b/lock")
	require.NoError(t, err, "others may have it")
	require.NoError(t, lock.Close())
	requireContent(t, l.Store, testID(onB[0]), pattern(uint64(onB[0]), 1000))
	require.Equal(t, []string{"/a"}, directories(reopenStore(t, l.Store)))
}

func TestADrainingDiskThatFailsIsRemoved(t *testing.T) {
	l := startLossy(t)
	_, err := l.RemoveDisk("/b")
	require.NoError(t, err)
	l.byDirectory()["/b"].noteError(syscall.EROFS)
	l.monitor.check()
	l.monitor.group.Wait()
	require.Equal(t, []string{"/a"}, directories(l.Store))
}

// TestPowerFailsWhileAReplicaMovesOffADisk: there is always one of the two, whole.
func TestPowerFailsWhileAReplicaMovesOffADisk(t *testing.T) {
	mem := simdisk.NewMem()
	o := testOptions(mem)
	o.Directories = []string{"/b", "/a"}
	s := openStore(t, o)
	fill(t, s, 0, 20)
	l := &lossy{Store: s, t: t}
	moved := l.on("/b")[0]
	_, err := s.RemoveDisk("/b")
	require.NoError(t, err)
	var crashes []*simdisk.Mem
	var mu sync.Mutex
	mem.OnChange(func(simdisk.Op, string) {
		mu.Lock()
		defer mu.Unlock()
		for _, mode := range []simdisk.CrashMode{simdisk.CrashKeepAll, simdisk.CrashDropUnsynced, simdisk.CrashTornLast,
			simdisk.CrashSubset} {
			crashes = append(crashes, mem.CrashClone(simdisk.CrashPolicy{Mode: mode, Seed: uint64(len(crashes))}))
		}
	})
	l.copyTo(moved)
	mem.OnChange(nil)
	require.NotEmpty(t, crashes)
	onA := 0
	for _, left := range crashes {
		after := testOptions(left)
		after.Directories = o.Directories
		started, err := Open(after)
		require.NoError(t, err)
		requireContent(t, started, testID(moved), pattern(uint64(moved), 1000))
		if started.index.lookup(testID(moved)).volume.directory == "/a" {
			onA++
		}
		require.NoError(t, started.Close())
	}
	require.Positive(t, onA)
	require.Less(t, onA, len(crashes))
}
