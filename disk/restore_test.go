package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/health"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

// trashOne stores a replica of one kind, with pattern(n, its length), and deletes it.
func trashOne(t testing.TB, s *Store, kind string, n int) (length int) {
	t.Helper()
	id := testID(n)
	if kind == "record" {
		storeSmall(t, s, id, pattern(uint64(n), 5000))
		require.True(t, isPacked(s, id))
		require.NoError(t, s.Delete(id, 1))
		return 5000
	}
	length = blockBytes + 1000
	writer := mustCreate(t, s, id)
	mustAppend(t, writer, pattern(uint64(n), length), true)
	if kind == "sealed" {
		mustSeal(t, writer)
	}
	require.NoError(t, s.Delete(id, 1))
	return length
}

var trashKinds = []string{"sealed", "open", "record"}

// inTrash lists what a store's trash has of a chunk.
func inTrash(s *Store, n int) []Trashed { return s.Trash(testID(n), 0, 100) }

func TestDeletedReplicaIsRestored(t *testing.T) {
	for _, kind := range trashKinds {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarts: %v", kind, restarts), func(t *testing.T) {
				o := packOptions(simdisk.NewMem())
				var told []Event
				o.OnEvent = func(e Event) { told = append(told, e) }
				s := openStore(t, o)
				length := trashOne(t, s, kind, 1)
				if restarts {
					s = reopenStore(t, s)
				}
				list := inTrash(s, 1)
				require.Len(t, list, 1)
				found := list[0]
				require.Equal(t, s.Volumes()[0].ID, found.VolumeID)
				require.Equal(t, testTime, found.Deleted.UTC())
				require.Equal(t, testTime.Add(time.Hour), found.Until.UTC())
				want := chunk.Replica{ID: testID(1), Generation: 1, Length: int64(length), State: chunk.Sealed}
				if kind == "open" {
					require.Equal(t, chunk.Open, found.State)
					want.State = chunk.Recovered
				} else {
					require.Equal(t, want, found.Replica)
				}
				require.ErrorIs(t, s.Restore(testID(1), 2, found.Number), fault.NotFound, "another generation")
				require.ErrorIs(t, s.Restore(testID(2), 1, found.Number), fault.NotFound, "another chunk")
				told = nil
				require.NoError(t, s.Restore(testID(1), 1, found.Number))
				require.Equal(t, []Event{{Kind: Stored, Replica: want}}, told)
				require.ErrorIs(t, s.Restore(testID(1), 1, found.Number), fault.NotFound, "it was restored")
				require.Empty(t, s.Trash(chunk.ID{}, 0, 100))
				for range 2 {
					requireState(t, s, testID(1), want)
					requireContent(t, s, testID(1), pattern(1, length))
					require.NoError(t, s.VerifyReplica(testID(1)))
					s = reopenStore(t, s)
				}
				require.NoError(t, s.Delete(testID(1), 1), "it can be deleted again")
				require.NotEmpty(t, inTrash(s, 1))
			})
		}
	}
}

// A replica that came since the deletion is not replaced, and what cannot be restored stays in the trash.
func TestRestoreTakesNothingsPlace(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	s := openStore(t, o)
	for n, kind := range trashKinds {
		trashOne(t, s, kind, n)
		storeSmall(t, s, testID(n), pattern(77, 10))
		list := inTrash(s, n)
		if kind == "record" { // one generation of the chunk is there: the record may have been moved
			require.Empty(t, list)
			continue
		}
		require.Len(t, list, 1)
		require.ErrorIs(t, s.Restore(testID(n), 1, list[0].Number), fault.Exists)
		requireContent(t, s, testID(n), pattern(77, 10))
		require.Len(t, inTrash(s, n), 1)
	}
	_, _, err := s.BeginRecovery(testID(8), 5)
	require.ErrorIs(t, err, fault.NotFound)
	trashOne(t, s, "sealed", 9)
	_, _, err = s.BeginRecovery(testID(9), 5)
	require.ErrorIs(t, err, fault.NotFound)
	list := inTrash(s, 9)
	require.Len(t, list, 1)
	require.ErrorIs(t, s.Restore(testID(9), 1, list[0].Number), fault.StaleGeneration,
		"a recovery was told that there is none")
}

