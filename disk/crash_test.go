package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

// expectation is what a crash at this moment may leave of one chunk. While an
// operation runs, it allows the states before and after it.
type expectation struct {
	content  []byte // the replica holds a prefix of it
	flushed  int    // least length if only the process dies; -1: the replica may be missing
	synced   int    // least length after a power failure; -1: the replica may be missing or corrupt
	least    chunk.Generation
	most     chunk.Generation
	states   []chunk.State
	exact    bool             // sealed and settled: the length is that of content
	promised chunk.Generation // acknowledged by BeginRecovery
	deleted  bool             // deletion is not synced: it may be back after a power failure
}

// crashTest runs a workload and checks, after every change of the file system,
// what each kind of crash would leave.
type crashTest struct {
	mem      *simdisk.Mem
	random   *rand.Rand
	store    *Store
	writers  map[int]*Writer
	expected map[int]*expectation
	changes  int
	ahead    int // syncs with zeros behind the end
	failure  error
	opening  bool
	options  func(vfs.FS) Options
	small    map[int]bool // created, and nothing was promised yet
}

var crashPolicies = []simdisk.CrashPolicy{
	{Mode: simdisk.CrashKeepAll},
	{Mode: simdisk.CrashDropUnsynced},
	{Mode: simdisk.CrashTornLast},
	{Mode: simdisk.CrashSubset},
	{Mode: simdisk.CrashSubset},
	{Mode: simdisk.CrashSubset},
}

func TestCrashAtEveryStepLosesNothingAcknowledged(t *testing.T) {
	crashAtEveryStep(t, testOptions)
}

// packOptions are those of a store whose small replicas are records of small
// segments.
func packOptions(fsys vfs.FS) Options {
	o := testOptions(fsys)
	o.PackBytesMax, o.PackSegmentBytes, o.noCompactor = pack.DataBytesMax, pack.SegmentBytesMin+20_000, true
	return o
}

func TestCrashAtEveryStepOfRecordsLosesNothingAcknowledged(t *testing.T) {
	crashAtEveryStep(t, packOptions)
}

func crashAtEveryStep(t *testing.T, options func(vfs.FS) Options) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	if text := os.Getenv("WW_CRASH_SEEDS"); text != "" { // a longer run: make crash
		var err error
		seeds, err = strconv.ParseUint(text, 10, 32)
		require.NoError(t, err)
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			c := &crashTest{
				mem: simdisk.NewMem(), random: rand.New(rand.NewPCG(seed, 7)),
				writers: make(map[int]*Writer), expected: make(map[int]*expectation), opening: true,
				options: options, small: make(map[int]bool),
			}
			c.mem.OnChange(func(op simdisk.Op, path string) {
				c.changes++
				if c.failure != nil || (c.opening && c.changes%16 != 0) { // hundreds of mkdirs
					return
				}
				for i, policy := range crashPolicies {
					policy.Seed = uint64(c.changes)*16 + uint64(i)
					if err := c.check(policy); err != nil {
						c.failure = fmt.Errorf("change %d (%s %s), crash %q seed %d: %w",
							c.changes, op, path, policy.Mode, policy.Seed, err)
						return
					}
				}
			})
			var err error
			c.store, err = Open(c.options(c.mem))
			require.NoError(t, err)
			defer func() { require.NoError(t, c.store.Close()) }()
			c.opening = false
			for range 45 {
				require.NoError(t, c.step())
				require.NoError(t, c.failure)
			}
			require.Greater(t, c.changes, 100)
			t.Logf("%d changes, %d syncs with zeros behind the end", c.changes, c.ahead)
		})
	}
}

