package disk

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

const copiedBytes = 4 << 20

func createCopy(t *testing.T, s *Store, n int) *Writer {
	w, err := s.Create(testID(n), 1, CreateOptions{ChunkSize: 64 << 20, SizeHint: copiedBytes, Hidden: true,
		Background: true})
	require.NoError(t, err)
	return w
}

func TestTheDiskHasTwoStepsOfACopyAtMost(t *testing.T) {
	s, f, _ := faultyStore(t)
	started, awaited, most := 0, 0, 0
	f.Inject(simdisk.Rule{Op: simdisk.OpSyncRange, Before: func() { started++; most = max(most, started-awaited) }})
	f.Inject(simdisk.Rule{Op: simdisk.OpAwaitRange, Before: func() { awaited++ }})
	w, data := createCopy(t, s, 1), pattern(1, copiedBytes)
	for at := 0; at < len(data); at += 256 << 10 {
		mustAppend(t, w, data[at:at+256<<10], false)
	}
	require.Equal(t, copiedBytes/copyStepBytes, started)
	require.Equal(t, started-1, awaited)
	require.Equal(t, 2, most)
	mustSeal(t, w)
	requireContent(t, s, testID(1), data)

	// An append later is a client's.
	w, err := s.Reopen(testID(1), 1, 2, copiedBytes)
	require.NoError(t, err)
	started = 0
	mustAppend(t, w, pattern(2, 2*copyStepBytes), false)
	require.Zero(t, started)
	mustSeal(t, w)
}

func TestACopyThatWaitsForTheDiskDelaysNoClient(t *testing.T) {
	s, f, _ := faultyStore(t)
	waits, goOn := make(chan struct{}), make(chan struct{})
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpSyncRange, Times: 1, Before: func() { close(waits); <-goOn }})
	w, copied := createCopy(t, s, 1), make(chan error, 2*copiedBytes/JobBytesMax)
	for at := int64(0); at < 2*copiedBytes; at += JobBytesMax { // more than a client's step
		require.NoError(t, w.Submit(Job{Offset: at, Data: pattern(1, JobBytesMax),
			Done: func(_ int64, err error) { copied <- err }}))
	}
	<-waits
	client := mustCreate(t, s, testID(2)) // there is one worker for all clients
	served := make(chan error, 1)
	require.NoError(t, client.Submit(Job{Data: pattern(2, 1000), Sync: true,
		Done: func(_ int64, err error) { served <- err }}))
	select {
	case err := <-served:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Error("a client waits for the copy")
	}
	remove()
	close(goOn)
	for range cap(copied) {
		require.NoError(t, <-copied)
	}
	mustSeal(t, w)
	mustSeal(t, client)
}

// While a client waits for the disk, each step of a copy waits too, at both ends, for a bounded time.
func TestCopiesYieldAndNeverStarve(t *testing.T) {
	f, now := simdisk.NewFaulty(simdisk.NewMem()), &fakeclock.Hurried{Clock: fakeclock.New(testTime),
		Most: spacePatience - 1}
	o := testOptions(f)
	o.Clock = now
	s := openStore(t, o)
	w := mustCreateLarge(t, s, 1)
	mustAppend(t, w, pattern(1, copiedBytes), false)
	mustSeal(t, w)
	reader, err := s.OpenReader(testID(1), 1)
	require.NoError(t, err)
	defer reader.Close()
	reader.InBackground()
	prefetched := 0
	f.Inject(simdisk.Rule{Op: simdisk.OpPrefetch, Before: func() { prefetched++ }})

	began := now.Now()
	ahead := func(offset int64, bytes int64) {
		t.Helper()
		got, err := reader.Ahead(offset, copiedBytes)
		require.NoError(t, err)
		require.Equal(t, bytes, got)
	}
	ahead(0, copyStepBytes)
	require.Equal(t, 2, prefetched)
	ahead(1000, copyStepBytes)
	require.Equal(t, 3, prefetched, "two steps ahead")
	copied := createCopy(t, s, 2)
	mustAppend(t, copied, pattern(2, JobBytesMax), false)
	require.Equal(t, began, now.Now(), "nobody else uses the disk")

	client := mustCreate(t, s, testID(3))
	waits, goOn := make(chan struct{}), make(chan struct{})
	f.Inject(simdisk.Rule{Op: simdisk.OpDatasync, Times: 1, Before: func() { close(waits); <-goOn }})
	served := make(chan error, 1)
	require.NoError(t, client.Submit(Job{Data: pattern(4, 100), Sync: true,
		Done: func(_ int64, err error) { served <- err }}))
	<-waits
	mustAppend(t, copied, pattern(3, JobBytesMax), false)
	wrote := now.Now()
	ahead(copiedBytes-copyStepBytes-1, copyStepBytes)
	read := now.Now()
	close(goOn)
	require.NoError(t, <-served)
	for _, waited := range []time.Duration{wrote.Sub(began), read.Sub(wrote)} {
		require.Positive(t, waited)
		require.Less(t, waited, 50*time.Millisecond, "it goes on while the client still waits")
	}
	mustSeal(t, copied)
	mustSeal(t, client)
	requireContent(t, s, testID(2), append(pattern(2, JobBytesMax), pattern(3, JobBytesMax)...))
}

func mustCreateLarge(t *testing.T, s *Store, n int) *Writer {
	w, err := s.Create(testID(n), 1, CreateOptions{ChunkSize: 64 << 20})
	require.NoError(t, err)
	return w
}

// An error of the write-out may be told to whoever waits for it and to nobody else: it must not get lost.
func TestACopyWhoseWriteOutFailsIsNotMade(t *testing.T) {
	s, f, _ := faultyStore(t)
	f.Inject(simdisk.Rule{Op: simdisk.OpAwaitRange, Times: 1, Err: syscall.EIO})
	w := createCopy(t, s, 1)
	mustAppend(t, w, pattern(1, copyStepBytes), false)
	_, err := run(w, Job{Offset: copyStepBytes, Data: pattern(2, copyStepBytes)})
	require.ErrorIs(t, err, fault.Disk)
	_, err = run(w, Job{Offset: w.Length(), Seal: true})
	require.ErrorIs(t, err, fault.Disk)
	_, err = s.Stat(testID(1))
	require.ErrorIs(t, err, fault.NotFound)
}
