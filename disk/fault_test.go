package disk

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// faultyStore is a store on a memory disk that fails by rule.
func faultyStore(t *testing.T) (*Store, *simdisk.Faulty, *simdisk.Mem) {
	t.Helper()
	m := simdisk.NewMem()
	f := simdisk.NewFaulty(m)
	return openStore(t, testOptions(f)), f, m
}

func TestFullDiskCutsBackAndTheWriterGoesOn(t *testing.T) {
	for name, rule := range map[string]simdisk.Rule{
		"in the data": {Op: simdisk.OpWrite, Path: "*.open", From: 1, Times: 1, WriteBytes: 5000,
			Err: syscall.ENOSPC},
		"in the sums": {Op: simdisk.OpWrite, Path: "*.open", From: 2, Times: 1, WriteBytes: 3,
			Err: syscall.ENOSPC},
		"in the flush slot": {Op: simdisk.OpWrite, Path: "*.open", From: 3, Times: 1, WriteBytes: 100,
			Err: syscall.EDQUOT},
	} {
		t.Run(name, func(t *testing.T) {
			s, f, m := faultyStore(t)
			w := mustCreate(t, s, testID(1))
			first := pattern(1, blockBytes+1000)
			mustAppend(t, w, first, false)
			remove := f.Inject(rule)
			length, err := run(w, Job{Offset: w.Length(), Data: pattern(2, blockBytes)})
			require.ErrorIs(t, err, fault.NoSpace)
			require.EqualValues(t, len(first), length)
			remove()
			requireContent(t, s, testID(1), first)
			info, err := m.Stat(s.index.lookup(testID(1)).path())
			require.NoError(t, err)
			require.EqualValues(t, chunkfile.Layout{ChunkSize: testChunkSize}.DataOffset()+int64(len(first)),
				info.Size())
			// What was flushed survives the death of the process now, ...
			crashed := openStore(t, testOptions(m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})))
			requireContent(t, crashed, testID(1), first)
			// ... and the writer can go on.
			second := pattern(3, blockBytes)
			mustAppend(t, w, second, true)
			mustSeal(t, w)
			requireContent(t, s, testID(1), append(first, second...))
			require.True(t, s.Volumes()[0].Healthy, "a full disk is not a bad disk")
		})
	}
}

func TestFailedRollbackEndsTheWriter(t *testing.T) {
	for name, rule := range map[string]simdisk.Rule{
		"truncate":   {Op: simdisk.OpTruncate, Err: syscall.EIO},
		"read back":  {Op: simdisk.OpRead, Path: "*.open", Err: syscall.EIO},
		"flush slot": {Op: simdisk.OpWrite, Path: "*.open", Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			s, f, _ := faultyStore(t)
			w := mustCreate(t, s, testID(1))
			mustAppend(t, w, pattern(1, 100), false)
			defer f.Inject(simdisk.Rule{Op: simdisk.OpWrite, Times: 1, Err: syscall.ENOSPC})()
			defer f.Inject(rule)()
			_, err := run(w, Job{Offset: 100, Data: []byte("x")})
			require.ErrorIs(t, err, fault.Disk)
			requireFailed(t, s, w, 100)
		})
	}
}

// requireFailed checks that a writer fails for good and readers still see what
// was acknowledged.
func requireFailed(t *testing.T, s *Store, w *Writer, acknowledged int64) {
	t.Helper()
	for _, job := range []Job{
		{Offset: w.Length(), Data: []byte("x")}, {Offset: w.Length(), Sync: true}, {Offset: w.Length(), Seal: true},
	} {
		_, err := run(w, job)
		require.Error(t, err)
	}
	id := w.replica.id
	_, err := s.Resume(id, 1, 9, 0)
	require.ErrorIs(t, err, fault.Disk)
	_, _, err = s.BeginRecovery(id, 9)
	require.ErrorIs(t, err, fault.Disk)
	got, err := s.Stat(id)
	require.NoError(t, err)
	require.Equal(t, acknowledged, got.Length)
	require.NotEmpty(t, s.Volumes()[0].Error)
}

