package disk

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// lose has the disk of /b fail, and removes it. heal makes the disk work again.
func (l *lossy) lose() (heal func()) {
	heal = l.failB()
	_, err := l.RemoveDisk("/b")
	require.NoError(l.t, err)
	return heal
}

// failB has the disk of /b fail.
func (l *lossy) failB() (heal func()) {
	heal = l.disks.fail("/b", syscall.EIO)
	for range 3 {
		l.monitor.check()
		l.monitor.group.Wait()
	}
	require.Equal(l.t, []string{"/a"}, directories(l.Store))
	return heal
}

// TestNothingUsesADiskBeforeItIsRead: what comes while it is read stays, and what it had is neither struck nor set
// aside.
func TestNothingUsesADiskBeforeItIsRead(t *testing.T) {
	for name, small := range map[string]bool{"files": false, "records": true} {
		t.Run(name, func(t *testing.T) {
			disks := newTwoDisks()
			newDirectories(t, disks.memory["/b"], "/b")
			o := testOptions(disks)
			o.Directories, o.noCompactor = []string{"/a"}, true
			rule := simdisk.Rule{Op: simdisk.OpReadDir, Path: "ff", Times: 1}
			create := CreateOptions{ChunkSize: testChunkSize}
			if small {
				o.PackBytesMax, create.SizeHint = 64<<10, 1000
				rule.Path, rule.From = "packs", 2
			}
			s := openStore(t, o)
			var acked []int
			rule.Before = func() {
				for n := 255; n < 255+256*12; n += 256 {
					w, err := s.Create(testID(n), 1, create)
					require.NoError(t, err)
					_, err = run(w, Job{Data: pattern(uint64(n), 1000), Seal: true})
					require.NoError(t, err)
					acked = append(acked, n)
				}
			}
			disks.disks["/b"].Inject(rule)
			_, err := s.AddDisk("/b")
			require.NoError(t, err)
			require.NotEmpty(t, acked)
			s = reopenStore(t, s)
			for _, n := range acked {
				requireContent(t, s, testID(n), pattern(uint64(n), 1000))
			}
		})
	}
}

func TestADiskIsUsedOnlyOnceItWasRead(t *testing.T) {
	l := startLossy(t, func(o *Options) { o.ScrubPeriod = time.Hour })
	onB := l.on("/b")
	l.lose()()
	s := reopenStore(t, l.Store)
	looked := false
	rule := simdisk.Rule{Op: simdisk.OpReadDir, Path: "80", Times: 1, Err: syscall.EIO}
	rule.Before = func() {
		looked = true
		require.Equal(t, []string{"/a"}, directories(s))
		_, _, err := s.BeginRecovery(testID(onB[0]), 2)
		require.ErrorIs(t, err, fault.Disk, "nobody knows yet")
	}
	l.disks.disks["/b"].Inject(rule)
	_, err := s.AddDisk("/b")
	require.ErrorIs(t, err, fault.Disk)
	require.True(t, looked)
	require.Equal(t, []string{"/a"}, directories(s), "it could not be read")
	state, err := s.AddDisk("/b")
	require.NoError(t, err)
	require.Equal(t, uint64(len(onB)), state.Replicas)
	for n := range lossyReplicas {
		requireContent(t, s, testID(n), pattern(uint64(n), 1000))
	}
	kept, err := l.disks.memory["/b"].ReadDir("/b/quarantine")
	require.NoError(t, err)
	require.Empty(t, kept)
	got, _, err := s.BeginRecovery(testID(onB[0]), 2)
	require.NoError(t, err)
	require.Equal(t, int64(1000), got.Length)
}

