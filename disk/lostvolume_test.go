package disk

import (
	"io"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/health"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

// twoDisks has a disk of its own for each of /a and /b, which fail apart from each other.
type twoDisks struct {
	memory map[string]*simdisk.Mem
	disks  map[string]*simdisk.Faulty
}

func newTwoDisks() *twoDisks {
	d := &twoDisks{memory: map[string]*simdisk.Mem{}, disks: map[string]*simdisk.Faulty{}}
	d.put("/a")
	d.put("/b")
	return d
}

// put puts a new, empty disk at a mount point.
func (d *twoDisks) put(directory string) {
	d.memory[directory] = simdisk.NewMem()
	d.disks[directory] = simdisk.NewFaulty(d.memory[directory])
}

var everyOp = []simdisk.Op{
	simdisk.OpOpen, simdisk.OpMkdir, simdisk.OpRename, simdisk.OpRemove, simdisk.OpReadDir, simdisk.OpStat,
	simdisk.OpSyncDir, simdisk.OpStatFS, simdisk.OpLock, simdisk.OpRead, simdisk.OpWrite, simdisk.OpSync,
	simdisk.OpDatasync, simdisk.OpTruncate, simdisk.OpPreallocate, simdisk.OpSyncRange,
	simdisk.OpAwaitRange, simdisk.OpPrefetch, simdisk.OpUncache,
}

// fail makes everything on a disk fail.
func (d *twoDisks) fail(directory string, err error) (heal func()) {
	var rules []func()
	for _, op := range everyOp {
		rules = append(rules, d.disks[directory].Inject(simdisk.Rule{Op: op, Err: err}))
	}
	return func() {
		for _, remove := range rules {
			remove()
		}
	}
}

func (d *twoDisks) of(name string) vfs.FS {
	if strings.HasPrefix(name, "/b") {
		return d.disks["/b"]
	}
	return d.disks["/a"]
}

func (d *twoDisks) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	return d.of(name).OpenFile(name, flag, perm)
}
func (d *twoDisks) MkdirAll(name string, perm fs.FileMode) error {
	return d.of(name).MkdirAll(name, perm)
}
func (d *twoDisks) Rename(source, target string) error         { return d.of(source).Rename(source, target) }
func (d *twoDisks) Remove(name string) error                   { return d.of(name).Remove(name) }
func (d *twoDisks) ReadDir(name string) ([]fs.DirEntry, error) { return d.of(name).ReadDir(name) }
func (d *twoDisks) Stat(name string) (fs.FileInfo, error)      { return d.of(name).Stat(name) }
func (d *twoDisks) SyncDir(name string) error                  { return d.of(name).SyncDir(name) }
func (d *twoDisks) StatFS(name string) (vfs.Space, error)      { return d.of(name).StatFS(name) }
func (d *twoDisks) Lock(name string) (io.Closer, error)        { return d.of(name).Lock(name) }

// lossy is a store on two disks, with twenty sealed replicas.
type lossy struct {
	*Store
	t       *testing.T
	disks   *twoDisks
	events  chan Event
	volumes chan datanode.VolumeState
}

func lossyOptions(disks *twoDisks) Options {
	o := testOptions(disks)
	o.Directories, o.FailedVolumesTolerated = []string{"/a", "/b"}, 1
	return o
}

const lossyReplicas = 20

func startLossy(t *testing.T, change ...func(*Options)) *lossy {
	l := &lossy{t: t, disks: newTwoDisks(), events: make(chan Event, 1000), volumes: make(chan datanode.VolumeState, 2)}
	o := lossyOptions(l.disks)
	o.OnEvent = func(e Event) { l.events <- e }
	o.OnVolume = func(v datanode.VolumeState) { l.volumes <- v }
	for _, set := range change {
		set(&o)
	}
	l.Store = openStore(t, o)
	for n := range lossyReplicas {
		w := mustCreate(t, l.Store, testID(n))
		mustAppend(t, w, pattern(uint64(n), 1000), true)
		mustSeal(t, w)
	}
	for len(l.events) > 0 {
		<-l.events
	}
	return l
}

// on tells which replicas are on a volume.
func (l *lossy) on(directory string) (ids []int) {
	for n := range lossyReplicas {
		if l.index.lookup(testID(n)).volume.directory == directory {
			ids = append(ids, n)
		}
	}
	require.NotEmpty(l.t, ids)
	return ids
}