func TestTrashIsEmptied(t *testing.T) {
	m := simdisk.NewMem()
	o := packOptions(m)
	s := openStore(t, o)
	s.options.noCompactor = true
	for n, kind := range trashKinds {
		trashOne(t, s, kind, n)
		list := inTrash(s, n)
		require.Len(t, list, 1)
		require.NoError(t, s.EmptyTrash(testID(n), 1, list[0].Number))
		require.ErrorIs(t, s.EmptyTrash(testID(n), 1, list[0].Number), fault.NotFound)
		require.ErrorIs(t, s.Restore(testID(n), 1, list[0].Number), fault.NotFound)
	}
	left, err := m.ReadDir("/d/trash")
	require.NoError(t, err)
	require.Empty(t, left)
	s.trash.mu.Lock()
	defer s.trash.mu.Unlock()
	require.Empty(t, s.trash.mu.items)
}

// Pages have every item once, also if many are due at one time.
func TestTrashIsListedInPages(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	s := openStore(t, o)
	const count = 23
	for n := range count {
		trashOne(t, s, trashKinds[n%3], n)
		if n%10 == 9 {
			o.Clock.(*fakeclock.Clock).Advance(time.Minute)
		}
	}
	for range 2 {
		var seen []chunk.ID
		var last Trashed
		for {
			page := s.Trash(chunk.ID{}, last.Number, 4)
			if len(page) == 0 {
				break
			}
			require.LessOrEqual(t, len(page), 4)
			for _, entry := range page {
				require.False(t, entry.Until.Before(last.Until))
				last = entry
				seen = append(seen, entry.ID)
			}
		}
		require.Len(t, seen, count)
		slices.SortFunc(seen, func(a, b chunk.ID) int { return bytes.Compare(a[:], b[:]) })
		require.Len(t, slices.Compact(seen), count)
		s = reopenStore(t, s)
	}
}

// Whatever fails, the replica is restored or still in the trash, and counted once.
func TestRestoreThatFailsKeepsTheReplica(t *testing.T) {
	for _, kind := range trashKinds {
		for name, rule := range map[string]simdisk.Rule{
			"rename":      {Op: simdisk.OpRename, Err: syscall.EIO, Times: 1},
			"stat":        {Op: simdisk.OpStat, Path: "*.chunk", Err: syscall.EIO, Times: 1},
			"sync name":   {Op: simdisk.OpSyncDir, Err: syscall.EIO, Times: 1},
			"sync":        {Op: simdisk.OpDatasync, Err: syscall.EIO, Times: 1},
			"second sync": {Op: simdisk.OpDatasync, From: 2, Err: syscall.EIO, Times: 1},
			"no room":     {Op: simdisk.OpWrite, Err: syscall.ENOSPC, Times: 1},
			"read":        {Op: simdisk.OpRead, Err: syscall.EIO, Times: 1},
			"shortage":    {Op: simdisk.OpOpen, Err: syscall.EMFILE, Times: 1},
		} {
			t.Run(kind+", "+name, func(t *testing.T) {
				m := simdisk.NewMem()
				faulty := simdisk.NewFaulty(m)
				s := openStore(t, packOptions(faulty))
				length := trashOne(t, s, kind, 1)
				list := inTrash(s, 1)
				require.Len(t, list, 1)
				remove := faulty.Inject(rule)
				err := s.Restore(testID(1), 1, list[0].Number)
				remove()
				if s.index.lookup(testID(1)) != nil && kind == "open" && name == "read" {
					return // it is in quarantine, as it would be after a start
				}
				if err == nil { // it has no such step
					requireContent(t, s, testID(1), pattern(1, length))
					return
				}
				if s.index.lookup(testID(1)) == nil {
					name := chunkfile.Name{ID: testID(1), Generation: 1, Sealed: kind != "open", Length: int64(length)}
					_, err := m.Stat("/d/" + name.Relative())
					require.ErrorIs(t, err, fs.ErrNotExist, "a patrol would find a stray")
					list = inTrash(s, 1)
					require.Len(t, list, 1)
					require.NoError(t, s.Restore(testID(1), 1, list[0].Number))
				}
				requireContent(t, s, testID(1), pattern(1, length))
			})
		}
	}
}

