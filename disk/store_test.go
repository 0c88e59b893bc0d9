package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"no volume":        func(o *Options) { o.Directories = nil },
		"negative workers": func(o *Options) { o.WorkersPerVolume = -1 },
		"huge queue":       func(o *Options) { o.QueueDepth = 1 << 30 },
		"negative step":    func(o *Options) { o.WriteoutStepBytes = -1 },
		"negative reserve": func(o *Options) { o.ReserveBytes = -1 },
		"negative delay":   func(o *Options) { o.TrashDelay = -1 },
	} {
		o := testOptions(simdisk.NewMem())
		change(&o)
		_, err := Open(o)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	s, err := Open(Options{Directories: []string{path.Join(t.TempDir(), "a", "b")}})
	require.NoError(t, err, "everything else has a default")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "again")
}

func TestCreateIsChecked(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	for _, size := range []int64{0, blockBytes + 1, chunk.SizeMax + blockBytes} {
		_, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: size})
		require.ErrorIs(t, err, fault.Invalid)
	}
	_, err := s.Create(testID(1), 0, CreateOptions{ChunkSize: testChunkSize})
	require.ErrorIs(t, err, fault.Invalid)
	w := mustCreate(t, s, testID(1))
	_, err = s.Create(testID(1), 2, CreateOptions{ChunkSize: testChunkSize})
	require.ErrorIs(t, err, fault.Exists)
	_, err = run(w, Job{Data: make([]byte, JobBytesMax+1)})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = run(w, Job{Data: make([]byte, testChunkSize+1)})
	require.ErrorIs(t, err, fault.Invalid)
}

// TestRealFiles runs the life of a replica on the machine's file system.
func TestRealFiles(t *testing.T) {
	directory := t.TempDir()
	o := testOptions(vfs.OS{})
	o.Directories = []string{directory}
	o.WriteoutStepBytes = 1 << 20
	s := openStore(t, o)
	data := pattern(1, 5<<20+12345)
	id := testID(1)
	w, err := s.Create(id, 1, CreateOptions{ChunkSize: 8 << 20, SizeHint: 8 << 20})
	require.NoError(t, err)
	mustAppend(t, w, data, false)
	requireContent(t, s, id, data)
	_, err = run(w, Job{Offset: w.Length(), Sync: true})
	require.NoError(t, err)
	mustSeal(t, w)
	requireState(t, s, id, chunk.Replica{Generation: 1, Length: int64(len(data)), State: chunk.Sealed})

	r, err := s.OpenReader(id, 1)
	require.NoError(t, err)
	f, base := r.File()
	got := make([]byte, len(data))
	_, err = f.ReadAt(got, base)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got), "the file is that for sendfile")
	require.NoError(t, s.Delete(id, 1))
	_, err = f.ReadAt(got[:10], base)
	require.NoError(t, err, "a deleted replica can be read to the end")
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())

	// Cut off while open.
	w, err = s.Create(testID(2), 1, CreateOptions{ChunkSize: 8 << 20, SizeHint: 8 << 20})
	require.NoError(t, err)
	mustAppend(t, w, data, false)
	s = reopenStore(t, s)
	requireState(t, s, testID(2), chunk.Replica{Generation: 1, Length: int64(len(data)), State: chunk.Recovered})
	requireContent(t, s, testID(2), data)
	require.NoError(t, s.VerifyReplica(testID(2)))
	files, err := os.ReadDir(path.Join(directory, trashDirectory))
	require.NoError(t, err)
	require.Len(t, files, 1)
}