// hang has begin start something, waits until it hangs in an operation on /b, and returns what lets it go on.
func (l *lossy) hang(op simdisk.Op, begin func()) (release func()) {
	held, entered := make(chan struct{}), make(chan struct{}, 100)
	remove := l.disks.disks["/b"].Inject(simdisk.Rule{Op: op, Before: func() {
		entered <- struct{}{}
		<-held
	}})
	begin()
	<-entered
	return func() {
		remove()
		close(held)
	}
}

// hangInspection is hang of an inspection of /b alone: that of /a would seem to hang too when the clock leaps.
func (l *lossy) hangInspection() (release func()) {
	return l.hang(simdisk.OpStat, func() {
		l.monitor.group.Go(func() { l.index.lookup(testID(l.on("/b")[0])).volume.inspect(false) })
	})
}

// requireLost checks that exactly the replicas of /b are gone, and that they were reported.
func (l *lossy) requireLost(state datanode.VolumeHealth) {
	t := l.t
	told := <-l.volumes
	require.Equal(t, "/b", told.Directory)
	require.Equal(t, state, told.Health, told.Error)
	require.False(t, told.Healthy)
	lost := l.on("/b")
	removed := map[chunk.ID]bool{}
	for len(l.events) > 0 {
		e := <-l.events
		require.Equal(t, Removed, e.Kind)
		require.True(t, e.Lost)
		removed[e.Replica.ID] = true
	}
	require.Len(t, removed, len(lost))
	for _, n := range lost {
		require.True(t, removed[testID(n)])
		_, err := l.OpenReader(testID(n), 0)
		require.ErrorIs(t, err, fault.Disk)
		_, err = l.Stat(testID(n))
		require.ErrorIs(t, err, fault.NotFound)
		_, _, err = l.BeginRecovery(testID(n), 2)
		require.ErrorIs(t, err, fault.Disk, "not: there never was one")
	}
	require.Len(t, l.Replicas(), lossyReplicas-len(lost))
	for _, n := range l.on("/a") {
		requireContent(t, l.Store, testID(n), pattern(uint64(n), 1000))
	}
	// The node goes on, and takes a copy of what it lost.
	w, err := l.Create(testID(lost[0]), 1, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
	require.NoError(t, err)
	mustAppend(t, w, pattern(uint64(lost[0]), 1000), true)
	mustSeal(t, w)
	requireContent(t, l.Store, testID(lost[0]), pattern(uint64(lost[0]), 1000))
	var last Event
	for len(l.events) > 0 {
		last = <-l.events
	}
	require.Equal(t, Stored, last.Kind, "the copy counts")
	require.NoError(t, l.ObserveEpoch(7, 7), "the other disk has it")
}

func TestDiskThatDiesIsLostAtOnce(t *testing.T) {
	l := startLossy(t)
	defer l.disks.fail("/b", syscall.EIO)()
	l.monitor.check() // looks at it; so does everybody who uses it
	l.monitor.group.Wait()
	for n := range 2 {
		_, err := readVerified(l.Store, testID(l.on("/b")[n]))
		require.ErrorIs(t, err, fault.Disk)
	}
	l.requireLost(datanode.VolumeFailed)
}

func TestDiskThatDiesUnderSendfileIsLost(t *testing.T) {
	l := startLossy(t)
	var err error
	calls := 0
	for n := range 5 {
		r, opened := l.OpenReader(testID(l.on("/b")[n]), 0)
		if err = opened; err == nil {
			_, err = r.Watch("sendfile", func() (int, error) {
				calls++
				return -1, syscall.EIO
			})
			require.NoError(t, r.Close())
		}
		require.Error(t, err)
	}
	require.ErrorIs(t, err, fault.Disk)
	require.Equal(t, health.ErrorsMax, calls)
	l.requireLost(datanode.VolumeFailed)
}

func TestIdleDiskThatDiesIsFound(t *testing.T) {
	l := startLossy(t)
	l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpDatasync, Err: syscall.EIO}) // what is cached is still read
	for range 3 {
		l.monitor.check()
		l.monitor.group.Wait()
	}
	l.requireLost(datanode.VolumeFailed)
}

