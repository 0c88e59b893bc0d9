package disk

import (
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

// small creates a replica that is expected to become a record.
func createSmall(t testing.TB, s *Store, id chunk.ID, size int) *Writer {
	t.Helper()
	w, err := s.Create(id, 1, CreateOptions{ChunkSize: testChunkSize, SizeHint: int64(size)})
	require.NoError(t, err)
	return w
}

// storeSmall stores a replica in one job.
func storeSmall(t testing.TB, s *Store, id chunk.ID, data []byte) {
	t.Helper()
	length, err := run(createSmall(t, s, id, len(data)), Job{Data: data, Seal: true})
	require.NoError(t, err)
	require.EqualValues(t, len(data), length)
}

func files(t testing.TB, s *Store, id chunk.ID) (names []string) {
	t.Helper()
	for _, directory := range []string{"chunks/" + chunkfile.Shard(id[15]), quarantineDirectory} {
		entries, err := s.fs.ReadDir(path.Join("/d", directory))
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, directory+"/"+e.Name())
		}
	}
	return names
}

func segments(t testing.TB, s *Store) (names []string) {
	t.Helper()
	entries, err := s.fs.ReadDir("/d/packs")
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func isPacked(s *Store, id chunk.ID) bool {
	return s.index.lookup(id).snapshot().place.kind == inRecord
}

func TestSmallReplicasBecomeRecords(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	var told []Event
	o.OnEvent = func(e Event) { told = append(told, e) }
	s := openStore(t, o)
	sizes := []int{1, 511, 512, 4096, blockBytes - 1, blockBytes}
	for i, size := range sizes {
		storeSmall(t, s, testID(i), pattern(uint64(i), size))
	}
	require.Len(t, told, len(sizes))
	check := func() {
		t.Helper()
		require.Len(t, s.Replicas(), len(sizes))
		for i, size := range sizes {
			id := testID(i)
			require.True(t, isPacked(s, id))
			require.Empty(t, files(t, s, id))
			requireState(t, s, id, chunk.Replica{Generation: 1, Length: int64(size), State: chunk.Sealed})
			requireContent(t, s, id, pattern(uint64(i), size))
			require.NoError(t, s.VerifyReplica(id))
			_, err := s.Create(id, 1, CreateOptions{ChunkSize: testChunkSize})
			require.ErrorIs(t, err, fault.Exists)
			_, err = s.OpenReader(id, 2)
			require.ErrorIs(t, err, fault.StaleGeneration)
		}
	}
	check()
	require.Greater(t, len(segments(t, s)), 1, "a full segment is followed by another")
	s = reopenStore(t, s)
	check()
	// The same bytes have the same digest as a record and as a file.
	plain := mustCreate(t, s, testID(100))
	mustAppend(t, plain, pattern(5, blockBytes), false)
	mustSeal(t, plain)
	for i, id := range []chunk.ID{testID(5), testID(100)} {
		digest, err := s.Digest(id)
		require.NoError(t, err)
		first, err := s.Digest(testID(5))
		require.NoError(t, err)
		require.Equal(t, first, digest, "%d", i)
	}
	reader, err := s.OpenReader(testID(3), 1)
	require.NoError(t, err)
	defer reader.Close()
	got, err := reader.Range(100, 50)
	require.NoError(t, err)
	require.EqualValues(t, 4096, got.DataLength)
	require.EqualValues(t, testChunkSize, got.ChunkSize)
	got, err = reader.Range(4096, -1)
	require.NoError(t, err)
	require.Zero(t, got.DataLength)
	require.Empty(t, got.Sums)
}

// A reader gives the real file, for sendfile.
func TestRecordIsReadFromTheFileOfItsSegment(t *testing.T) {
	o := packOptions(vfs.OS{})
	o.Directories = []string{t.TempDir()}
	s := openStore(t, o)
	storeSmall(t, s, testID(1), pattern(1, 1000))
	storeSmall(t, s, testID(2), pattern(2, 5000))
	s = reopenStore(t, s)
	r, err := s.OpenReader(testID(2), 1)
	require.NoError(t, err)
	defer r.Close()
	file, base := r.File()
	got := make([]byte, 5000)
	_, err = file.ReadAt(got, base)
	require.NoError(t, err)
	require.Equal(t, pattern(2, 5000), got)
	require.EqualValues(t, 512+1536+512, base)
}

func TestWaitingRecordsShareOneSync(t *testing.T) {
	f := simdisk.NewFaulty(simdisk.NewMem())
	o := packOptions(f)
	o.PackSegmentBytes = 1 << 20
	s := openStore(t, o)
	var syncs atomic.Int32
	hold, entered := make(chan struct{}), make(chan struct{})
	defer f.Inject(simdisk.Rule{Op: simdisk.OpDatasync, Before: func() {
		if syncs.Add(1) == 1 {
			close(entered)
			<-hold
		}
	}})()
	const count = 50
	results := make(chan error, count)
	store := func(i int) {
		require.NoError(t, createSmall(t, s, testID(i), 100).Submit(Job{Data: pattern(uint64(i), 100), Seal: true,
			Done: func(_ int64, err error) { results <- err }}))
	}
	store(0)
	<-entered
	for i := 1; i < count; i++ {
		store(i)
	}
	// What is not durable yet is open and empty to everybody.
	requireState(t, s, testID(1), chunk.Replica{Generation: 1, State: chunk.Open})
	close(hold)
	for range count {
		require.NoError(t, <-results)
	}
	require.EqualValues(t, 2, syncs.Load())
	for i := range count {
		requireContent(t, s, testID(i), pattern(uint64(i), 100))
	}
}

// Whatever is not "all of it, sealed" makes an ordinary file, at any point.
func TestAnythingElseGivesTheReplicaAFile(t *testing.T) {
	data := pattern(1, 1000)
	for name, c := range map[string]struct {
		jobs  []Job
		state chunk.State
	}{
		"two packets":           {[]Job{{Data: data[:500]}, {Offset: 500, Data: data[500:], Seal: true}}, chunk.Sealed},
		"sync first":            {[]Job{{Sync: true}, {Data: data, Seal: true}}, chunk.Sealed},
		"data and sync":         {[]Job{{Data: data, Sync: true}}, chunk.Open},
		"closed without a seal": {[]Job{{Data: data, Close: true}}, chunk.Open},
		"more than was told":    {[]Job{{Data: pattern(1, blockBytes+1), Seal: true}}, chunk.Sealed},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, packOptions(simdisk.NewMem()))
			w := createSmall(t, s, testID(1), len(data))
			require.Empty(t, files(t, s, testID(1)))
			content := []byte(nil)
			for _, job := range c.jobs {
				_, err := run(w, job)
				require.NoError(t, err)
				content = append(content, job.Data...)
			}
			require.False(t, isPacked(s, testID(1)))
			require.Len(t, files(t, s, testID(1)), 1)
			requireState(t, s, testID(1), chunk.Replica{Generation: 1, Length: int64(len(content)), State: c.state})
			requireContent(t, s, testID(1), content)
		})
	}
	t.Run("wrong jobs", func(t *testing.T) {
		s := openStore(t, packOptions(simdisk.NewMem()))
		w := createSmall(t, s, testID(1), 100)
		_, err := run(w, Job{Offset: 5, Data: data, Seal: true})
		require.ErrorIs(t, err, fault.Invalid)
		w = createSmall(t, s, testID(2), 100)
		_, err = run(w, Job{Data: data, Seal: true})
		require.NoError(t, err)
		_, err = run(w, Job{Offset: 1000, Data: data})
		require.ErrorIs(t, err, fault.Closed)
	})
}