func TestRangeIsRoundedOutToBlocks(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	const length = 2*blockBytes + 100
	data := pattern(1, length)
	w := mustCreate(t, s, testID(1))
	mustAppend(t, w, data, false)
	r, err := s.OpenReader(testID(1), 0)
	require.NoError(t, err)
	defer r.Close()
	for _, c := range []struct{ offset, length, dataOffset, dataLength int64 }{
		{0, -1, 0, length},
		{0, 1, 0, blockBytes},
		{0, 0, 0, 0},
		{blockBytes - 1, 2, 0, 2 * blockBytes},
		{blockBytes, blockBytes, blockBytes, blockBytes},
		{2*blockBytes + 99, 1, 2 * blockBytes, 100},
		{2*blockBytes + 99, 1 << 60, 2 * blockBytes, 100},
		{length, -1, 2 * blockBytes, 0},
		{1 << 60, 5, 2 * blockBytes, 0},
	} {
		got, err := r.Range(c.offset, c.length)
		require.NoError(t, err)
		require.Equal(t, c.dataOffset, got.DataOffset, "%+v", c)
		require.Equal(t, c.dataLength, got.DataLength, "%+v", c)
		require.EqualValues(t, length, got.ReplicaLength)
		require.Equal(t, chunk.Open, got.State)
		var want []byte
		for at := c.dataOffset; at < c.dataOffset+c.dataLength; at += blockBytes {
			want = binary.LittleEndian.AppendUint64(want, xxh3.Hash(data[at:min(at+blockBytes, length)]))
		}
		require.True(t, bytes.Equal(want, got.Sums), "%+v", c)
	}
	for _, c := range [][2]int64{{-1, 1}, {0, -2}} {
		_, err := r.Range(c[0], c[1])
		require.ErrorIs(t, err, fault.Invalid)
	}
	p := make([]byte, 200)
	n, err := r.ReadAt(p, length-50)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 50, n)
	_, err = r.ReadAt(p, -1)
	require.ErrorIs(t, err, fault.Invalid)
	n, err = r.ReadAt(p, length)
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, n)
	mustAppend(t, w, []byte("more"), false)
	got, err := r.Range(length, -1)
	require.NoError(t, err)
	require.EqualValues(t, 104, got.DataLength, "a reader sees what was flushed since")
}

func TestRangeIsBounded(t *testing.T) {
	v := snapshot{End: chunkfile.End{Length: chunk.SizeMax - 5}}
	got := v.around(blockBytes+1, -1)
	require.EqualValues(t, RangeBlocksMax*blockBytes, got.DataLength)
	require.EqualValues(t, blockBytes, got.DataOffset)
}

func TestReaderIsRefused(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	_, err := s.OpenReader(testID(1), 0)
	require.ErrorIs(t, err, fault.NotFound)
	mustSeal(t, mustCreate(t, s, testID(1)))
	_, err = s.OpenReader(testID(1), 2)
	require.ErrorIs(t, err, fault.StaleGeneration)
	r, err := s.OpenReader(testID(1), 1)
	require.NoError(t, err)
	require.NoError(t, s.Quarantine(testID(1), 1, "test"))
	_, err = r.Range(0, -1)
	require.ErrorIs(t, err, fault.CorruptData)
	require.NoError(t, r.Close())
	_, err = s.OpenReader(testID(1), 1)
	require.ErrorIs(t, err, fault.CorruptData)
}