// An idle disk has been looked at just before it dies.
func TestIdleDiskThatDiesIsFoundSoon(t *testing.T) {
	l := startLossy(t)
	look := func() {
		l.monitor.check()
		l.monitor.group.Wait()
	}
	look()
	l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpDatasync, Err: syscall.EIO})
	for range 4 {
		l.options.Clock.(*fakeclock.Clock).Advance(inspectInterval)
		look()
	}
	require.True(t, l.index.lookup(testID(l.on("/b")[0])).volume.health.Out())
	l.requireLost(datanode.VolumeFailed)
}

func TestReadOnlyDiskIsLostAtOnce(t *testing.T) {
	l := startLossy(t)
	l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpOpen, Path: probeName, Err: syscall.EROFS})
	l.monitor.check()
	l.monitor.group.Wait()
	l.requireLost(datanode.VolumeReadOnly)
}

// TestADirectoryThatIsGoneEndsTheService: nothing could be created on the volume any more.
func TestADirectoryThatIsGoneEndsTheService(t *testing.T) {
	l := startLossy(t)
	require.NoError(t, l.disks.memory["/b"].Rename("/b/chunks", "/b/lost+found"))
	l.monitor.check()
	l.monitor.group.Wait()
	l.requireLost(datanode.VolumeMissing)
}

func TestDiskThatIsUnmountedIsLostAtOnce(t *testing.T) {
	l := startLossy(t)
	l.disks.put("/b")
	require.NoError(t, l.disks.memory["/b"].MkdirAll("/b", 0o755))
	l.monitor.check()
	l.monitor.group.Wait()
	l.requireLost(datanode.VolumeMissing)
	entries, err := l.disks.memory["/b"].ReadDir("/b")
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is written below the mount point")
}

func TestDiskThatHangsIsLostAndHoldsUpNobody(t *testing.T) {
	l := startLossy(t)
	fake := l.options.Clock.(*fakeclock.Clock)
	id := testID(l.on("/b")[0])
	stuck := make(chan error, 1)
	release := l.hang(simdisk.OpRead, func() {
		go func() {
			_, err := readVerified(l.Store, id)
			stuck <- err
		}()
	})
	fake.Advance(health.StallAfter)
	require.Equal(t, datanode.VolumeSuspect, l.Volumes()[1].Health)
	for n := 100; n < 110; n++ { // nothing new goes there
		mustCreate(t, l.Store, testID(n))
		require.Equal(t, "/a", l.index.lookup(testID(n)).volume.directory)
		require.NoError(t, l.Delete(testID(n), 1))
	}
	for len(l.events) > 0 {
		<-l.events
	}
	fake.Advance(health.HangAfter)
	l.monitor.check()
	l.requireLost(datanode.VolumeFailed)
	require.Contains(t, l.Volumes()[1].Error, "has not returned for")
	release()
	<-stuck // also when it got its bytes: they are verified
}

// Whoever waits for a replica that an operation holds on a disk which hangs goes on when the disk is out of service,
// not when the operation returns: it may never.
func TestWhoWaitsForAReplicaOnADiskThatHangsGoesOn(t *testing.T) {
	l := startLossy(t)
	fake := l.options.Clock.(*fakeclock.Clock)
	id := testID(l.on("/b")[0])
	stuck := make(chan error, 1)
	release := l.hang(simdisk.OpDatasync, func() {
		go func() {
			_, _, err := l.BeginRecovery(id, 2) // holds the replica's lock
			stuck <- err
		}()
	})
	waiting := map[string]func() error{
		"delete":     func() error { return l.Delete(id, 1) },
		"quarantine": func() error { return l.Quarantine(id, 1, "of a test") },
		"resume":     func() error { _, err := l.Resume(id, 1, 3, 1000); return err },
		"recover":    func() error { return l.FinishRecovery(id, 2, 1000) },
	}
	errs := make(chan error, len(waiting)+1)
	for _, wait := range waiting {
		go func() { errs <- wait() }()
	}
	go func() {
		l.Announce(id, 1)
		errs <- l.index.lookup(id).lock("end of announcement")
	}()
	fake.Advance(health.HangAfter)
	l.monitor.check()
	for range cap(errs) {
		require.ErrorIs(t, <-errs, fault.Disk)
	}
	lost := l.index.lookup(id)
	before := runtime.NumGoroutine()
	for range 1000 {
		require.ErrorIs(t, lost.lock("ask again"), fault.Disk)
	}
	more := runtime.NumGoroutine() - before
	release()
	<-stuck
	require.Less(t, more, 500, "goroutines wait for the disk")
	require.Equal(t, l.index.lookup(id).volume.id, l.VolumeOf(id), "also when it is out of service")
	require.Empty(t, l.VolumeOf(testID(9999)))
}