func TestIOErrorEndsTheWriterForGood(t *testing.T) {
	for name, c := range map[string]struct {
		rule         simdisk.Rule
		job          Job
		acknowledged int64
	}{
		"write data": {simdisk.Rule{Op: simdisk.OpWrite, Err: syscall.EIO}, Job{Data: pattern(2, 10)}, 100},
		"write sums": {simdisk.Rule{Op: simdisk.OpWrite, From: 2, Err: syscall.EIO},
			Job{Data: pattern(2, blockBytes)}, 100},
		"write flush slot": {simdisk.Rule{Op: simdisk.OpWrite, From: 2, Err: syscall.EIO}, Job{Data: pattern(2, 10)},
			100},
		"write sync slot": {simdisk.Rule{Op: simdisk.OpWrite, From: 2, Err: syscall.EIO},
			Job{Data: pattern(2, 10), Sync: true},
			110},
		"fdatasync": {simdisk.Rule{Op: simdisk.OpDatasync, Times: 1, Err: syscall.EIO}, Job{Data: pattern(2, 10),
			Sync: true}, 110},
		"fdatasync, full": {simdisk.Rule{Op: simdisk.OpDatasync, Times: 1, Err: syscall.ENOSPC},
			Job{Data: pattern(2, 10),
				Sync: true}, 110},
		"sync directory": {simdisk.Rule{Op: simdisk.OpSyncDir, Times: 1, Err: syscall.EIO}, Job{Sync: true}, 100},
		"write-out": {simdisk.Rule{Op: simdisk.OpSyncRange, Err: syscall.EIO}, Job{Data: pattern(2, 100_000)},
			100_100},
		"seal rename":    {simdisk.Rule{Op: simdisk.OpRename, Times: 1, Err: syscall.EIO}, Job{Seal: true}, 100},
		"seal directory": {simdisk.Rule{Op: simdisk.OpSyncDir, Times: 1, Err: syscall.EIO}, Job{Seal: true}, 100},
		"close with sync": {simdisk.Rule{Op: simdisk.OpDatasync, Times: 1, Err: syscall.EIO},
			Job{Sync: true, Close: true}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			s, f, m := faultyStore(t)
			s.options.WriteoutStepBytes = 90_000
			w := mustCreate(t, s, testID(1))
			mustAppend(t, w, pattern(1, 100), false)
			defer f.Inject(c.rule)()
			c.job.Offset = 100
			_, err := run(w, c.job)
			kind := fault.Disk
			if errors.Is(c.rule.Err, syscall.ENOSPC) {
				kind = fault.NoSpace
			}
			require.ErrorIs(t, err, kind)
			var e *fault.Error
			require.ErrorAs(t, err, &e)
			require.NotEmpty(t, e.Op)
			if kind == fault.NoSpace {
				require.Equal(t, "/d", e.Path, "the disk, not the file, is what a person can do something about")
			} else {
				require.Contains(t, e.Path, "/d/chunks/01/"+testID(1).String())
			}
			if kind == fault.Disk {
				requireFailed(t, s, w, c.acknowledged)
			}
			crashed := openStore(t, testOptions(m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})))
			data, err := readVerified(crashed, testID(1))
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(data), 100)
		})
	}
}

func TestFailedSyncFailsEveryJobBehindIt(t *testing.T) {
	s, f, _ := faultyStore(t)
	w := mustCreate(t, s, testID(1))
	defer f.Inject(simdisk.Rule{Op: simdisk.OpDatasync, Times: 1, Err: syscall.EIO})()
	hold := make(chan struct{})
	require.NoError(t, s.Do(testID(1), func() { <-hold }))
	results := make(chan error, 3)
	for i := range 3 {
		require.NoError(t, w.Submit(Job{Offset: int64(i), Data: []byte("x"), Sync: i == 0, Done: func(_ int64,
			err error) {
			results <- err
		}}))
	}
	close(hold)
	for range 3 {
		require.ErrorIs(t, <-results, fault.Disk)
	}
}

func TestCreateFailsCleanly(t *testing.T) {
	for name, c := range map[string]struct {
		rule simdisk.Rule
		kind fault.Kind
	}{
		"open":              {simdisk.Rule{Op: simdisk.OpOpen, Path: "*.open", Err: syscall.EIO}, fault.Disk},
		"too many files":    {simdisk.Rule{Op: simdisk.OpOpen, Path: "*.open", Err: syscall.EMFILE}, fault.Busy},
		"no room to open":   {simdisk.Rule{Op: simdisk.OpOpen, Path: "*.open", Err: syscall.ENOSPC}, fault.NoSpace},
		"preallocate":       {simdisk.Rule{Op: simdisk.OpPreallocate, Err: syscall.ENOSPC}, fault.NoSpace},
		"header":            {simdisk.Rule{Op: simdisk.OpWrite, Err: syscall.EIO, WriteBytes: 100}, fault.Disk},
		"statfs everywhere": {simdisk.Rule{Op: simdisk.OpStatFS, Err: syscall.EIO}, fault.Disk},
	} {
		t.Run(name, func(t *testing.T) {
			s, f, m := faultyStore(t)
			remove := f.Inject(c.rule)
			_, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: 1 << 20, SizeHint: 1 << 20})
			require.ErrorIs(t, err, c.kind)
			_, err = s.Stat(testID(1))
			require.ErrorIs(t, err, fault.NotFound)
			require.Empty(t, s.Replicas())
			left, err := m.ReadDir("/d/chunks/01")
			require.NoError(t, err)
			require.Empty(t, left)
			remove()
			mustSeal(t, mustCreate(t, s, testID(1)))
		})
	}
}