// A record whose file is whole is restored, also if its strike is not durable.
func TestRestoreNeedsNoSecondStrike(t *testing.T) {
	faulty := simdisk.NewFaulty(simdisk.NewMem())
	o := packOptions(faulty)
	var told []EventKind
	o.OnEvent = func(e Event) { told = append(told, e.Kind) }
	s := openStore(t, o)
	length := trashOne(t, s, "record", 1)
	list, struck := inTrash(s, 1), false
	require.Len(t, list, 1)
	told = nil
	remove := faulty.Inject(simdisk.Rule{Op: simdisk.OpDatasync, From: 2, Err: syscall.EIO,
		Before: func() { struck = true }})
	require.NoError(t, s.Restore(testID(1), 1, list[0].Number))
	remove()
	require.True(t, struck)
	require.Equal(t, []EventKind{Stored}, told)
	requireContent(t, s, testID(1), pattern(1, length))
	s = reopenStore(t, s)
	requireContent(t, s, testID(1), pattern(1, length))
}

// A file that can be neither restored nor put back stays the chunk's replica, so that no patrol takes it for a stray.
func TestRestoreThatCannotBeUndone(t *testing.T) {
	for _, kind := range []string{"sealed", "open"} {
		t.Run(kind, func(t *testing.T) {
			faulty := simdisk.NewFaulty(simdisk.NewMem())
			s := openStore(t, packOptions(faulty))
			length := trashOne(t, s, kind, 1)
			list := inTrash(s, 1)
			require.Len(t, list, 1)
			for _, rule := range []simdisk.Rule{{Op: simdisk.OpRename, From: 2, Err: syscall.EIO, Times: 1},
				{Op: simdisk.OpSyncDir, Err: syscall.EIO, Times: 1}} {
				defer faulty.Inject(rule)()
			}
			require.ErrorIs(t, s.Restore(testID(1), 1, list[0].Number), fault.Disk)
			require.Empty(t, inTrash(s, 1))
			require.NotNil(t, s.index.lookup(testID(1)))
			if kind == "sealed" {
				requireContent(t, s, testID(1), pattern(1, length))
			}
			s = reopenStore(t, s)
			requireContent(t, s, testID(1), pattern(1, length))
		})
	}
}

// Taking an item moves no others, wherever it is, and what is left is listed, found, and due in its order.
func TestTakingFromTheTrashMovesNothing(t *testing.T) {
	const count = 1000
	s := openStore(t, packOptions(simdisk.NewMem()))
	for n := range count {
		name := chunkfile.ParkedName{At: testTime, Serial: uint32(n),
			Name: chunkfile.Name{ID: testID(n), Generation: 1, Sealed: true, Length: 1}}
		s.trash.wait(trashItem{volume: s.volumes.all()[0], path: "/d/trash/" + name.String(),
			due: testTime.Add(time.Hour)})
	}
	take := func(n int) {
		_, err := s.trash.take("test", testID(n), 1, uint64(n+1))
		require.NoError(t, err)
		_, err = s.trash.take("test", testID(n), 1, uint64(n+1))
		require.ErrorIs(t, err, fault.NotFound)
	}
	last := func() *trashItem { return &s.trash.mu.items[len(s.trash.mu.items)-1] }
	end := last()
	for _, n := range []int{0, 1, 500, 3, 2} {
		take(n)
		require.Same(t, end, last(), n)
	}
	for n := 5; n < count; n++ {
		if n%10 != 0 {
			take(n)
		}
	}
	require.Less(t, len(s.trash.mu.items), count/2, "empty places do not stay")
	var left []chunk.ID
	for number := uint64(0); ; {
		page := s.Trash(chunk.ID{}, number, 7)
		if len(page) == 0 {
			break
		}
		for _, entry := range page {
			left, number = append(left, entry.ID), entry.Number
		}
	}
	want := []chunk.ID{testID(4)}
	for n := 10; n < count; n += 10 {
		if n != 500 {
			want = append(want, testID(n))
		}
	}
	require.Equal(t, want, left)
	for _, id := range want {
		item, _, waiting := s.trash.next(testTime.Add(time.Hour))
		require.True(t, waiting)
		require.Equal(t, id, item.name().ID)
	}
	require.Empty(t, s.trash.mu.items)
	require.Zero(t, s.trash.mu.taken)
}