func TestReplicaInMemoryIsAnOpenOneToEverybody(t *testing.T) {
	open := chunk.Replica{Generation: 1, State: chunk.Open}
	for name, act := range map[string]func(s *Store, id chunk.ID) error{
		"read":    func(s *Store, id chunk.ID) error { _, err := readVerified(s, id); return err },
		"digest":  func(s *Store, id chunk.ID) error { _, err := s.Digest(id); return err },
		"recover": func(s *Store, id chunk.ID) error { _, _, err := s.BeginRecovery(id, 2); return err },
		"resume":  func(s *Store, id chunk.ID) error { _, err := s.Resume(id, 1, 2, 0); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, packOptions(simdisk.NewMem()))
			createSmall(t, s, testID(1), 10)
			requireState(t, s, testID(1), open)
			require.NoError(t, act(s, testID(1)))
			require.Len(t, files(t, s, testID(1)), 1)
		})
	}
	s := openStore(t, packOptions(simdisk.NewMem()))
	w := createSmall(t, s, testID(1), 10)
	require.ErrorIs(t, s.FinishRecovery(testID(1), 2, 0), fault.StaleGeneration, "nothing was promised")
	require.NoError(t, s.Delete(testID(1), 1))
	_, err := run(w, Job{Data: []byte("x"), Seal: true})
	require.ErrorIs(t, err, fault.NotFound)
	w = createSmall(t, s, testID(2), 10)
	require.NoError(t, s.Quarantine(testID(2), 1, "test"))
	requireState(t, s, testID(2), chunk.Replica{Generation: 1, State: chunk.Corrupt})
	_, err = run(w, Job{Data: []byte("x"), Seal: true})
	require.Error(t, err)
	createSmall(t, s, testID(3), 10)
	s = reopenStore(t, s)
	_, err = s.Stat(testID(3))
	require.ErrorIs(t, err, fault.NotFound, "nothing was promised")
}