// TestTheBetterOfTwoFilesComesBack: as a start takes it.
func TestTheBetterOfTwoFilesComesBack(t *testing.T) {
	l := startLossy(t)
	n := l.on("/b")[1]
	l.lose()()
	memory := l.disks.memory["/b"]
	name := chunkfile.Name{ID: testID(n), Generation: 1, Sealed: true, Length: 1000}
	f, err := memory.OpenFile("/b/"+name.Relative(), os.O_RDONLY, 0)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	name.Generation = 2
	newer, err := memory.OpenFile("/b/"+name.Relative(), os.O_RDWR|os.O_CREATE, 0o644)
	require.NoError(t, err)
	_, err = newer.WriteAt(b, 0)
	require.NoError(t, err)
	s := reopenStore(t, l.Store)
	_, err = s.AddDisk("/b")
	require.NoError(t, err)
	got, err := s.Stat(testID(n))
	require.NoError(t, err)
	require.Equal(t, chunk.Generation(2), got.Generation)
}

// TestAWholeReplicaDoesNotGiveWayToHalfACopy: neither a record, which would be struck, nor a file.
func TestAWholeReplicaDoesNotGiveWayToHalfACopy(t *testing.T) {
	l := startLossy(t, func(o *Options) { o.PackBytesMax, o.noCompactor = 64<<10, true })
	chosen := []int{l.on("/b")[0]}
	for n := 300; len(chosen) < 2; n++ {
		w, err := l.Create(testID(n), 1, CreateOptions{ChunkSize: testChunkSize, SizeHint: 1000})
		require.NoError(t, err)
		_, err = run(w, Job{Data: pattern(uint64(n), 1000), Seal: true})
		require.NoError(t, err)
		if l.index.lookup(testID(n)).volume.directory == "/b" {
			chosen = append(chosen, n)
		}
	}
	l.lose()()
	s := reopenStore(t, l.Store)
	for _, n := range chosen {
		w, err := s.Create(testID(n), 1, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
		require.NoError(t, err)
		_, err = run(w, Job{Data: []byte("half"), Sync: true})
		require.NoError(t, err)
	}
	_, err := s.AddDisk("/b")
	require.NoError(t, err)
	for range 2 {
		for _, n := range chosen {
			requireContent(t, s, testID(n), pattern(uint64(n), 1000))
		}
		s = reopenStore(t, s)
	}
}

// TestAnOpenReplicaGivesWayOnlyToASealedOne: or the disk stays out of service, with all that is on it.
func TestAnOpenReplicaGivesWayOnlyToASealedOne(t *testing.T) {
	l := startLossy(t, func(o *Options) { o.OnVolume = func(datanode.VolumeState) {} })
	onB := l.on("/b")
	sealed, older := onB[0], onB[1]
	open := lossyReplicas
	var w *Writer
	for ; ; open++ {
		w = mustCreate(t, l.Store, testID(open))
		mustAppend(t, w, pattern(uint64(open), 1000), true)
		if l.index.lookup(testID(open)).volume.directory == "/b" {
			break
		}
	}
	l.lose()()
	s := reopenStore(t, l.Store)
	for n, generation := range map[int]chunk.Generation{sealed: 1, older: 2} {
		w, err := s.Create(testID(n), generation, CreateOptions{ChunkSize: testChunkSize})
		require.NoError(t, err)
		mustAppend(t, w, []byte("begun"), true)
	}
	_, err := s.AddDisk("/b")
	require.NoError(t, err)
	requireContent(t, s, testID(sealed), pattern(uint64(sealed), 1000))
	requireContent(t, s, testID(older), []byte("begun"))
	requireContent(t, s, testID(open), pattern(uint64(open), 1000))

	s.changes.at("/b").noteError(syscall.EROFS)
	_, err = s.RemoveDisk("/b")
	require.NoError(t, err)
	s = reopenStore(t, s)
	mustAppend(t, mustCreate(t, s, testID(open)), []byte("begun"), true)
	_, err = s.AddDisk("/b")
	require.ErrorIs(t, err, fault.Busy)
	require.Equal(t, []string{"/a"}, directories(s))
	_, _, err = s.BeginRecovery(testID(999), 2)
	require.ErrorIs(t, err, fault.Disk, "it was not read whole")
	_, err = s.AddDisk("/b")
	require.ErrorIs(t, err, fault.Exists)
	s = reopenStore(t, s)
	require.Equal(t, []string{"/a", "/b"}, directories(s), "a start decides")
}

// TestADiskThatHangsWhileItIsAddedStopsNobody: the orders of a namenode are heeded meanwhile, and it is given up.
func TestADiskThatHangsWhileItIsAddedStopsNobody(t *testing.T) {
	for _, rule := range []simdisk.Rule{{Op: simdisk.OpStat, Path: "b"}, {Op: simdisk.OpReadDir, Path: "80"},
		{Op: simdisk.OpOpen, Path: "identity.tmp"}} {
		disks := newTwoDisks()
		newDirectories(t, disks.memory["/b"], "/b")
		o := testOptions(disks)
		o.Directories = []string{"/a"}
		s := openStore(t, o)
		hangs, hang := make(chan struct{}), make(chan struct{})
		rule.Times, rule.Before = 1, func() { close(hangs); <-hang }
		disks.disks["/b"].Inject(rule)
		added := make(chan error, 1)
		go func() { _, err := s.AddDisk("/b"); added <- err }()
		<-hangs
		require.NoError(t, s.ObserveEpoch(9, 9))
		_, err := s.AddDisk("/b")
		require.ErrorIs(t, err, fault.Busy)
		s.options.Clock.(interface{ Advance(time.Duration) }).Advance(2 * s.options.VolumeHangAfter)
		s.monitor.check()
		s.monitor.group.Wait()
		require.ErrorIs(t, <-added, fault.Disk)
		require.Equal(t, []string{"/a"}, directories(s))
		close(hang)
		again := func() bool { _, err := s.AddDisk("/b"); return err == nil }
		require.Eventually(t, again, 10*time.Second, time.Millisecond, "when it answers again")
		require.NoError(t, s.Close())
	}
}

func TestADiskThatComesBackHasSeenANewerNamenode(t *testing.T) {
	l := startLossy(t)
	heal := l.lose()
	heal()
	back, _, err := readIdentity(l.disks.memory["/b"], "/b/identity")
	require.NoError(t, err)
	back.HighestEpoch, back.HighestTxid = 7, 70
	require.NoError(t, writeIdentity(l.disks.memory["/b"], "/b/identity", back))
	s := reopenStore(t, l.Store)
	_, err = s.AddDisk("/b")
	require.NoError(t, err)
	require.ErrorIs(t, s.ObserveEpoch(6, 60), fault.Fenced)
	require.ErrorIs(t, reopenStore(t, s).ObserveEpoch(6, 60), fault.Fenced)
}

// TestARemovedDiskMayHaveWhatIsNotHere: also after a restart, for chunks that are older than its removal.
func TestARemovedDiskMayHaveWhatIsNotHere(t *testing.T) {
	l := startLossy(t)
	on := testID(l.on("/b")[1])
	heal := l.lose()
	s := reopenStore(t, l.Store)
	_, _, err := s.BeginRecovery(on, 2)
	require.ErrorIs(t, err, fault.Disk, "not: there never was one")
	_, _, err = s.BeginRecovery(testID(int(2*clocksApartMax.Milliseconds())), 2)
	require.ErrorIs(t, err, fault.NotFound, "it was made later")
	heal()
	_, err = s.AddDisk("/b")
	require.NoError(t, err)
	_, _, err = s.BeginRecovery(testID(999), 2)
	require.ErrorIs(t, err, fault.NotFound, "all of its disks are here")
	got, _, err := s.BeginRecovery(on, 2)
	require.NoError(t, err, "what was promised without it does not count")
	require.Equal(t, int64(1000), got.Length)
}

// TestOfTwoListsOfOneCountARemovalCounts: the datanode was killed between the two writes of an add, and a removal then
// had the same count.
func TestOfTwoListsOfOneCountARemovalCounts(t *testing.T) {
	mem := simdisk.NewMem()
	newDirectories(t, mem, "/e")
	o := testOptions(mem)
	o.Directories, o.FailedVolumesTolerated = []string{"/d", "/b"}, 1
	s := openStore(t, o)
	var left *simdisk.Mem
	mem.OnChange(func(op simdisk.Op, name string) {
		if left == nil && op == simdisk.OpSyncDir && name == "/e" {
			if _, err := mem.Stat("/e/identity"); err == nil {
				left = mem.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})
			}
		}
	})
	_, err := s.AddDisk("/e")
	require.NoError(t, err)
	mem.OnChange(nil)
	o.FS, o.Random = left, nil
	s = openStore(t, o)
	require.Equal(t, []string{"/d", "/b"}, directories(s))
	s.changes.at("/b").noteError(syscall.EROFS)
	_, err = s.RemoveDisk("/b")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	o.Directories = []string{"/d", "/b", "/e"}
	require.Equal(t, []string{"/d", "/e"}, directories(openStore(t, o)))
}