// A disk that hangs does not keep the trash of the others from being listed.
func TestTrashOfADiskThatHangsIsLeftOut(t *testing.T) {
	l := startLossy(t)
	stuck, healthy := l.on("/b")[0], l.on("/a")[0]
	for _, n := range []int{stuck, healthy} {
		require.NoError(t, l.Delete(testID(n), 1))
	}
	done := make(chan struct{})
	release := l.hang(simdisk.OpReadDir, func() {
		go func() {
			defer close(done)
			_, _ = l.Store.volumes.all()[1].fs.ReadDir("/b/trash")
		}()
	})
	require.Len(t, inTrash(l.Store, healthy), 1)
	l.options.Clock.(*fakeclock.Clock).Advance(health.StallAfter)
	list := l.Trash(chunk.ID{}, 0, 100)
	require.Len(t, list, 1)
	require.Equal(t, testID(healthy), list[0].ID)
	release()
	<-done
	require.Len(t, l.Trash(chunk.ID{}, 0, 100), 2)
}

// The power, or the process, may fail at every step.
func TestCrashWhileAReplicaIsRestored(t *testing.T) {
	for _, kind := range trashKinds {
		t.Run(kind, func(t *testing.T) {
			m := simdisk.NewMem()
			s := openStore(t, packOptions(m))
			length := trashOne(t, s, kind, 1)
			list := inTrash(s, 1)
			require.Len(t, list, 1)
			require.NoError(t, m.SyncDir("/d/trash")) // else a power failure may undo the deletion
			require.NoError(t, syncSegments(m))
			look := func(restored bool) (failure error) {
				for i, policy := range crashPolicies {
					policy.Seed = uint64(i)
					again, err := Open(packOptions(m.CrashClone(policy)))
					if err != nil {
						return err
					}
					if left := inTrash(again, 1); len(left) > 0 && !restored {
						err = again.Restore(testID(1), 1, left[0].Number)
					}
					data, readErr := readVerified(again, testID(1))
					if err = errors.Join(err, readErr, again.Close()); err != nil || len(data) != length {
						return fmt.Errorf("%s, seed %d: %d bytes: %w", policy.Mode, policy.Seed, len(data), err)
					}
				}
				return nil
			}
			var failure error
			steps := 0
			m.OnChange(func(op simdisk.Op, path string) {
				steps++
				if err := look(false); err != nil {
					failure = errors.Join(failure, fmt.Errorf("%s %s: %w", op, path, err))
				}
			})
			require.NoError(t, s.Restore(testID(1), 1, list[0].Number))
			m.OnChange(nil)
			require.NoError(t, failure)
			require.Positive(t, steps)
			require.NoError(t, look(true), "it is durable when Restore returns")
		})
	}
}

// A record goes with its segment: what was listed before is refused then, and leaves nothing behind. A segment that
// only cannot be opened keeps it.
func TestRestoreOfARecordWhoseSegmentIsGone(t *testing.T) {
	for _, compacted := range []bool{true, false} {
		t.Run(fmt.Sprintf("compacted: %v", compacted), func(t *testing.T) {
			faulty := simdisk.NewFaulty(simdisk.NewMem())
			s := openStore(t, packOptions(faulty))
			for n := range 4 { // two segments; the first one is closed
				storeSmall(t, s, testID(n), pattern(uint64(n), 40_000))
			}
			require.NoError(t, s.Delete(testID(0), 1))
			list := inTrash(s, 0)
			require.Len(t, list, 1)
			kind, open := fault.NotFound, func() {}
			if compacted {
				compactAll(t, s)
				require.Empty(t, inTrash(s, 0))
			} else {
				kind = fault.Disk
				s.files.Detach(&s.volumes.all()[0].packs.Closed()[0].Owner)
				open = faulty.Inject(simdisk.Rule{Op: simdisk.OpOpen, Path: segments(t, s)[0], Err: fs.ErrNotExist})
			}
			stored := 0
			s.options.OnEvent = func(e Event) {
				if e.Kind == Stored {
					stored++
				}
			}
			require.ErrorIs(t, s.Restore(testID(0), 1, list[0].Number), kind)
			open()
			require.Zero(t, stored, "nothing came back")
			require.Nil(t, s.index.lookup(testID(0)))
			require.Empty(t, files(t, s, testID(0)))
			requireContent(t, s, testID(1), pattern(1, 40_000))
			if !compacted {
				list = inTrash(s, 0)
				require.Len(t, list, 1)
				require.NoError(t, s.Restore(testID(0), 1, list[0].Number))
				requireContent(t, s, testID(0), pattern(0, 40_000))
				return
			}
			require.ErrorIs(t, s.EmptyTrash(testID(0), 1, list[0].Number), fault.NotFound)
			storeSmall(t, s, testID(0), pattern(7, 10)) // its place is free
			requireContent(t, s, testID(0), pattern(7, 10))
		})
	}
}