// check crashes and looks at what is left.
func (c *crashTest) check(policy simdisk.CrashPolicy) error {
	clone := c.mem.CrashClone(policy)
	var nested error
	if random := policy.Seed * 0x9e3779b97f4a7c15 >> 32; random%128 == 0 {
		clone.OnChange(func(op simdisk.Op, path string) {
			if nested == nil {
				nested = c.checkAgain(clone, op, path)
			}
		})
	}
	s, err := Open(c.options(clone))
	clone.OnChange(nil)
	if err != nil || nested != nil {
		return errors.Join(fmt.Errorf("open after the crash: %w, %w", err, nested), s.Close())
	}
	lengths := make(map[int]int64)
	recovered := make(map[int]bool)
	for n, e := range c.expected {
		replica, err := c.checkChunk(s, n, e, policy.Mode == simdisk.CrashKeepAll)
		if err != nil {
			return errors.Join(fmt.Errorf("chunk %d (%+v): %w", n, e.summary(), err), s.Close())
		}
		lengths[n], recovered[n] = replica.Length, replica.State == chunk.Recovered
	}
	if err := s.Close(); err != nil {
		return err
	}
	// What a recovery found must be found again when power fails right after.
	again, err := Open(c.options(clone.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashDropUnsynced})))
	if err != nil {
		return fmt.Errorf("open after the second crash: %w", err)
	}
	for n, e := range c.expected {
		replica, err := again.Stat(testID(n))
		if (e.synced >= 0 || recovered[n]) && !e.deleted && (err != nil || replica.Length != lengths[n]) {
			return errors.Join(fmt.Errorf("chunk %d: recovered to %d, after a second crash to %+v, %w",
				n, lengths[n], replica, err), again.Close())
		}
	}
	if err := c.goOn(again); err != nil {
		return errors.Join(err, again.Close())
	}
	return again.Close()
}