func TestReplaceKeepsWhatItCannotReplaceAndMayBeRepeated(t *testing.T) {
	l := startLossy(t)
	memory := l.disks.memory["/a"]
	newDirectories(t, memory, "/used", "/used/by", "/new")
	l.failB()
	for wrong, kind := range map[string]error{"/used": fault.Invalid, "/nowhere": fault.Invalid, "/a": fault.Exists} {
		_, err := l.ReplaceDisk("/b", wrong)
		require.ErrorIs(t, err, kind)
		require.Len(t, l.Volumes(), 2, "the failed one is still one of them")
	}
	// The second disk to be told of the new one does not take it.
	l.disks.disks["/a"].Inject(simdisk.Rule{Op: simdisk.OpRename, Path: "identity", From: 3, Times: 1,
		Err: syscall.EIO})
	_, err := l.ReplaceDisk("/b", "/new")
	require.Error(t, err)
	first, err := l.ReplaceDisk("/b", "/new")
	require.NoError(t, err)
	again, err := l.ReplaceDisk("/b", "/new")
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
}

func TestReplaceInPlaceMayBeRepeated(t *testing.T) {
	l := startLossy(t)
	l.failB()()
	l.disks.put("/b")
	newDirectories(t, l.disks.memory["/b"], "/b")
	first, err := l.ReplaceDisk("/b", "")
	require.NoError(t, err)
	again, err := l.ReplaceDisk("/b", "")
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
}