// A writer that breaks off before its first byte leaves something to delete.
func TestReplicaThatIsLeftInMemoryIsTold(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	var told []Event
	o.OnEvent = func(e Event) { told = append(told, e) }
	s := openStore(t, o)
	w := createSmall(t, s, testID(1), 10)
	require.Empty(t, told)
	_, err := run(w, Job{Close: true})
	require.NoError(t, err)
	open := chunk.Replica{ID: testID(1), Generation: 1, State: chunk.Open}
	require.Equal(t, []Event{{Kind: Stored, Replica: open}}, told)
	require.NoError(t, s.Delete(testID(1), 1))
	require.Equal(t, Event{Kind: Removed, Replica: open}, told[1])
	require.Empty(t, files(t, s, testID(1)))
}

func TestHiddenReplicaIsHeldUntilItsSeal(t *testing.T) {
	s := openStore(t, packOptions(simdisk.NewMem()))
	hidden := func(n int) *Writer {
		w, err := s.Create(testID(n), 5, CreateOptions{ChunkSize: testChunkSize, SizeHint: 1000, Hidden: true})
		require.NoError(t, err)
		return w
	}
	data := pattern(1, 1000)
	w := hidden(1)
	mustAppend(t, w, data[:400], false)
	mustAppend(t, w, data[400:], false)
	_, err := s.Stat(testID(1))
	require.ErrorIs(t, err, fault.NotFound)
	mustSeal(t, w)
	require.True(t, isPacked(s, testID(1)))
	requireContent(t, s, testID(1), data)
	w = hidden(2)
	mustAppend(t, w, data, false)
	require.NoError(t, w.Publish())
	requireContent(t, s, testID(2), data)
	requireState(t, s, testID(2), chunk.Replica{Generation: 5, Length: 1000, State: chunk.Open})
	w = hidden(3)
	mustAppend(t, w, data, false)
	mustAppend(t, w, pattern(2, blockBytes), false) // more than a record holds
	mustSeal(t, w)
	requireContent(t, s, testID(3), append(data, pattern(2, blockBytes)...))
	w = hidden(4)
	mustAppend(t, w, data, false)
	require.NoError(t, s.Delete(testID(4), 5))
	require.Empty(t, files(t, s, testID(4)))
}

func TestRecordIsUnpackedBeforeItChanges(t *testing.T) {
	for _, size := range []int{0, 700, blockBytes} {
		data := pattern(1, size)
		prepare := func(t *testing.T) *Store {
			s := openStore(t, packOptions(simdisk.NewMem()))
			w := createSmall(t, s, testID(1), max(1, size))
			_, err := run(w, Job{Data: data, Seal: true})
			require.NoError(t, err)
			require.True(t, isPacked(s, testID(1)))
			return reopenStore(t, s)
		}
		t.Run("append", func(t *testing.T) {
			s := prepare(t)
			old, err := s.OpenReader(testID(1), 1)
			require.NoError(t, err)
			defer old.Close()
			w, err := s.Reopen(testID(1), 1, 2, int64(size))
			require.NoError(t, err)
			mustAppend(t, w, []byte("more"), false)
			mustSeal(t, w)
			want := append(append([]byte(nil), data...), "more"...)
			requireContent(t, s, testID(1), want)
			got, err := old.Range(0, -1) // an older reader keeps to what it opened
			require.NoError(t, err)
			require.EqualValues(t, size, got.DataLength)
			s = reopenStore(t, s)
			requireState(t, s, testID(1), chunk.Replica{Generation: 2, Length: int64(len(want)), State: chunk.Sealed})
			requireContent(t, s, testID(1), want)
		})
		t.Run("cut", func(t *testing.T) {
			s := prepare(t)
			w, err := s.Resume(testID(1), 1, 2, int64(size/2))
			require.NoError(t, err)
			mustSeal(t, w)
			requireContent(t, s, testID(1), data[:size/2])
		})
		t.Run("recovery", func(t *testing.T) {
			s := prepare(t)
			require.ErrorIs(t, s.FinishRecovery(testID(1), 3, 0), fault.StaleGeneration)
			require.True(t, isPacked(s, testID(1)))
			found, restarted, err := s.BeginRecovery(testID(1), 3)
			require.NoError(t, err)
			require.False(t, restarted)
			require.Equal(t, chunk.Sealed, found.State)
			s = reopenStore(t, s)
			_, err = s.Reopen(testID(1), 1, 2, int64(size))
			require.ErrorIs(t, err, fault.StaleGeneration, "the promise is kept")
			require.NoError(t, s.FinishRecovery(testID(1), 3, int64(size/2)))
			requireContent(t, s, testID(1), data[:size/2])
		})
	}
}