// checkAgain lets power fail while the store recovers from a crash.
func (c *crashTest) checkAgain(clone *simdisk.Mem, op simdisk.Op, path string) error {
	for _, policy := range crashPolicies[1:4] {
		policy.Seed = uint64(c.changes)
		s, err := Open(c.options(clone.CrashClone(policy)))
		if err != nil {
			return err
		}
		for n, e := range c.expected {
			if _, err := c.checkChunk(s, n, e, false); err != nil {
				return errors.Join(fmt.Errorf("crash %q in a recovery after %s %s, chunk %d (%s): %w",
					policy.Mode, op, path, n, e.summary(), err), s.Close())
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (e *expectation) summary() string {
	return fmt.Sprintf("%d bytes, flushed %d, synced %d, generation %d..%d, %v, exact %v",
		len(e.content), e.flushed, e.synced, e.least, e.most, e.states, e.exact)
}

func (c *crashTest) checkChunk(s *Store, n int, e *expectation, lives bool) (chunk.Replica, error) {
	id := testID(n)
	least := e.synced
	if lives {
		least = e.flushed
	}
	replica, err := s.Stat(id)
	if errors.Is(err, fault.NotFound) || (err == nil && replica.State == chunk.Corrupt && !lives) {
		if least >= 0 && !e.deleted {
			return replica, fmt.Errorf("the replica is lost: %+v, %w", replica, err)
		}
		return replica, nil
	}
	if err != nil {
		return replica, err
	}
	if lives && e.deleted {
		return replica, fmt.Errorf("the deleted replica is there: %+v", replica)
	}
	if !slices.Contains(e.states, replica.State) || replica.Generation < e.least || replica.Generation > e.most {
		return replica, fmt.Errorf("unexpected state %+v", replica)
	}
	if replica.Length < int64(least) || replica.Length > int64(len(e.content)) ||
		(e.exact && replica.Length != int64(len(e.content))) {
		return replica, fmt.Errorf("unexpected length %+v", replica)
	}
	data, err := readVerified(s, id)
	if err != nil {
		return replica, err
	}
	if int64(len(data)) != replica.Length || !bytes.Equal(data, e.content[:len(data)]) {
		return replica, fmt.Errorf("wrong bytes of %+v", replica)
	}
	if err := s.VerifyReplica(id); err != nil {
		return replica, err
	}
	if e.promised > 0 && replica.Generation < e.promised {
		if _, err := s.Resume(id, 1, e.promised-1, replica.Length); !errors.Is(err, fault.StaleGeneration) {
			return replica, fmt.Errorf("the promise of generation %d is forgotten: %w", e.promised, err)
		}
	}
	return replica, nil
}

// goOn writes to every replica that is left, crashes again, and compares.
func (c *crashTest) goOn(s *Store) error {
	want := make(map[chunk.ID][]byte)
	for _, replica := range s.Replicas() {
		if replica.State == chunk.Corrupt {
			continue
		}
		before, err := readVerified(s, replica.ID)
		if err != nil {
			return err
		}
		w, err := s.Reopen(replica.ID, replica.Generation, 1000, replica.Length)
		if err != nil {
			return err
		}
		more := []byte("more")[:min(4, testChunkSize-len(before))]
		if _, err := run(w, Job{Offset: replica.Length, Data: more, Sync: true}); err != nil {
			return err
		}
		want[replica.ID] = append(before, more...)
	}
	crashed, err := Open(c.options(s.fs.(*simdisk.Mem).CrashClone(
		simdisk.CrashPolicy{Mode: simdisk.CrashDropUnsynced})))
	if err != nil {
		return err
	}
	for id, content := range want {
		got, err := readVerified(crashed, id)
		if err != nil || !bytes.Equal(got, content) {
			return errors.Join(fmt.Errorf("going on after a crash: got %d bytes, want %d, %w",
				len(got), len(content), err), crashed.Close())
		}
	}
	return crashed.Close()
}

// step runs one random operation.
func (c *crashTest) step() error {
	if c.random.IntN(12) == 0 {
		return c.restart()
	}
	n := c.random.IntN(4)
	e, w := c.expected[n], c.writers[n]
	if e == nil || e.deleted {
		if e != nil {
			delete(c.expected, n)
			// The unsynced deletion would come back beside the new replica.
			if err := c.mem.SyncDir("/d/chunks/" + chunkfile.Shard(byte(n))); err != nil {
				return err
			}
			if err := c.mem.SyncDir("/d/trash"); err != nil {
				return err
			}
			if err := syncSegments(c.mem); err != nil {
				return err
			}
		}
		if c.store.options.PackBytesMax > 0 && c.random.IntN(3) > 0 {
			return c.store1(n)
		}
		return c.create(n)
	}
	if c.random.IntN(4) == 0 {
		return c.compact()
	}
	if w == nil {
		switch c.random.IntN(6) {
		case 0:
			return c.delete(n)
		case 1:
			return c.recover(n)
		case 2, 3:
			return c.resume(n)
		}
		return c.reopen(n)
	}
	switch c.random.IntN(12) {
	case 0:
		return c.seal(n)
	case 1:
		return c.close(n)
	case 2:
		return c.resume(n)
	case 3:
		return c.recover(n)
	case 4, 5:
		return c.append(n, true)
	case 6: // a second sync of a session writes ahead
		if err := c.append(n, true); err != nil {
			return err
		}
		return c.append(n, true)
	}
	return c.append(n, false)
}

// syncSegments makes deletions of records durable.
func syncSegments(m *simdisk.Mem) error {
	list, err := m.ReadDir("/d/packs")
	if err != nil {
		return err
	}
	for _, entry := range list {
		f, err := m.OpenFile("/d/packs/"+entry.Name(), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Datasync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (c *crashTest) create(n int) (err error) {
	e := &expectation{flushed: -1, synced: -1, least: 1, most: 1, states: []chunk.State{chunk.Recovered}}
	c.expected[n] = e
	c.writers[n], err = c.store.Create(testID(n), 1, CreateOptions{ChunkSize: testChunkSize, SizeHint: 100})
	if c.store.options.PackBytesMax > 0 {
		c.small[n] = true // empty, and only in memory
		return err
	}
	e.flushed = 0
	return err
}

// store1 stores a replica in one job.
func (c *crashTest) store1(n int) error {
	sizes := []int{0, 1, 100, 511, 512, 513, 4096, blockBytes - 1, blockBytes}
	data := pattern(c.random.Uint64(), sizes[c.random.IntN(len(sizes))])
	e := &expectation{content: data, flushed: -1, synced: -1, least: 1, most: 1, states: []chunk.State{chunk.Sealed},
		exact: true}
	c.expected[n] = e
	hidden := c.random.IntN(3) == 0
	w, err := c.store.Create(testID(n), 1, CreateOptions{ChunkSize: testChunkSize, SizeHint: int64(max(1, len(data))),
		Hidden: hidden})
	if err != nil {
		return err
	}
	job := Job{Data: data, Seal: true}
	if hidden {
		if _, err := run(w, Job{Data: data}); err != nil {
			return err
		}
		job = Job{Offset: int64(len(data)), Seal: true}
	}
	if _, err := run(w, job); err != nil {
		return err
	}
	c.sealed(n)
	return nil
}

// compact compacts a closed segment, whatever is dead of it.
func (c *crashTest) compact() error {
	closed := c.store.volumes.all()[0].packs.Closed()
	if len(closed) == 0 {
		return nil
	}
	return c.store.compactor.Compact(closed[0], func(int64) bool { return true })
}

func (c *crashTest) append(n int, sync bool) error {
	e, w := c.expected[n], c.writers[n]
	delete(c.small, n)
	length := len(e.content)
	sizes := []int{0, 1, 100, 511, 513, 4096, blockBytes - length%blockBytes, blockBytes, blockBytes + 1, 100_000}
	size := min(sizes[c.random.IntN(len(sizes))], testChunkSize-length)
	data := pattern(c.random.Uint64(), size)
	if c.random.IntN(3) == 0 {
		clear(data) // looks like what is written ahead
	}
	e.content = append(e.content[:length:length], data...)
	if _, err := run(w, Job{Offset: int64(length), Data: data, Sync: sync}); err != nil {
		return err
	}
	e.flushed = len(e.content)
	if sync {
		e.synced = len(e.content)
		if t := w.replica.tail; t != nil && t.Ahead() > int64(len(e.content)) {
			c.ahead++
		}
	}
	return nil
}

func (c *crashTest) seal(n int) error {
	e, w := c.expected[n], c.writers[n]
	e.states = []chunk.State{chunk.Recovered, chunk.Sealed}
	if _, err := run(w, Job{Offset: int64(len(e.content)), Seal: true}); err != nil {
		return err
	}
	c.sealed(n)
	return nil
}

// sealed notes that the replica is sealed for sure.
func (c *crashTest) sealed(n int) {
	delete(c.small, n)
	e := c.expected[n]
	e.states, e.exact = []chunk.State{chunk.Sealed}, true
	e.flushed, e.synced = len(e.content), len(e.content)
	c.writers[n] = nil
}

// restart stops the store and starts it again, which makes open replicas
// durable as they are.
func (c *crashTest) restart() (err error) {
	clear(c.writers)
	for n := range c.small {
		delete(c.expected, n)
	}
	clear(c.small)
	if err := c.store.Close(); err != nil {
		return err
	}
	if c.store, err = Open(c.options(c.mem)); err != nil {
		return err
	}
	for _, e := range c.expected {
		if !e.deleted {
			e.synced = len(e.content)
		}
	}
	return nil
}

func (c *crashTest) close(n int) error {
	_, err := run(c.writers[n], Job{Close: true})
	c.writers[n] = nil
	return err
}

func (c *crashTest) reopen(n int) (err error) {
	e := c.expected[n]
	delete(c.small, n)
	previous := e.least
	if replica, err := c.store.Stat(testID(n)); err != nil || replica.State == chunk.Open {
		return err // closed without a seal: Resume is for that
	}
	e.states = append(e.states, chunk.Recovered)
	e.most = max(e.most+1, e.promised)
	e.exact = false
	c.writers[n], err = c.store.Reopen(testID(n), previous, e.most, int64(len(e.content)))
	e.least, e.states = e.most, []chunk.State{chunk.Recovered}
	return err
}

func (c *crashTest) resume(n int) (err error) {
	e := c.expected[n]
	length := len(e.content)
	if c.random.IntN(2) == 0 {
		length = c.random.IntN(length + 1)
	}
	c.cutting(e, length)
	delete(c.small, n)
	old := c.writers[n]
	c.writers[n], err = c.store.Resume(testID(n), 1, e.most, int64(length))
	if err != nil {
		return err
	}
	c.cut(e, length)
	e.states = []chunk.State{chunk.Recovered}
	if old != nil {
		if _, err := run(old, Job{Offset: int64(length), Data: []byte("x")}); !errors.Is(err, fault.StaleGeneration) {
			return fmt.Errorf("the writer before a resume is not fenced: %w", err)
		}
	}
	return nil
}

// cutting allows what may be found while the replica is cut under the next
// generation.
func (c *crashTest) cutting(e *expectation, length int) {
	e.flushed, e.synced = min(e.flushed, length), min(e.synced, length)
	e.states = append(e.states, chunk.Recovered)
	e.exact = false
	e.most = max(e.most+1, e.promised)
}

// cut notes that the cut is done.
func (c *crashTest) cut(e *expectation, length int) {
	if length < len(e.content) {
		e.synced = length
	}
	e.content = e.content[:length:length]
	e.least, e.flushed = e.most, length
}

func (c *crashTest) recover(n int) error {
	e := c.expected[n]
	length := len(e.content)
	if c.random.IntN(2) == 0 {
		length = c.random.IntN(length + 1)
	}
	delete(c.small, n)
	promise := max(e.most, e.promised) + 1
	replica, _, err := c.store.BeginRecovery(testID(n), promise)
	if err != nil {
		return err
	}
	if replica.Length != int64(len(e.content)) {
		return fmt.Errorf("begin recovery of %s: %+v", e.summary(), replica)
	}
	c.writers[n] = nil
	e.promised, e.synced = promise, len(e.content)
	if c.random.IntN(3) == 0 {
		return nil
	}
	e.states = append(e.states, chunk.Sealed)
	c.cutting(e, length)
	if err := c.store.FinishRecovery(testID(n), promise, int64(length)); err != nil {
		return err
	}
	c.cut(e, length)
	c.sealed(n)
	return nil
}

func (c *crashTest) delete(n int) error {
	e := c.expected[n]
	delete(c.small, n)
	e.flushed, e.synced = -1, -1
	if err := c.store.Delete(testID(n), e.most); err != nil {
		return err
	}
	e.deleted = true
	return nil
}

// TestPowerFailsWhileAStoreComesBackFromAProcessCrash: a process dies between
// writing a sync slot and its fdatasync; the next one must not overwrite the
// slot that is durable before the other one is.
func TestPowerFailsWhileAStoreComesBackFromAProcessCrash(t *testing.T) {
	id := testID(1)
	for name, c := range map[string]struct {
		sealed bool
		dies   func(s *Store, w *Writer) error // is cut off before its fdatasync
		next   func(s *Store) error            // the next process, at whose every step power fails
		least  int                             // bytes
	}{
		"in a sync": {
			dies: func(_ *Store, w *Writer) error {
				_, err := run(w, Job{Offset: 3000, Data: pattern(2, 5000), Sync: true})
				return err
			},
			next:  func(*Store) error { return nil },
			least: 3000,
		},
		"in a promise on a sealed replica": {
			sealed: true,
			dies:   func(s *Store, _ *Writer) error { _, _, err := s.BeginRecovery(id, 5); return err },
			next: func(s *Store) error {
				w, err := s.Reopen(id, 1, 6, 3000)
				if err == nil {
					_, err = run(w, Job{Offset: 3000, Data: pattern(3, 100), Sync: true})
				}
				return err
			},
			least: 3000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := simdisk.NewMem()
			s := openStore(t, testOptions(m))
			w := mustCreate(t, s, id)
			mustAppend(t, w, pattern(1, 1000), true)
			mustAppend(t, w, pattern(1, 3000)[1000:], true)
			if c.sealed {
				mustSeal(t, w)
				s = reopenStore(t, s)
			}
			var died *simdisk.Mem
			settled := false
			m.OnChange(func(op simdisk.Op, _ string) {
				if op == simdisk.OpWrite && !settled {
					died = m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})
				}
				settled = settled || (op == simdisk.OpDatasync && died != nil)
			})
			require.NoError(t, c.dies(s, w))
			require.NotNil(t, died)
			steps := 0
			var failure error
			died.OnChange(func(op simdisk.Op, path string) {
				for seed := range uint64(20) {
					steps++
					again, err := Open(testOptions(died.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashSubset,
						Seed: seed})))
					if err != nil {
						failure = errors.Join(failure, err)
						return
					}
					data, err := readVerified(again, id)
					if err != nil || len(data) < c.least || !bytes.Equal(data[:1000], pattern(1, 1000)) {
						failure = errors.Join(failure, fmt.Errorf("%s %s, seed %d: %d bytes, %w", op, path, seed,
							len(data), err))
					}
					failure = errors.Join(failure, again.Close())
				}
			})
			back, err := Open(testOptions(died))
			require.NoError(t, err)
			require.NoError(t, c.next(back))
			died.OnChange(nil)
			require.NoError(t, back.Close())
			require.NoError(t, failure)
			require.Greater(t, steps, 50)
		})
	}
}