// A deleted replica that cannot be unlinked, because its disk hangs, leaves the others their room.
func TestTheTrashOfOtherDisksIsEmptiedBesideOneThatHangs(t *testing.T) {
	l := startLossy(t)
	fake := l.options.Clock.(*fakeclock.Clock)
	first, others := l.on("/b")[0], l.on("/a")
	release := l.hang(simdisk.OpRemove, func() {
		for _, n := range append([]int{first}, others...) { // due in this order
			require.NoError(t, l.Delete(testID(n), 1))
		}
		fake.Advance(l.options.TrashDelay)
	})
	fake.Advance(health.HangAfter)
	l.monitor.check()
	require.Eventually(t, func() bool {
		left, err := l.disks.memory["/a"].ReadDir("/a/" + trashDirectory)
		return err == nil && len(left) == 0
	}, 10*time.Second, time.Millisecond)
	release()
}

func TestErrorsThatADiskMayMakeCanBeSet(t *testing.T) {
	l := startLossy(t, func(o *Options) { o.VolumeErrorsMax = 1 })
	defer l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpOpen, Path: probeName, Err: syscall.EIO})()
	l.monitor.check()
	l.monitor.group.Wait()
	l.requireLost(datanode.VolumeFailed)
}

func TestTimeThatADiskMayHangCanBeSet(t *testing.T) {
	const hangAfter = 7 * time.Second
	l := startLossy(t, func(o *Options) { o.VolumeHangAfter = hangAfter })
	release := l.hangInspection()
	fake := l.options.Clock.(*fakeclock.Clock)
	fake.Advance(hangAfter - 1)
	l.monitor.check()
	require.True(t, l.Volumes()[1].Healthy)
	fake.Advance(1)
	l.monitor.check()
	l.requireLost(datanode.VolumeFailed)
	release()
	l.monitor.group.Wait()
}

func TestRestartWithOneBadDisk(t *testing.T) {
	for name, state := range map[error]datanode.VolumeHealth{
		syscall.EIO: datanode.VolumeFailed, syscall.EROFS: datanode.VolumeReadOnly,
	} {
		t.Run(name.Error(), func(t *testing.T) {
			l := startLossy(t)
			good, lost := l.on("/a"), l.on("/b")
			require.NoError(t, l.Close())
			heal := l.disks.fail("/b", name)
			o := lossyOptions(l.disks)
			o.FailedVolumesTolerated = 0
			_, err := Open(o)
			require.ErrorIs(t, err, fault.Disk)
			require.ErrorContains(t, err, "/b")
			require.ErrorContains(t, err, "1 of 2 volumes")
			s := openStore(t, lossyOptions(l.disks))
			require.Equal(t, state, s.Volumes()[1].Health)
			require.Len(t, s.Replicas(), len(good))
			_, _, err = s.BeginRecovery(testID(lost[0]), 2)
			require.ErrorIs(t, err, fault.Disk, "nobody knows what was on the other disk")
			require.NoError(t, s.ObserveEpoch(3, 3))
			require.NoError(t, s.Close())
			healA := l.disks.fail("/a", name)
			_, err = Open(lossyOptions(l.disks))
			require.ErrorIs(t, err, fault.Disk, "one has to be left")
			healA()
			heal()
			s = openStore(t, lossyOptions(l.disks))
			require.Len(t, s.Replicas(), lossyReplicas, "a disk that returns is read")
			require.EqualValues(t, 3, s.Identity().HighestEpoch)
		})
	}
}

func TestDiskWhoseReplicasCannotBeListedIsTolerated(t *testing.T) {
	l := startLossy(t)
	good := l.on("/a")
	require.NoError(t, l.Close())
	defer l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpReadDir, Path: "7f", Err: syscall.EIO})()
	s := openStore(t, lossyOptions(l.disks))
	require.Len(t, s.Replicas(), len(good), "nothing of a disk that cannot be read whole counts")
}