func TestDeletedRecordIsGoneAndItsSegmentFollows(t *testing.T) {
	m := simdisk.NewMem()
	o := packOptions(m)
	o.noCompactor = false
	fake := fakeclock.New(testTime)
	o.Clock = fake
	s := openStore(t, o)
	for i := range 4 { // two segments
		storeSmall(t, s, testID(i), pattern(uint64(i), 40_000))
	}
	require.Len(t, segments(t, s), 2)
	reader, err := s.OpenReader(testID(0), 1)
	require.NoError(t, err)
	defer reader.Close()
	require.ErrorIs(t, s.Delete(testID(0), 2), fault.StaleGeneration)
	require.NoError(t, s.Delete(testID(0), 1))
	require.ErrorIs(t, s.Delete(testID(0), 1), fault.NotFound)
	require.NoError(t, s.Delete(testID(1), 1))
	_, err = s.OpenReader(testID(0), 0)
	require.ErrorIs(t, err, fault.NotFound)
	s = reopenStore(t, s)
	_, err = s.Stat(testID(0))
	require.ErrorIs(t, err, fault.NotFound)
	require.Len(t, segments(t, s), 2, "the trash delay is not over")
	removed := make(chan struct{})
	m.OnChange(func(op simdisk.Op, name string) {
		if op == simdisk.OpRemove {
			close(removed)
		}
	})
	fake.Advance(time.Hour)
	<-removed
	require.Len(t, segments(t, s), 1)
	requireContent(t, s, testID(2), pattern(2, 40_000))
	m.OnChange(nil)
	storeSmall(t, s, testID(0), pattern(9, 10))
	requireContent(t, s, testID(0), pattern(9, 10))
}

// compactAll compacts every closed segment.
func compactAll(t testing.TB, s *Store) {
	t.Helper()
	for _, v := range s.volumes.all() {
		for _, g := range v.packs.Closed() {
			require.NoError(t, s.compactor.Compact(g, func(int64) bool { return true }))
		}
	}
}

func TestCompactionKeepsWhatLives(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	o.TrashDelay = 0
	o.PackSegmentBytes = 1 << 20
	s := openStore(t, o)
	const count = 200
	for i := range count {
		storeSmall(t, s, testID(i), pattern(uint64(i), 1+i*10))
	}
	s = reopenStore(t, s)
	before := segments(t, s)
	reader, err := s.OpenReader(testID(7), 1)
	require.NoError(t, err)
	defer reader.Close()
	for i := 0; i < count; i += 2 {
		require.NoError(t, s.Delete(testID(i), 1))
	}
	compactAll(t, s)
	after := segments(t, s)
	require.NotContains(t, after, before[0])
	check := func() {
		require.Len(t, s.Replicas(), count/2)
		for i := 1; i < count; i += 2 {
			requireContent(t, s, testID(i), pattern(uint64(i), 1+i*10))
		}
	}
	check()
	require.NoError(t, s.Delete(testID(1), 1))
	_, err = s.Stat(testID(1))
	require.ErrorIs(t, err, fault.NotFound)
	storeSmall(t, s, testID(1), pattern(1, 11))
	got := make([]byte, 71)
	_, err = reader.ReadAt(got, 0)
	require.NoError(t, err, "an unlinked segment stays readable to who has it")
	require.Equal(t, pattern(7, 71), got)
	s = reopenStore(t, s)
	check()
}