// TestAnUnmountedPlaceIsNoReplacement: also when the disk was away at the start.
func TestAnUnmountedPlaceIsNoReplacement(t *testing.T) {
	disks := newTwoDisks()
	s := openStore(t, lossyOptions(disks))
	records := s.membership.persist.records
	require.Equal(t, "/b", records[1].Directory)
	records[1].MountPoint = true
	for _, v := range s.volumes.all() {
		require.NoError(t, writeIdentity(v.fs, v.path(identityName),
			s.membership.listedLocked(v, records).with(s.Identity())))
	}
	require.NoError(t, s.Close())
	disks.put("/b")
	newDirectories(t, disks.memory["/b"], "/b")
	s = openStore(t, s.options)
	_, err := s.ReplaceDisk("/b", "")
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "nothing is mounted")
}

func TestADiskIsTheSameWhateverItIsCalled(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	o := testOptions(nil)
	o.FS, o.FailedVolumesTolerated = nil, -1
	require.NoError(t, os.MkdirAll("real/d3", 0o755))
	require.NoError(t, os.Symlink("real/d3", "link"))
	o.Directories = []string{"d1", "d2", "link"}
	s := openStore(t, o)
	require.NoError(t, os.MkdirAll("d1/inside", 0o755))
	require.NoError(t, os.Symlink("d1/inside", "disguised"))
	for name, reason := range map[string]string{"real/d3": "another name", "disguised": "inside or above",
		"real": "inside or above"} {
		_, err := s.AddDisk(root + "/" + name)
		require.ErrorIs(t, err, fault.Invalid, name)
		require.ErrorContains(t, err, reason)
	}
	for i, name := range []string{"d2", "real/d3"} {
		at := root + "/" + []string{"d2", "link"}[i]
		s.changes.at(at).noteError(syscall.EROFS)
		_, err := s.RemoveDisk(at)
		require.NoError(t, err)
		_, err = s.AddDisk(root + "/" + name)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	require.Len(t, directories(openStore(t, o)), 3)
}