func TestMissingVolumeIsNotMadeAnew(t *testing.T) {
	l := startLossy(t)
	good, id := l.on("/a"), l.Volumes()[1].ID
	require.NoError(t, l.Close())
	old := l.disks.disks["/b"]
	l.disks.put("/b")
	o := lossyOptions(l.disks)
	o.FailedVolumesTolerated = 0
	_, err := Open(o)
	require.ErrorIs(t, err, fault.Disk)
	var e *fault.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Hint, formatName)

	s := openStore(t, lossyOptions(l.disks))
	state := s.Volumes()[1]
	require.Equal(t, datanode.VolumeMissing, state.Health)
	require.Equal(t, id, state.ID)
	require.Len(t, s.Replicas(), len(good))
	_, err = l.disks.memory["/b"].Stat("/b")
	require.ErrorIs(t, err, fs.ErrNotExist, "nothing was made")
	require.NoError(t, s.Close())

	// Its return: also after starts without it.
	empty := l.disks.disks["/b"]
	l.disks.disks["/b"] = old
	s = openStore(t, lossyOptions(l.disks))
	require.Len(t, s.Replicas(), lossyReplicas)
	require.NoError(t, s.Close())

	// Or the operator gives it up.
	l.disks.disks["/b"] = empty
	require.NoError(t, empty.MkdirAll("/b", 0o755))
	f, err := empty.OpenFile(path.Join("/b", formatName), syscall.O_CREAT|syscall.O_RDWR, 0o644)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	s = openStore(t, lossyOptions(l.disks))
	require.True(t, s.Volumes()[1].Healthy)
	require.NotEqual(t, id, s.Volumes()[1].ID)
	_, err = empty.Stat(path.Join("/b", formatName))
	require.ErrorIs(t, err, fs.ErrNotExist, "it counts once")
}

func TestOneReplicaThatCannotBeReadIsNoReason(t *testing.T) {
	l := startLossy(t)
	id := testID(l.on("/b")[0])
	replica := l.index.lookup(id)
	l.files.Detach(&replica.Owner) // the rule is for the name
	l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpRead, Path: path.Base(replica.path()), Err: syscall.EIO})
	for range 10 {
		_, err := readVerified(l.Store, id)
		require.ErrorIs(t, err, fault.Disk)
	}
	require.Equal(t, datanode.VolumeSuspect, l.Volumes()[1].Health)
	require.GreaterOrEqual(t, l.Volumes()[1].Errors, uint64(10))
}

func TestFilesThatAreGoneAreNoReason(t *testing.T) {
	l := startLossy(t)
	for _, n := range l.on("/b") {
		require.NoError(t, l.disks.memory["/b"].Remove(l.index.lookup(testID(n)).path()))
		l.files.Detach(&l.index.lookup(testID(n)).Owner)
		_, err := readVerified(l.Store, testID(n))
		require.ErrorIs(t, err, fault.Disk)
	}
	require.Equal(t, datanode.VolumeHealthy, l.Volumes()[1].Health)
}

func TestErrorsThatAreFarApartAreNoReason(t *testing.T) {
	fake := fakeclock.New(testTime)
	out := 0
	limits := health.Limits{ErrorsMax: 3, Window: time.Minute, StallAfter: time.Second, HangAfter: time.Hour}
	v := health.New(fake, limits, func() { out++ })
	for range 5 {
		v.Note(syscall.EIO)
		v.Note(syscall.ENOSPC)
		require.Equal(t, datanode.VolumeSuspect, v.Status().State)
		fake.Advance(40 * time.Second)
	}
	fake.Advance(time.Minute)
	require.Equal(t, datanode.VolumeHealthy, v.Status().State)
	require.EqualValues(t, 5, v.Status().Errors)
	v.SetFull(true)
	require.Equal(t, datanode.VolumeFull, v.Status().State)
	for range 3 {
		v.Note(syscall.EIO)
	}
	v.Note(syscall.EROFS)
	require.Equal(t, datanode.VolumeFailed, v.Status().State)
	require.Equal(t, 1, out)
}