// flip changes one byte of a replica's file.
func flip(t *testing.T, s *Store, id chunk.ID, offset int64) {
	t.Helper()
	f, err := s.fs.OpenFile(s.index.lookup(id).path(), os.O_RDWR, 0)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, offset)
	require.NoError(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, offset)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestBitRotEndsInQuarantine(t *testing.T) {
	const length = 2*blockBytes + 100
	base := chunkfile.Layout{ChunkSize: testChunkSize}.DataOffset()
	for name, c := range map[string]struct {
		offset int64
		find   func(s *Store) error
	}{
		"first block":   {base + 7, func(s *Store) error { return s.VerifyReplica(testID(1)) }},
		"partial block": {base + 2*blockBytes + 99, func(s *Store) error { return s.VerifyReplica(testID(1)) }},
		"sum":           {4*chunkfile.SectorBytes + 9, func(s *Store) error { return s.VerifyReplica(testID(1)) }},
		"header":        {3, func(s *Store) error { _, err := s.OpenReader(testID(1), 0); return err }},
		"slot": {chunkfile.SectorBytes*2 + 60,
			func(s *Store) error { _, err := s.Digest(testID(1)); return err }},
		"append to it": {base + 2*blockBytes, func(s *Store) error {
			_, err := s.Reopen(testID(1), 1, 2,
				length)
			return err
		}},
		"cut in it": {base + blockBytes + 100, func(s *Store) error {
			_, err := s.Resume(testID(1), 1, 2,
				blockBytes+50)
			return err
		}},
		"recover it": {base + 2*blockBytes, func(s *Store) error {
			_, _, err := s.BeginRecovery(testID(1), 2)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(simdisk.NewMem())
			var events []Event
			o.OnEvent = func(e Event) { events = append(events, e) }
			s := openStore(t, o)
			w := mustCreate(t, s, testID(1))
			mustAppend(t, w, pattern(1, length), false)
			mustSeal(t, w)
			s = reopenStore(t, s)
			events = nil
			flip(t, s, testID(1), c.offset)
			require.ErrorIs(t, c.find(s), fault.CorruptData)
			want := chunk.Replica{ID: testID(1), Generation: 1, Length: length, State: chunk.Corrupt}
			require.Len(t, events, 1)
			require.Equal(t, Corrupt, events[0].Kind)
			require.Equal(t, want, events[0].Replica)
			require.NotEmpty(t, events[0].Reason)
			for range 2 { // also after a restart
				got, err := s.Stat(testID(1))
				require.NoError(t, err)
				require.Equal(t, want, got)
				require.ErrorIs(t, c.find(s), fault.CorruptData)
				s = reopenStore(t, s)
			}
			kept, err := s.fs.ReadDir("/d/" + quarantineDirectory)
			require.NoError(t, err)
			require.Len(t, kept, 1)

			// Repair brings a good copy; later both are deleted.
			mustSeal(t, mustCreate(t, s, testID(1)))
			s = reopenStore(t, s)
			requireContent(t, s, testID(1), []byte{})
			require.EqualValues(t, 1, s.Volumes()[0].Replicas)
			require.NoError(t, s.Delete(testID(1), 1))
			s = reopenStore(t, s)
			if corrupt, err := s.Stat(testID(1)); err == nil {
				require.Equal(t, want, corrupt)
				require.NoError(t, s.Delete(testID(1), 1))
			}
			s = reopenStore(t, s)
			require.Empty(t, s.Replicas())
			kept, err = s.fs.ReadDir("/d/" + quarantineDirectory)
			require.NoError(t, err)
			require.Len(t, kept, 1, "a file in quarantine is never deleted")
		})
	}
}

func TestQuarantineIsForTheNamedGeneration(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	require.ErrorIs(t, s.Quarantine(testID(1), 1, "test"), fault.NotFound)
	w := mustCreate(t, s, testID(1))
	require.ErrorIs(t, s.Quarantine(testID(1), 2, "test"), fault.StaleGeneration)
	require.NoError(t, s.Quarantine(testID(1), 1, "test"))
	require.NoError(t, s.Quarantine(testID(1), 1, "test"))
	_, err := run(w, Job{Data: []byte("x")})
	require.ErrorIs(t, err, fault.StaleGeneration)
	_, err = s.Resume(testID(1), 1, 2, 0)
	require.ErrorIs(t, err, fault.CorruptData)
}

