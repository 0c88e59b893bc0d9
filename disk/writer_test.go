package disk

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

func TestQueuedSyncsShareOneDatasync(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, testOptions(m))
	one, other := mustCreate(t, s, testID(1)), mustCreate(t, s, testID(2))
	var syncs atomic.Int32
	m.OnChange(func(op simdisk.Op, _ string) {
		if op == simdisk.OpDatasync {
			syncs.Add(1)
		}
	})
	hold := make(chan struct{})
	require.NoError(t, s.Do(testID(1), func() { <-hold }))
	var order []string
	var wait sync.WaitGroup
	for i := range 10 {
		for name, w := range map[string]*Writer{"one": one, "other": other} {
			wait.Add(1)
			require.NoError(t, w.Submit(Job{Offset: int64(i), Data: []byte("x"), Sync: i%3 == 0,
				Done: func(length int64,
					err error) {
					if err != nil || length != int64(i+1) {
						t.Errorf("job %d of %s: length %d, %v", i, name, length, err)
					}
					if name == "one" {
						order = append(order, fmt.Sprint(i))
					}
					wait.Done()
				}}))
		}
	}
	close(hold)
	wait.Wait()
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, order)
	require.EqualValues(t, 2, syncs.Load(), "one per writer")
	_, err := run(one, Job{Offset: 10, Sync: true})
	require.NoError(t, err)
	require.EqualValues(t, 2, syncs.Load(), "nothing new to sync")
}

func TestFullQueueIsBusy(t *testing.T) {
	o := testOptions(simdisk.NewMem())
	o.QueueDepth = 2
	s := openStore(t, o)
	w := mustCreate(t, s, testID(1))
	hold, held := make(chan struct{}), make(chan struct{})
	require.NoError(t, s.Do(testID(1), func() { close(held); <-hold }))
	<-held
	done := make(chan error, 2)
	for i := range 2 {
		require.NoError(t, w.Submit(Job{Offset: int64(i), Data: []byte("x"),
			Done: func(_ int64, err error) { done <- err }}))
	}
	require.ErrorIs(t, w.Submit(Job{Offset: 2, Data: []byte("x")}), fault.Busy)
	require.ErrorIs(t, s.Do(testID(7), func() {}), fault.Busy)
	require.Empty(t, s.index.mu.intended)
	close(hold)
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.NoError(t, s.Close())
	require.ErrorIs(t, w.Submit(Job{Offset: 2}), fault.Closed)
	require.ErrorIs(t, s.Do(testID(1), func() {}), fault.Closed)
}

func TestCloseFinishesWhatIsQueued(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	w := mustCreate(t, s, testID(1))
	hold := make(chan struct{})
	require.NoError(t, s.Do(testID(1), func() { <-hold }))
	var done atomic.Int32
	for i := range 20 {
		require.NoError(t, w.Submit(Job{Offset: int64(i), Data: []byte("x"), Sync: i == 10, Done: func(int64,
			error) {
			done.Add(1)
		}}))
	}
	close(hold)
	require.NoError(t, s.Close())
	require.EqualValues(t, 20, done.Load())
}

func TestDoKeepsANewChunkOnItsWorker(t *testing.T) {
	o := testOptions(simdisk.NewMem())
	o.Directories = []string{"/a", "/b", "/c"}
	o.WorkersPerVolume = 4
	s := openStore(t, o)
	for n := range 50 {
		id := testID(n)
		created := make(chan *Writer, 1)
		require.NoError(t, s.Do(id, func() {
			s.index.mu.RLock()
			intended := s.index.mu.intended[id]
			s.index.mu.RUnlock()
			w, err := s.Create(id, 1, CreateOptions{ChunkSize: testChunkSize})
			if err != nil || len(intended) != 1 || w.replica.volume != intended[0] {
				t.Errorf("created with %v on %v", err, intended)
			}
			created <- w
		}))
		w := <-created
		require.Same(t, w.replica.volume.workerOf(id), w.worker)
		mustAppend(t, w, []byte("x"), false)
	}
	require.NoError(t, s.Close())
	require.Empty(t, s.index.mu.intended)
}

func TestPreallocationBeyondTheEndIsGivenBack(t *testing.T) {
	m := simdisk.NewMem()
	f := simdisk.NewFaulty(m)
	s := openStore(t, testOptions(f))
	var preallocated, truncated int
	defer f.Inject(simdisk.Rule{Op: simdisk.OpPreallocate, Before: func() { preallocated++ }})()
	defer f.Inject(simdisk.Rule{Op: simdisk.OpTruncate, Before: func() { truncated++ }})()
	for n, length := range []int{1 << 20, 1000} {
		w, err := s.Create(testID(n), 1, CreateOptions{ChunkSize: 1 << 20, SizeHint: 5 << 20})
		require.NoError(t, err)
		mustAppend(t, w, pattern(1, length), false)
		mustSeal(t, w)
	}
	require.Equal(t, 2, preallocated)
	require.Equal(t, 1, truncated)
}

// TestTakeOverBetweenAppendAndSync: a sync job's append leaves no flush slot of
// its own; when the session is fenced before the sync, the successor's view must
// still survive the death of the process.
func TestTakeOverBetweenAppendAndSync(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, testOptions(m))
	w := mustCreate(t, s, testID(1))
	mustAppend(t, w, []byte("abc"), true)
	_, err := w.write(&Job{Offset: 3, Data: []byte("def"), Sync: true}, false)
	require.NoError(t, err)
	_, err = s.Resume(testID(1), 1, 2, 6)
	require.NoError(t, err)
	require.ErrorIs(t, w.sync(), fault.StaleGeneration)
	crashed := openStore(t, testOptions(m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})))
	requireContent(t, crashed, testID(1), []byte("abcdef"))
}