// createOn makes a Writer of a new small replica on a volume.
func (l *lossy) createOn(directory string) *Writer {
	for n := lossyReplicas; ; n++ {
		w := createSmall(l.t, l.Store, testID(n), 1000)
		if w.replica.volume.directory == directory {
			return w
		}
		require.NoError(l.t, l.Delete(testID(n), 1))
	}
}

// closeImpatiently closes the store on a clock that runs fast.
func (l *lossy) closeImpatiently() error {
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	for {
		select {
		case err := <-closed:
			return err
		default:
			l.options.Clock.(*fakeclock.Clock).Advance(closePatience)
			runtime.Gosched()
		}
	}
}

// TestCloseDoesNotWaitForADiskThatHangs: whatever hangs, the other disk is released and no longer touched.
func TestCloseDoesNotWaitForADiskThatHangs(t *testing.T) {
	for name, begin := range map[string]func(l *lossy) (release func()){
		"sync of a writer": func(l *lossy) func() {
			w := l.createOn("/b")
			return l.hang(simdisk.OpDatasync, func() {
				require.NoError(l.t, w.Submit(Job{Data: pattern(1, 1000), Sync: true}))
			})
		},
		"inspection": (*lossy).hangInspection,
		"packer": func(l *lossy) func() {
			w := l.createOn("/b")
			return l.hang(simdisk.OpWrite, func() {
				require.NoError(l.t, w.Submit(Job{Data: pattern(1, 1000), Seal: true}))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLossy(t, func(o *Options) {
				if name == "packer" {
					o.PackBytesMax = 64 << 10
				}
			})
			reader, err := l.OpenReader(testID(l.on("/a")[0]), 0)
			require.NoError(t, err)
			release := begin(l)
			err = l.closeImpatiently()
			require.ErrorIs(t, err, fault.Disk)
			require.ErrorContains(t, err, `"/b"`)
			require.NotContains(t, err.Error(), `"/a"`)
			lock, err := l.disks.disks["/a"].Lock("/a/" + lockName)
			require.NoError(t, err, "another process may have it")
			require.NoError(t, lock.Close())
			_, err = l.disks.disks["/b"].Lock("/b/" + lockName)
			require.ErrorIs(t, err, syscall.EWOULDBLOCK, "its disk may still do what it was asked")
			_, err = reader.ReadAt(make([]byte, 10), 0)
			require.ErrorIs(t, err, fault.Disk, "it may be another process's now")
			require.NoError(t, reader.Close())
			require.Empty(t, l.volumes, "an end is no loss")

			after := newTwoDisks()
			for directory, disk := range l.disks.memory {
				after.memory[directory] = disk.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})
				after.disks[directory] = simdisk.NewFaulty(after.memory[directory])
			}
			s := openStore(t, lossyOptions(after))
			for n := range lossyReplicas {
				requireContent(t, s, testID(n), pattern(uint64(n), 1000))
			}
			release()
		})
	}
}

// TestADiskThatHangsInACompactionStopsNoOther: the room of dead records of the other disk is freed meanwhile.
func TestADiskThatHangsInACompactionStopsNoOther(t *testing.T) {
	disks := newTwoDisks()
	o := packOptions(disks)
	o.Directories, o.noCompactor, o.TrashDelay = []string{"/a", "/b"}, false, 0
	s := openStore(t, o)
	for n := range 16 {
		storeSmall(t, s, testID(n), pattern(uint64(n), 40_000))
	}
	entered, held := make(chan struct{}, 100), make(chan struct{})
	defer disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpRemove, Path: "*.pack", Before: func() {
		entered <- struct{}{}
		<-held
	}})()
	defer close(held)
	removed := make(chan struct{}, 100)
	disks.memory["/a"].OnChange(func(op simdisk.Op, _ string) {
		if op == simdisk.OpRemove {
			removed <- struct{}{}
		}
	})
	removesFrom := func(directory string, told chan struct{}) {
		for n := range 16 { // half of a segment is deleted: it is compacted
			if r := s.index.lookup(testID(n)); r != nil && r.volume.directory == directory {
				require.NoError(t, s.Delete(testID(n), 1))
				break
			}
		}
		require.Eventually(t, func() bool {
			o.Clock.(*fakeclock.Clock).Advance(time.Second) // of the compactor's pace
			return len(told) > 0
		}, 10*time.Second, time.Millisecond)
	}
	removesFrom("/b", entered)
	removesFrom("/a", removed)
}