func TestRottenRecordGoesToQuarantine(t *testing.T) {
	for name, find := range map[string]func(s *Store) error{
		"verify": func(s *Store) error { return s.VerifyReplica(testID(1)) },
		"unpack": func(s *Store) error { _, err := s.Reopen(testID(1), 1, 2, 700); return err },
		"compact": func(s *Store) error {
			g := s.index.lookup(testID(1)).snapshot().place.segment
			if err := s.compactor.Compact(g, func(int64) bool { return true }); err != nil {
				return err
			}
			_, err := s.OpenReader(testID(1), 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := simdisk.NewMem()
			s := openStore(t, packOptions(m))
			storeSmall(t, s, testID(1), pattern(1, 700))
			storeSmall(t, s, testID(2), pattern(2, 700))
			s = reopenStore(t, s)
			f, err := m.OpenFile("/d/packs/"+segments(t, s)[0], os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{1}, 512+512+300)
			require.NoError(t, err)
			require.ErrorIs(t, find(s), fault.CorruptData)
			corrupt := chunk.Replica{Generation: 1, Length: 700, State: chunk.Corrupt}
			requireState(t, s, testID(1), corrupt)
			require.Len(t, files(t, s, testID(1)), 1)
			s = reopenStore(t, s)
			requireState(t, s, testID(1), corrupt)
			_, err = s.OpenReader(testID(1), 0)
			require.ErrorIs(t, err, fault.CorruptData)
			requireContent(t, s, testID(2), pattern(2, 700))
			require.NoError(t, s.Delete(testID(1), 1))
			require.True(t, strings.HasSuffix(files(t, s, testID(1))[0], forgottenSuffix))
		})
	}
}

// The file was made from the record, so it counts.
func TestFileWinsAgainstTheRecordItWasMadeFrom(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, packOptions(m))
	storeSmall(t, s, testID(1), pattern(1, 700))
	var between *simdisk.Mem
	m.OnChange(func(op simdisk.Op, name string) {
		if op == simdisk.OpSyncDir && between == nil {
			between = m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashDropUnsynced})
		}
	})
	_, _, err := s.BeginRecovery(testID(1), 2)
	require.NoError(t, err)
	m.OnChange(nil)
	s = openStore(t, packOptions(between))
	require.False(t, isPacked(s, testID(1)))
	requireContent(t, s, testID(1), pattern(1, 700))
	s = reopenStore(t, s)
	require.Len(t, s.Replicas(), 1)
	require.NoError(t, s.Delete(testID(1), 1))
	s = reopenStore(t, s)
	require.Empty(t, s.Replicas(), "the record does not come back")
}

func TestMemoryOfAReplicaIsKnown(t *testing.T) {
	// docs/format/pack.md says what an entry of the index costs.
	require.LessOrEqual(t, unsafe.Sizeof(replica{}), uintptr(256))
}

func TestPackOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"negative limit": func(o *Options) { o.PackBytesMax = -1 },
		"limit":          func(o *Options) { o.PackBytesMax = pack.DataBytesMax + 1 },
		"small segment":  func(o *Options) { o.PackSegmentBytes = pack.SegmentBytesMin - 1 },
		"large segment":  func(o *Options) { o.PackSegmentBytes = pack.SegmentBytesMax + 1 },
	} {
		o := packOptions(simdisk.NewMem())
		change(&o)
		_, err := Open(o)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
}

// Without a limit nothing becomes a record, and those that are there stay.
func TestPackingCanBeTurnedOff(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	s := openStore(t, o)
	storeSmall(t, s, testID(1), pattern(1, 10))
	require.NoError(t, s.Close())
	o.PackBytesMax = 0
	s = openStore(t, o)
	storeSmall(t, s, testID(2), pattern(2, 10))
	require.True(t, isPacked(s, testID(1)))
	require.False(t, isPacked(s, testID(2)))
	requireContent(t, s, testID(1), pattern(1, 10))
	requireContent(t, s, testID(2), pattern(2, 10))
}