func TestDigestFollowsFromTheBytes(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	data := pattern(1, blockBytes+77)
	one, other := mustCreate(t, s, testID(1)), mustCreate(t, s, testID(2))
	mustAppend(t, one, data, false)
	for _, b := range data[:500] {
		mustAppend(t, other, []byte{b}, false)
	}
	mustAppend(t, other, data[500:], true)
	mustSeal(t, one)
	want, err := s.Digest(testID(1))
	require.NoError(t, err)
	var sums []byte
	for _, b := range [][]byte{data[:blockBytes], data[blockBytes:]} {
		sums = binary.LittleEndian.AppendUint64(sums, xxh3.Hash(b))
	}
	require.Equal(t, xxh3.Hash(binary.LittleEndian.AppendUint64(sums, uint64(len(data)))), want)
	got, err := s.Digest(testID(2))
	require.NoError(t, err)
	require.Equal(t, want, got)
	mustAppend(t, other, []byte("x"), false)
	got, err = s.Digest(testID(2))
	require.NoError(t, err)
	require.NotEqual(t, want, got)
	_, err = s.Digest(testID(3))
	require.ErrorIs(t, err, fault.NotFound)
}

func TestTrashIsUnlinkedAfterItsDelay(t *testing.T) {
	m := simdisk.NewMem()
	o := testOptions(m)
	fake := o.Clock.(*fakeclock.Clock)
	removed := make(chan string, 10)
	m.OnChange(func(op simdisk.Op, name string) {
		if op == simdisk.OpRemove {
			removed <- name
		}
	})
	s := openStore(t, o)
	for n := range 3 {
		mustSeal(t, mustCreate(t, s, testID(n)))
		require.NoError(t, s.Delete(testID(n), 1))
		require.ErrorIs(t, s.Delete(testID(n), 1), fault.NotFound)
		if n == 0 {
			fake.Advance(30 * time.Minute)
			s = reopenStore(t, s) // the delay goes on
		}
	}
	inTrash := func() int {
		list, err := m.ReadDir("/d/trash")
		require.NoError(t, err)
		return len(list)
	}
	require.Equal(t, 3, inTrash())
	s = reopenStore(t, s)
	advance(s, fake, 30*time.Minute, removed)
	require.Equal(t, 2, inTrash())
	advance(s, fake, 30*time.Minute, removed)
	<-removed
	require.Zero(t, inTrash())
	require.Empty(t, s.Replicas())
}

// advance moves the clock and wakes the janitor, which may have been about to set
// its timer by the old time, until it has unlinked something.
func advance(s *Store, fake *fakeclock.Clock, by time.Duration, removed <-chan string) {
	fake.Advance(by)
	for {
		select {
		case <-removed:
			return
		case s.trash.wake <- struct{}{}:
		}
	}
}

func TestZeroTrashDelayUnlinksAtOnce(t *testing.T) {
	m := simdisk.NewMem()
	o := testOptions(m)
	o.TrashDelay = 0
	removed := make(chan struct{}, 1)
	m.OnChange(func(op simdisk.Op, _ string) {
		if op == simdisk.OpRemove {
			removed <- struct{}{}
		}
	})
	s := openStore(t, o)
	mustSeal(t, mustCreate(t, s, testID(1)))
	require.NoError(t, s.Delete(testID(1), 1))
	<-removed
}

// TestMembershipEndsWithTheStore: its volumes are unlocked by Close and may be another process's. An agent whose
// stream is not over yet may still hear of an epoch.
func TestMembershipEndsWithTheStore(t *testing.T) {
	fsys := simdisk.NewMem()
	s := openStore(t, testOptions(fsys))
	require.NoError(t, s.ObserveEpoch(3, 7))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.ObserveEpoch(4, 9), fault.Closed)
	require.ErrorIs(t, s.Join("c1"), fault.Closed)
	again := openStore(t, testOptions(fsys)).Identity()
	require.EqualValues(t, 3, again.HighestEpoch)
	require.Empty(t, again.ClusterID)
}