func TestEventsTellEveryChange(t *testing.T) {
	o := testOptions(simdisk.NewMem())
	var events []Event
	o.OnEvent = func(e Event) { events = append(events, e) }
	s := openStore(t, o)
	id := testID(1)
	w := mustCreate(t, s, id)
	mustAppend(t, w, []byte("abc"), true)
	mustSeal(t, w)
	w, err := s.Reopen(id, 1, 2, 3)
	require.NoError(t, err)
	_, err = run(w, Job{Close: true})
	require.NoError(t, err)
	_, _, err = s.BeginRecovery(id, 5)
	require.NoError(t, err)
	require.NoError(t, s.FinishRecovery(id, 5, 2))
	require.NoError(t, s.Delete(id, 5))
	want := []Event{
		{Kind: Stored, Replica: chunk.Replica{ID: id, Generation: 1, State: chunk.Open}},
		{Kind: Stored, Replica: chunk.Replica{ID: id, Generation: 1, Length: 3, State: chunk.Sealed}},
		{Kind: Stored, Replica: chunk.Replica{ID: id, Generation: 2, Length: 3, State: chunk.Open}},
		{Kind: Stored, Replica: chunk.Replica{ID: id, Generation: 5, Length: 2, State: chunk.Sealed}},
		{Kind: Removed, Replica: chunk.Replica{ID: id, Generation: 5, Length: 2, State: chunk.Sealed}},
	}
	require.Equal(t, want, events)
}

func TestRecoveryOrdersAreChecked(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	id := testID(1)
	_, _, err := s.BeginRecovery(testID(2), 2)
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorIs(t, s.FinishRecovery(testID(2), 2, 0), fault.NotFound)
	w := mustCreate(t, s, id)
	mustAppend(t, w, []byte("abc"), false)
	_, _, err = s.BeginRecovery(id, 1)
	require.ErrorIs(t, err, fault.StaleGeneration)
	require.ErrorIs(t, s.FinishRecovery(id, 5, 3), fault.StaleGeneration, "nothing was promised")
	mustAppend(t, w, []byte("d"), false) // a refused order fences nobody
	for range 2 {
		_, restarted, err := s.BeginRecovery(id, 5)
		require.NoError(t, err)
		require.False(t, restarted)
	}
	_, _, err = s.BeginRecovery(id, 4)
	require.ErrorIs(t, err, fault.StaleGeneration, "5 was promised")
	_, err = s.Resume(id, 1, 4, 3)
	require.ErrorIs(t, err, fault.StaleGeneration)
	s = reopenStore(t, s)
	_, err = s.Reopen(id, 1, 4, 4)
	require.ErrorIs(t, err, fault.StaleGeneration, "also after a restart")
	require.NoError(t, s.FinishRecovery(id, 5, 4))
	requireContent(t, s, id, []byte("abcd"))
	_, _, err = s.BeginRecovery(id, 9)
	require.NoError(t, err)
	s = reopenStore(t, s)
	_, err = s.Reopen(id, 1, 8, 4)
	require.ErrorIs(t, err, fault.StaleGeneration, "a sealed replica keeps the promise too")
	requireState(t, s, id, chunk.Replica{Generation: 5, Length: 4, State: chunk.Sealed})
}

func TestReadersAndWritersAtOnce(t *testing.T) {
	o := testOptions(vfs.OS{})
	o.Directories = []string{t.TempDir()}
	o.WorkersPerVolume = 2
	s := openStore(t, o)
	data := pattern(1, testChunkSize)
	var wait sync.WaitGroup
	for n := range 4 {
		w := mustCreate(t, s, testID(n))
		wait.Go(func() {
			for at := 0; at < len(data); {
				size := min(1+at%5000, len(data)-at)
				if _, err := run(w, Job{Offset: int64(at), Data: data[at : at+size], Sync: at%7 == 0}); err != nil {
					t.Errorf("append: %v", err)
					return
				}
				at += size
			}
			if _, err := run(w, Job{Offset: int64(len(data)), Seal: true}); err != nil {
				t.Errorf("seal: %v", err)
			}
		})
		wait.Go(func() {
			for {
				got, err := readVerified(s, testID(n))
				if err != nil || string(got) != string(data[:len(got)]) {
					t.Errorf("read %d bytes: %v", len(got), err)
					return
				}
				if len(got) == len(data) {
					return
				}
				if err := s.VerifyReplica(testID(n)); err != nil {
					t.Errorf("verify: %v", err)
					return
				}
			}
		})
	}
	wait.Wait()
}

func TestSteadyAppendsDoNotAllocate(t *testing.T) {
	o := testOptions(vfs.OS{})
	o.Directories = []string{t.TempDir()}
	s := openStore(t, o)
	w, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: 64 << 20})
	require.NoError(t, err)
	data := pattern(1, 100)
	done := make(chan error, 1)
	report := func(_ int64, err error) { done <- err }
	for _, sync := range []bool{false, true} {
		const many = 100 // a count per run is rounded down
		allocations := testing.AllocsPerRun(4, func() {
			for range many {
				if err := w.Submit(Job{Offset: w.Length(), Data: data, Sync: sync, Done: report}); err != nil {
					t.Error(err)
					return
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
		require.LessOrEqual(t, allocations, 2.0, "of %d appends, sync %v", many, sync)
	}
}

func TestIdleFilesAreBounded(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	const many = idleFilesMax + 50
	for n := range many {
		mustSeal(t, mustCreate(t, s, testID(n)))
	}
	require.Equal(t, idleFilesMax, s.files.Idle())
	for n := range many { // closed ones open again
		requireContent(t, s, testID(n), []byte{})
	}
	require.Equal(t, idleFilesMax, s.files.Idle())
}