func TestPackFaults(t *testing.T) {
	for name, c := range map[string]struct {
		rule simdisk.Rule
		kind fault.Kind
		left int // segments
	}{
		"append": {simdisk.Rule{Op: simdisk.OpWrite, Path: "*.pack", From: 2, Times: 1, Err: syscall.EIO,
			WriteBytes: 700}, fault.Disk, 2},
		"append, full": {simdisk.Rule{Op: simdisk.OpWrite, Path: "*.pack", Times: 2, From: 1, Err: syscall.ENOSPC,
			WriteBytes: 700}, fault.NoSpace, 2},
		"zeros": {simdisk.Rule{Op: simdisk.OpWrite, Path: "*.pack", Times: 1, Err: syscall.EIO}, fault.Disk, 2},
		"sync":  {simdisk.Rule{Op: simdisk.OpDatasync, Path: "*.pack", Times: 1, Err: syscall.EIO}, fault.Disk, 2},
		"sync, full": {simdisk.Rule{Op: simdisk.OpDatasync, Path: "*.pack", Times: 1, Err: syscall.ENOSPC},
			fault.NoSpace, 2},
		"next segment": {simdisk.Rule{Op: simdisk.OpOpen, Path: "*.pack", Times: 1, Err: syscall.EIO},
			fault.Disk, 2},
		"next segment's header": {simdisk.Rule{Op: simdisk.OpWrite, Path: "*.pack", Times: 1, Err: syscall.EIO},
			fault.Disk, 2},
		"name of a new segment": {simdisk.Rule{Op: simdisk.OpSyncDir, Path: packsDirectory, Times: 1, Err: syscall.EIO},
			fault.Disk, 3},
		"too many files are open": {simdisk.Rule{Op: simdisk.OpOpen, Path: "*.pack", Times: 1, Err: syscall.EMFILE},
			fault.Busy, 2},
	} {
		t.Run(name, func(t *testing.T) {
			m := simdisk.NewMem()
			f := simdisk.NewFaulty(m)
			o := packOptions(f)
			o.PackSegmentBytes = 1 << 20
			o.packZeroBytes = chunkfile.SectorBytes // they are used up at the next record
			var told []Event
			o.OnEvent = func(e Event) { told = append(told, e) }
			s := openStore(t, o)
			storeSmall(t, s, testID(1), pattern(1, 700))
			next := strings.Contains(name, "segment") || strings.Contains(name, "files")
			if next {
				s = reopenStore(t, s)
			}
			told = nil
			remove := f.Inject(c.rule)
			_, err := run(createSmall(t, s, testID(2), 900), Job{Data: pattern(2, 900), Seal: true})
			require.ErrorIs(t, err, c.kind)
			remove()
			_, err = s.Stat(testID(2))
			require.ErrorIs(t, err, fault.NotFound)
			require.Len(t, told, 1)
			require.Equal(t, Removed, told[0].Kind)
			require.Equal(t, c.kind == fault.Disk, s.Volumes()[0].Error != "")
			requireContent(t, s, testID(1), pattern(1, 700))
			// What follows goes to another segment, and to another replica.
			storeSmall(t, s, testID(3), pattern(3, 900))
			require.Len(t, segments(t, s), c.left)
			require.NotEqual(t, s.index.lookup(testID(1)).snapshot().place.segment,
				s.index.lookup(testID(3)).snapshot().place.segment)
			storeSmall(t, s, testID(2), pattern(4, 800))
			for _, crash := range []simdisk.CrashPolicy{{Mode: simdisk.CrashKeepAll}, {Mode: simdisk.CrashDropUnsynced},
				{Mode: simdisk.CrashTornLast}} {
				again := openStore(t, packOptions(m.CrashClone(crash)))
				requireContent(t, again, testID(1), pattern(1, 700))
				requireContent(t, again, testID(2), pattern(4, 800))
				requireContent(t, again, testID(3), pattern(3, 900))
			}
		})
	}
}

func TestFullDiskCutsTheSegmentToWhatWasAcknowledged(t *testing.T) {
	m := simdisk.NewMem()
	f := simdisk.NewFaulty(m)
	o := packOptions(f)
	s := openStore(t, o)
	storeSmall(t, s, testID(1), pattern(1, 700))
	g := s.index.lookup(testID(1)).snapshot().place.segment
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpWrite, Path: "*.pack", Err: syscall.ENOSPC, WriteBytes: 300})
	_, err := run(createSmall(t, s, testID(2), 900), Job{Data: pattern(2, 900), Seal: true})
	require.ErrorIs(t, err, fault.NoSpace)
	info, err := m.Stat(g.Path())
	require.NoError(t, err)
	require.EqualValues(t, chunkfile.SectorBytes+pack.RecordBytes(700), info.Size())
	require.Empty(t, s.Volumes()[0].Error, "a full disk is not a bad disk")
	requireContent(t, s, testID(1), pattern(1, 700))
	remove()
	require.NoError(t, s.Delete(testID(1), 1))
}

func TestRecordThatCannotBeStruckStays(t *testing.T) {
	m := simdisk.NewMem()
	f := simdisk.NewFaulty(m)
	o := packOptions(f)
	o.VolumeErrorsMax = 9
	s := openStore(t, o)
	storeSmall(t, s, testID(1), pattern(1, 700))
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpWrite, Path: "*.pack", Err: syscall.EIO})
	require.ErrorIs(t, s.Delete(testID(1), 1), fault.Disk)
	requireContent(t, s, testID(1), pattern(1, 700))
	require.NoError(t, s.Quarantine(testID(1), 1, "test"), "out of service all the same")
	requireState(t, s, testID(1), chunk.Replica{Generation: 1, Length: 700, State: chunk.Corrupt})
	require.ErrorIs(t, s.Delete(testID(1), 1), fault.Disk)
	remove()
	require.NoError(t, s.Delete(testID(1), 1))
	s = reopenStore(t, s)
	_, err := s.OpenReader(testID(1), 0)
	require.Error(t, err)
}