func TestVolumesBelongTogether(t *testing.T) {
	m := simdisk.NewMem()
	o := testOptions(m)
	s := openStore(t, o)
	require.NotEmpty(t, s.Identity().NodeID)
	require.Empty(t, s.Identity().ClusterID)
	_, err := Open(o)
	require.ErrorIs(t, err, fault.Busy, "the volume is locked")
	require.ErrorIs(t, s.Join(""), fault.Invalid)
	require.NoError(t, s.Join("c1"))
	require.NoError(t, s.Join("c1"))
	require.ErrorIs(t, s.Join("c2"), fault.Invalid)
	require.NoError(t, s.ObserveEpoch(3, 100))
	require.NoError(t, s.ObserveEpoch(3, 90))
	require.NoError(t, s.ObserveEpoch(4, 50))
	require.ErrorIs(t, s.ObserveEpoch(3, 200), fault.Fenced)
	want := s.Identity()
	require.Equal(t, datanode.Identity{NodeID: want.NodeID, ClusterID: "c1", HighestEpoch: 4, HighestTxid: 100}, want)
	require.NoError(t, s.Close())

	o.Directories = []string{"/d", "/e"} // a new disk joins
	s = openStore(t, o)
	require.Equal(t, want, s.Identity())
	volumes := s.Volumes()
	require.NotEqual(t, volumes[0].ID, volumes[1].ID)
	require.NoError(t, s.Close())
	o.Directories = []string{"/e"} // it knows everything alone
	s = openStore(t, o)
	require.Equal(t, want, s.Identity())
	require.NoError(t, s.Close())

	o.Directories = []string{"/other"}
	o.Random = bytes.NewReader(pattern(9, 100))
	other := openStore(t, o)
	require.NoError(t, other.Close())
	o.Directories = []string{"/d", "/other"}
	_, err = Open(o)
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "node")

	rewrite := func(directory string, change func(v *volumeIdentity)) {
		v, ok, err := readIdentity(m, path.Join(directory, identityName))
		require.True(t, ok)
		require.NoError(t, err)
		change(&v)
		require.NoError(t, writeIdentity(m, path.Join(directory, identityName), v))
	}
	rewrite("/other", func(v *volumeIdentity) { v.NodeID, v.ClusterID = want.NodeID, "c9" })
	_, err = Open(o)
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "c9")
	rewrite("/other", func(v *volumeIdentity) { v.ClusterID, v.VolumeID = "", volumes[0].ID })
	_, err = Open(o)
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "copy")
	rewrite("/other", func(v *volumeIdentity) { v.VolumeID = "v9" })
	openStore(t, o)
}

func TestVolumeWithoutOrWithBadIdentityIsRefused(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, testOptions(m))
	mustSeal(t, mustCreate(t, s, testID(1)))
	require.NoError(t, s.Close())
	f, err := m.OpenFile("/d/identity", os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("#"), 30)
	require.NoError(t, err)
	_, err = Open(testOptions(m))
	require.ErrorIs(t, err, fault.CorruptData)
	require.NoError(t, m.Remove("/d/identity"))
	_, err = Open(testOptions(m))
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "nobody knows")
	require.NoError(t, m.Remove("/d/chunks/01/"+testID(1).String()+"_1_0.chunk"))
	openStore(t, testOptions(m)) // an empty tree is one that a first start left
}