func TestReadErrorsAreToldAndCounted(t *testing.T) {
	s, f, _ := faultyStore(t)
	for _, n := range []int{1, 3, 4} {
		w := mustCreate(t, s, testID(n))
		mustAppend(t, w, pattern(1, blockBytes+5), false)
		mustSeal(t, w)
	}
	r, err := s.OpenReader(testID(1), 0)
	require.NoError(t, err)
	defer r.Close()
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpRead, Err: syscall.EIO})
	_, err = r.Range(0, -1)
	require.ErrorIs(t, err, fault.Disk)
	_, err = r.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fault.Disk)
	require.ErrorIs(t, s.VerifyReplica(testID(1)), fault.Disk, "unreadable is not known to be corrupt")
	_, err = s.Digest(testID(1))
	require.ErrorIs(t, err, fault.Disk)
	require.Equal(t, datanode.VolumeSuspect, s.Volumes()[0].Health, "four errors of one file")
	require.ErrorIs(t, s.VerifyReplica(testID(3)), fault.Disk)
	require.ErrorIs(t, s.VerifyReplica(testID(4)), fault.Disk)
	remove()
	require.Equal(t, datanode.VolumeFailed, s.Volumes()[0].Health, "three files")
	_, err = s.Create(testID(2), 1, CreateOptions{ChunkSize: testChunkSize})
	require.ErrorIs(t, err, fault.Disk)
	_, err = s.OpenReader(testID(1), 0)
	require.ErrorIs(t, err, fault.Disk, "nobody asks a disk that is out of service")

	s = reopenStore(t, s)
	remove = f.Inject(simdisk.Rule{Op: simdisk.OpOpen, Err: syscall.EMFILE})
	_, err = s.OpenReader(testID(1), 0)
	require.ErrorIs(t, err, fault.Busy)
	_, _, err = s.BeginRecovery(testID(1), 2)
	require.ErrorIs(t, err, fault.Busy)
	require.ErrorIs(t, s.FinishRecovery(testID(1), 2, 5), fault.Busy)
	require.True(t, s.Volumes()[0].Healthy, "no sign of a bad disk")
	require.Empty(t, s.Volumes()[0].Error)
	remove()
	remove = f.Inject(simdisk.Rule{Op: simdisk.OpRead, Err: syscall.EIO})
	_, err = s.OpenReader(testID(1), 0)
	require.ErrorIs(t, err, fault.Disk)
	remove()
	defer f.Inject(simdisk.Rule{Op: simdisk.OpStat, Err: syscall.EIO})()
	_, err = s.OpenReader(testID(1), 0)
	require.ErrorIs(t, err, fault.Disk)
}

func TestReadOnlyFileSystemCondemnsTheVolume(t *testing.T) {
	s, f, _ := faultyStore(t)
	defer f.Inject(simdisk.Rule{Op: simdisk.OpOpen, Err: syscall.EROFS})()
	_, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: testChunkSize})
	require.ErrorIs(t, err, fault.Disk)
	require.False(t, s.Volumes()[0].Healthy)
}

func TestTakeOverFailsAndIsFenced(t *testing.T) {
	for name, rule := range map[string]simdisk.Rule{
		"read last block": {Op: simdisk.OpRead, Err: syscall.EIO},
		"slot":            {Op: simdisk.OpWrite, Err: syscall.EIO},
		"fdatasync":       {Op: simdisk.OpDatasync, Err: syscall.EIO},
		"truncate":        {Op: simdisk.OpTruncate, Err: syscall.EIO},
		"second sync":     {Op: simdisk.OpDatasync, From: 2, Err: syscall.EIO},
		"rename":          {Op: simdisk.OpRename, Err: syscall.EIO},
		"sync directory":  {Op: simdisk.OpSyncDir, Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			s, f, m := faultyStore(t)
			w := mustCreate(t, s, testID(1))
			data := pattern(1, 1000)
			mustAppend(t, w, data, true)
			remove := f.Inject(rule)
			_, err := s.Resume(testID(1), 1, 2, 500)
			require.ErrorIs(t, err, fault.Disk)
			_, err = run(w, Job{Offset: w.Length(), Data: []byte("x")})
			require.Error(t, err)
			remove()
			_, err = s.Resume(testID(1), 1, 3, 500)
			require.ErrorIs(t, err, fault.Disk, "failed for good")
			crashed := openStore(t, testOptions(m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashDropUnsynced})))
			got, err := readVerified(crashed, testID(1))
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(got), 500)
			require.Equal(t, data[:len(got)], got)
		})
	}
}