func TestUnpackFails(t *testing.T) {
	for name, rule := range map[string]simdisk.Rule{
		"open segment":   {Op: simdisk.OpOpen, Path: "*.pack", Err: syscall.EIO},
		"read":           {Op: simdisk.OpRead, Path: "*.pack", Err: syscall.EIO},
		"create":         {Op: simdisk.OpOpen, Path: "*.copy", Err: syscall.EIO},
		"write":          {Op: simdisk.OpWrite, Path: "*.copy", Err: syscall.EIO, WriteBytes: 100},
		"fdatasync":      {Op: simdisk.OpDatasync, Path: "*.copy", Err: syscall.EIO},
		"rename":         {Op: simdisk.OpRename, Err: syscall.EIO},
		"sync directory": {Op: simdisk.OpSyncDir, Err: syscall.EIO},
		"strike":         {Op: simdisk.OpWrite, Path: "*.pack", Err: syscall.EIO},
		"sync strike":    {Op: simdisk.OpDatasync, Path: "*.pack", Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			m := simdisk.NewMem()
			f := simdisk.NewFaulty(m)
			s := openStore(t, packOptions(f))
			storeSmall(t, s, testID(1), pattern(1, 700))
			s = reopenStore(t, s)
			s.files.Detach(&s.index.lookup(testID(1)).view.place.segment.Owner)
			remove := f.Inject(rule)
			_, err := s.Reopen(testID(1), 1, 2, 700)
			require.ErrorIs(t, err, fault.Disk)
			remove()
			requireContent(t, s, testID(1), pattern(1, 700))
			requireState(t, s, testID(1), chunk.Replica{Generation: 1, Length: 700, State: chunk.Sealed})
			for _, crash := range []simdisk.CrashPolicy{{Mode: simdisk.CrashKeepAll}, {Mode: simdisk.CrashDropUnsynced},
				{Mode: simdisk.CrashSubset, Seed: 3}} {
				again := openStore(t, packOptions(m.CrashClone(crash)))
				requireContent(t, again, testID(1), pattern(1, 700))
				w, err := again.Reopen(testID(1), 1, 2, 700)
				require.NoError(t, err)
				mustSeal(t, w)
			}
		})
	}
}

func TestCompactionThatFailsLosesNothing(t *testing.T) {
	for name, rule := range map[string]simdisk.Rule{
		"read":       {Op: simdisk.OpRead, Path: "*.pack", Err: syscall.EIO},
		"new copy":   {Op: simdisk.OpDatasync, Path: "*.pack", Err: syscall.EIO, Times: 1},
		"strike old": {Op: simdisk.OpWrite, Path: "*1_*.pack", Err: syscall.EIO},
		"unlink":     {Op: simdisk.OpRemove, Err: syscall.EIO},
		"directory":  {Op: simdisk.OpSyncDir, Path: packsDirectory, From: 2, Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			m := simdisk.NewMem()
			f := simdisk.NewFaulty(m)
			o := packOptions(f)
			o.PackSegmentBytes = 1 << 20
			s := openStore(t, o)
			for i := range 10 {
				storeSmall(t, s, testID(i), pattern(uint64(i), 700))
			}
			s = reopenStore(t, s)
			g := s.index.lookup(testID(1)).snapshot().place.segment
			remove := f.Inject(rule)
			require.Error(t, s.compactor.Compact(g, func(int64) bool { return true }))
			remove()
			check := func(s *Store) {
				t.Helper()
				require.Len(t, s.Replicas(), 10)
				for i := range 10 {
					requireContent(t, s, testID(i), pattern(uint64(i), 700))
				}
			}
			check(s)
			for _, crash := range []simdisk.CrashPolicy{{Mode: simdisk.CrashKeepAll}, {Mode: simdisk.CrashDropUnsynced},
				{Mode: simdisk.CrashTornLast}} {
				check(openStore(t, packOptions(m.CrashClone(crash))))
			}
			require.NoError(t, s.compactor.Compact(g, func(int64) bool { return true }))
			check(s)
		})
	}
	s := openStore(t, packOptions(simdisk.NewMem()))
	storeSmall(t, s, testID(1), pattern(1, 700))
	s = reopenStore(t, s)
	g := s.index.lookup(testID(1)).snapshot().place.segment
	require.ErrorIs(t, s.compactor.Compact(g, func(int64) bool { return false }), pack.ErrStopped)
	requireContent(t, s, testID(1), pattern(1, 700))
}