func TestPlacementFollowsRoomHealthAndReserve(t *testing.T) {
	spaces := map[string]vfs.Space{
		"/a": {Capacity: 100 << 30, Free: 10 << 30}, "/b": {Capacity: 100 << 30, Free: 30 << 30},
		"/c": {Capacity: 100 << 30, Free: 1 << 30},
	}
	o := testOptions(spacedFS{simdisk.NewMem(), spaces})
	o.Directories = []string{"/a", "/b", "/c"}
	o.ReserveBytes = 1 << 30
	s := openStore(t, o)
	count := map[string]int{}
	for n := range 1000 {
		v, err := s.volumes.choose(testID(n), 1<<20, s.volumes.space)
		require.NoError(t, err)
		count[v.directory]++
		again, err := s.volumes.choose(testID(n), 1<<20, s.volumes.space)
		require.NoError(t, err)
		require.Same(t, v, again)
	}
	require.Zero(t, count["/c"], "only its reserve is left")
	require.InDelta(t, 1000*9/38, count["/a"], 60)
	v, err := s.volumes.choose(testID(1), 20<<30, s.volumes.space)
	require.NoError(t, err)
	require.Equal(t, "/b", v.directory)
	_, err = s.Create(testID(1), 1, CreateOptions{ChunkSize: chunk.SizeMax, SizeHint: 1 << 30})
	require.NoError(t, err)
	_, err = s.volumes.choose(testID(1), 40<<30, s.volumes.space)
	require.ErrorIs(t, err, fault.NoSpace)
	s.volumes.all()[1].noteError(syscall.EROFS)
	v, err = s.volumes.choose(testID(1), 0, s.volumes.space)
	require.NoError(t, err)
	require.Equal(t, "/a", v.directory)
	require.EqualValues(t, 9<<30, s.Volumes()[0].FreeBytes)
	require.EqualValues(t, 1<<30, s.Volumes()[0].ReserveBytes)
	require.EqualValues(t, spaces["/a"].Capacity-spaces["/a"].Free, s.Volumes()[0].UsedBytes)
}

// spacedFS tells a made-up room for each volume.
type spacedFS struct {
	*simdisk.Mem
	spaces map[string]vfs.Space
}

func (f spacedFS) StatFS(name string) (vfs.Space, error) { return f.spaces[name], nil }

func TestForeignAndSurplusFilesAreLeftAlone(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, testOptions(m))
	w := mustCreate(t, s, testID(1))
	mustAppend(t, w, []byte("abc"), true)
	mustSeal(t, w)
	require.NoError(t, s.Close())
	put := func(name string) {
		f, err := m.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	put("/d/chunks/01/notes.txt")
	put("/d/chunks/02/" + testID(1).String() + "_9.open") // not its directory
	put("/d/chunks/01/" + testID(1).String() + "_1.open") // beside the sealed one
	put("/d/trash/notes.txt")
	put("/d/quarantine/notes.txt")
	s = openStore(t, testOptions(m))
	requireContent(t, s, testID(1), []byte("abc"))
	require.Len(t, s.Replicas(), 1)
	for _, name := range []string{"/d/chunks/01/notes.txt", "/d/chunks/02/" + testID(1).String() + "_9.open",
		"/d/trash/notes.txt"} {
		_, err := m.Stat(name)
		require.NoError(t, err)
	}
	list, err := m.ReadDir("/d/quarantine")
	require.NoError(t, err)
	require.Len(t, list, 2, "the surplus file was set aside")
}

func TestFutureFormatIsRefusedAndKept(t *testing.T) {
	for name, sealed := range map[string]bool{"open": false, "sealed": true} {
		t.Run(name, func(t *testing.T) {
			m := simdisk.NewMem()
			s := openStore(t, testOptions(m))
			w := mustCreate(t, s, testID(1))
			mustAppend(t, w, []byte("abc"), true)
			if sealed {
				mustSeal(t, w)
			}
			at := s.index.lookup(testID(1)).path()
			require.NoError(t, s.Close())
			b := make([]byte, chunkfile.SectorBytes)
			f, err := m.OpenFile(at, os.O_RDWR, 0)
			require.NoError(t, err)
			defer f.Close()
			_, err = f.ReadAt(b, 0)
			require.NoError(t, err)
			b[8] = 2
			chunkfile.SealSector(b)
			_, err = f.WriteAt(b, 0)
			require.NoError(t, err)
			s, err = Open(testOptions(m))
			if sealed {
				require.NoError(t, err)
				_, err = s.OpenReader(testID(1), 0)
				require.NoError(t, errors.Join(s.Close()))
			}
			require.ErrorIs(t, err, fault.Version)
			_, err = m.Stat(at)
			require.NoError(t, err)
		})
	}
}