func TestDeleteThatFailsKeepsTheReplica(t *testing.T) {
	s, f, _ := faultyStore(t)
	mustSeal(t, mustCreate(t, s, testID(1)))
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpRename, Err: syscall.EIO})
	require.ErrorIs(t, s.Delete(testID(1), 1), fault.Disk)
	requireContent(t, s, testID(1), []byte{})
	require.NoError(t, s.Quarantine(testID(1), 1, "test"), "out of service even if the file cannot be moved")
	requireState(t, s, testID(1), chunk.Replica{Generation: 1, State: chunk.Corrupt})
	remove()
	require.NoError(t, s.Delete(testID(1), 1))
}

func TestOpenTellsWhatFailed(t *testing.T) {
	m := simdisk.NewMem()
	prepared := openStore(t, testOptions(m))
	mustAppend(t, mustCreate(t, prepared, testID(1)), []byte("abc"), true)
	require.NoError(t, prepared.Close())
	for name, rule := range map[string]simdisk.Rule{
		"lock":            {Op: simdisk.OpLock, Err: syscall.EIO},
		"mkdir":           {Op: simdisk.OpMkdir, Err: syscall.EROFS},
		"identity":        {Op: simdisk.OpOpen, Path: identityName, Err: syscall.EIO},
		"identity read":   {Op: simdisk.OpRead, Path: identityName, Err: syscall.EIO},
		"list chunks":     {Op: simdisk.OpReadDir, Path: "7f", Err: syscall.EIO},
		"list quarantine": {Op: simdisk.OpReadDir, Path: quarantineDirectory, Err: syscall.EIO},
		"list trash":      {Op: simdisk.OpReadDir, Path: trashDirectory, Err: syscall.EIO},
		"open replica":    {Op: simdisk.OpOpen, Path: "*.open", Err: syscall.EIO},
		"cut replica":     {Op: simdisk.OpDatasync, Err: syscall.EIO},
		"sync directory":  {Op: simdisk.OpSyncDir, Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			f := simdisk.NewFaulty(m)
			defer f.Inject(rule)()
			_, err := Open(testOptions(f))
			require.ErrorIs(t, err, fault.Disk)
			var e *fault.Error
			require.ErrorAs(t, err, &e)
			require.Contains(t, e.Path, "/d")
		})
	}
	s := openStore(t, testOptions(m))
	requireContent(t, s, testID(1), []byte("abc"))
}

func TestNewVolumeTellsWhatFailed(t *testing.T) {
	for name, rule := range map[string]simdisk.Rule{
		"sync directory": {Op: simdisk.OpSyncDir, Err: syscall.EIO},
		"sync identity":  {Op: simdisk.OpSync, Err: syscall.EIO},
		"write identity": {Op: simdisk.OpWrite, Err: syscall.ENOSPC},
		"rename":         {Op: simdisk.OpRename, Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			m := simdisk.NewMem()
			f := simdisk.NewFaulty(m)
			remove := f.Inject(rule)
			_, err := Open(testOptions(f))
			require.Error(t, err)
			remove()
			openStore(t, testOptions(f)) // what was left does not stand in the way
		})
	}
}

func TestUnreadableOpenReplicaIsSetAside(t *testing.T) {
	s, f, _ := faultyStore(t)
	mustAppend(t, mustCreate(t, s, testID(1)), []byte("abc"), true)
	require.NoError(t, s.Close())
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpRead, Path: "*.open", Err: syscall.EIO})
	s = openStore(t, s.options)
	remove()
	requireState(t, s, testID(1), chunk.Replica{Generation: 1, State: chunk.Corrupt})
	require.True(t, errors.Is(s.VerifyReplica(testID(1)), fault.CorruptData))
}

func TestIdentityNeedsOneVolume(t *testing.T) {
	m := simdisk.NewMem()
	f := simdisk.NewFaulty(m)
	o := testOptions(f)
	o.Directories = []string{"/d", "/e"}
	s := openStore(t, o)
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpSync, Path: identityName + ".tmp", Times: 1, Err: syscall.EIO})
	require.NoError(t, s.Join("c1"))
	remove()
	require.NotEmpty(t, s.Volumes()[0].Error+s.Volumes()[1].Error)
	s = reopenStore(t, s)
	require.Equal(t, "c1", s.Identity().ClusterID)
	remove = f.Inject(simdisk.Rule{Op: simdisk.OpSync, Path: identityName + ".tmp", Err: syscall.EIO})
	require.ErrorIs(t, s.ObserveEpoch(5, 5), fault.Disk)
	require.Zero(t, s.Identity().HighestEpoch, "what is not durable was not seen")
	remove()
	require.NoError(t, s.ObserveEpoch(5, 5))
}

func TestDirectoryThatCannotBeMade(t *testing.T) {
	m := simdisk.NewMem()
	f, err := m.OpenFile("/d", os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = Open(testOptions(m))
	require.ErrorIs(t, err, fault.Disk)
}