func TestPacksThatCannotBeScannedStopTheStart(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, packOptions(m))
	storeSmall(t, s, testID(1), pattern(1, 700))
	require.NoError(t, s.Close())
	for name, rule := range map[string]simdisk.Rule{
		"list":      {Op: simdisk.OpReadDir, Path: packsDirectory, Err: syscall.EIO},
		"open":      {Op: simdisk.OpOpen, Path: "*.pack", Err: syscall.EIO},
		"stat":      {Op: simdisk.OpStat, Path: "*.pack", Err: syscall.EIO},
		"read":      {Op: simdisk.OpRead, Path: "*.pack", Err: syscall.EIO},
		"read more": {Op: simdisk.OpRead, Path: "*.pack", From: 2, Err: syscall.EIO},
		"read data": {Op: simdisk.OpRead, Path: "*.pack", From: 3, Err: syscall.EIO},
		"sync":      {Op: simdisk.OpDatasync, Path: "*.pack", Err: syscall.EIO},
		"directory": {Op: simdisk.OpSyncDir, Path: packsDirectory, Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			f := simdisk.NewFaulty(m)
			defer f.Inject(rule)()
			_, err := Open(packOptions(f))
			require.ErrorIs(t, err, fault.Disk)
		})
	}
	requireContent(t, openStore(t, packOptions(m)), testID(1), pattern(1, 700))
}

func TestVolumeWithRecordsAndNoIdentityIsRefused(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, packOptions(m))
	storeSmall(t, s, testID(1), pattern(1, 700))
	require.NoError(t, s.Close())
	require.NoError(t, m.Remove("/d/identity"))
	_, err := Open(packOptions(m))
	require.ErrorIs(t, err, fault.Invalid)
}

func TestManyWritersShareThePackers(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	o.Directories = []string{"/d", "/e"}
	o.WorkersPerVolume = 4
	o.noCompactor = false
	o.TrashDelay = 0
	s := openStore(t, o)
	done := make(chan error, 16)
	for worker := range 16 {
		go func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for i := range 40 {
				id := testID(worker*100 + i)
				data := pattern(uint64(i), 1+random.IntN(3000))
				w, err := s.Create(id, 1, CreateOptions{ChunkSize: testChunkSize, SizeHint: int64(len(data))})
				if err == nil {
					_, err = run(w, Job{Data: data, Seal: true})
				}
				if err == nil && random.IntN(2) == 0 {
					err = s.Delete(id, 1)
				} else if err == nil {
					_, err = readVerified(s, id)
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 16 {
		require.NoError(t, <-done)
	}
	left := len(s.Replicas())
	s = reopenStore(t, s)
	require.Len(t, s.Replicas(), left)
	for _, r := range s.Replicas() {
		require.NoError(t, s.VerifyReplica(r.ID))
	}
}

func TestCreateSmallDoesNoIO(t *testing.T) {
	f := simdisk.NewFaulty(simdisk.NewMem())
	fake := fakeclock.New(testTime)
	o := packOptions(f)
	o.Clock = fake
	s := openStore(t, o)
	small := CreateOptions{ChunkSize: testChunkSize, SizeHint: 100}
	create := func(n int) (*Writer, bool, error) { return s.CreateSmall(testID(n), 1, small) }
	_, ok, err := create(1)
	require.NoError(t, err)
	require.False(t, ok, "nobody has asked for the room yet")
	storeSmall(t, s, testID(0), pattern(0, 10))
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpStatFS, Err: syscall.EIO})
	w, ok, err := create(1)
	require.NoError(t, err)
	require.True(t, ok)
	_, err = run(w, Job{Data: pattern(1, 100), Seal: true})
	require.NoError(t, err)
	requireContent(t, s, testID(1), pattern(1, 100))
	_, ok, err = create(1)
	require.True(t, ok)
	require.ErrorIs(t, err, fault.Exists)
	for name, o := range map[string]CreateOptions{
		"no hint": {ChunkSize: testChunkSize}, "large": {ChunkSize: testChunkSize, SizeHint: pack.DataBytesMax + 1},
		"invalid": {ChunkSize: 5, SizeHint: 1},
	} {
		_, ok, err := s.CreateSmall(testID(2), 1, o)
		require.NoError(t, err, name)
		require.False(t, ok, name)
	}
	fake.Advance(spaceAgeMax + 1)
	_, ok, err = create(3)
	require.NoError(t, err)
	require.False(t, ok, "the room is not known any more")
	remove()
}
