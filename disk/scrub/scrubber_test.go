package scrub

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/test/simdisk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fakeVolume is a volume of replicas with so many bytes; negative: bad.
type fakeVolume struct {
	mu       sync.Mutex
	replicas map[chunk.ID]int64
	verified []chunk.ID
	at       []time.Time
	begun    int
	strays   int
	busy     bool
	onVerify func(chunk.ID)
	onStrays func(last byte)
}

// id is that of replica n, in the shard of its last byte.
func id(n int, last byte) chunk.ID {
	return chunk.NewID(uint64(start.UnixMilli())+uint64(n), [10]byte{1, 2, 3, 4, 5, 6, 7, 8, byte(n), last})
}

func newFakeVolume(count int) *fakeVolume {
	v := &fakeVolume{replicas: make(map[chunk.ID]int64)}
	for n := range count {
		v.replicas[id(n, byte(n*7))] = 1 << 20
	}
	return v
}

func (v *fakeVolume) Begin() { v.begun++ }

func (v *fakeVolume) Replicas(last byte) (ids []chunk.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range v.replicas {
		if id[15] == last {
			ids = append(ids, id)
		}
	}
	return ids
}

func (v *fakeVolume) Verify(id chunk.ID, pace *Pace) (Result, error) {
	v.mu.Lock()
	size, there := v.replicas[id]
	v.mu.Unlock()
	if err := pace.Wait(max(size, -size)); err != nil || !there {
		return Result{}, err
	}
	v.mu.Lock()
	v.verified, v.at = append(v.verified, id), append(v.at, time.Now())
	if size < 0 {
		delete(v.replicas, id)
	}
	v.mu.Unlock()
	if v.onVerify != nil {
		v.onVerify(id)
	}
	return Result{Bytes: max(size, -size), Verified: true, Bad: size < 0}, nil
}

func (v *fakeVolume) Strays(last byte) {
	v.strays++
	if v.onStrays != nil {
		v.onStrays(last)
	}
}

func (v *fakeVolume) Busy() bool { return v.busy }

// all are the ids in the order in which they must be visited.
func (v *fakeVolume) all() []chunk.ID {
	v.mu.Lock()
	defer v.mu.Unlock()
	ids := make([]chunk.ID, 0, len(v.replicas))
	for id := range v.replicas {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b chunk.ID) int {
		if a[15] != b[15] {
			return int(a[15]) - int(b[15])
		}
		return bytes.Compare(a[:], b[:])
	})
	return ids
}

// run starts a scrubber on a disk; the result stops it and waits.
func run(v *fakeVolume, m *simdisk.Mem, period time.Duration, bandwidth int64) (s *Scrubber, stop func()) {
	s = New(Options{Volume: v, FS: m, Path: "/scrub", Period: period, Bandwidth: bandwidth, Clock: clock.Real{},
		Logger: slog.New(slog.DiscardHandler)})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run()
	}()
	return s, func() {
		s.Stop()
		<-ended
	}
}

// elapse lets the bubble's time pass, and waits until everybody waits.
func elapse(d time.Duration) {
	_ = clock.Sleep(context.Background(), clock.Real{}, d)
	synctest.Wait()
}

const day = 24 * time.Hour

func TestEveryReplicaIsVerifiedInEachPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newFakeVolume(100)
		s, stop := run(v, simdisk.NewMem(), 10*day, 1<<20)
		defer stop()
		began := time.Now()
		elapse(100 * day)
		require.GreaterOrEqual(t, s.Status().Passes, uint64(10))
		require.Equal(t, s.Status().Passes, uint64(v.begun))
		require.Equal(t, v.begun*shards, v.strays)
		last := make(map[chunk.ID]time.Time)
		for i, id := range v.verified {
			if before, ok := last[id]; ok {
				require.LessOrEqual(t, v.at[i].Sub(before), 10*day)
			} else {
				require.LessOrEqual(t, v.at[i].Sub(began), day)
			}
			last[id] = v.at[i]
		}
		require.Len(t, last, 100)
		require.Equal(t, v.all(), v.verified[:100])
		status := s.Status()
		require.EqualValues(t, 100, status.Replicas)
		require.EqualValues(t, 100<<20, status.Bytes)
		require.False(t, status.Running)
	})
}

func TestTheRateIsBoundedAndYields(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newFakeVolume(64)
				v.busy = busy
				s, stop := run(v, simdisk.NewMem(), day, 1<<20)
				defer stop()
				least := 64 * time.Second // 64 MiB at 1 MiB/s, and the seeks
				if busy {
					least += 64 * yieldMax
				}
				elapse(least)
				require.True(t, s.Status().Running)
				require.Less(t, s.Status().Percent, uint32(100))
				elapse(least) // a busy disk is verified too, only later
				require.EqualValues(t, 1, s.Status().Passes)
			})
		})
	}
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, m := newFakeVolume(100), simdisk.NewMem()
		s, stop := run(v, m, 10*day, 1<<20)
		elapse(30 * time.Second)
		stop()
		done := len(v.verified)
		require.Positive(t, done)
		require.Less(t, done, 60)
		require.EqualValues(t, done, s.Status().Replicas)
		s, stop = run(v, m, 10*day, 1<<20)
		elapse(time.Hour)
		stop()
		require.Equal(t, v.all(), v.verified, "each once, in order")
		require.EqualValues(t, 1, s.Status().Passes)
		require.EqualValues(t, 100, s.Status().Replicas)

		// After a crash it is where it was when that was written down last, a minute ago at most.
		elapse(10 * day)
		_, stop = run(v, m, 10*day, 1<<20)
		elapse(95 * time.Second)
		crashed := m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashDropUnsynced})
		seen := len(v.verified)
		stop()
		v.verified = nil
		_, stop = run(v, crashed, 10*day, 1<<20)
		elapse(time.Hour)
		stop()
		require.Less(t, len(v.verified), 100)
		require.GreaterOrEqual(t, len(v.verified), 200-seen)
	})
}

func TestADamagedNoteCostsAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, m := newFakeVolume(10), simdisk.NewMem()
		_, stop := run(v, m, 10*day, 0)
		synctest.Wait()
		stop()
		require.Len(t, v.verified, 10)
		f, err := m.OpenFile("/scrub", os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("9"), 12)
		require.NoError(t, err)
		s, stop := run(v, m, 10*day, 0)
		synctest.Wait()
		stop()
		require.Len(t, v.verified, 20)
		require.EqualValues(t, 1, s.Status().Passes)
	})
}

func TestOnDemandAllAreVerifiedFromThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newFakeVolume(10)
		s, stop := run(v, simdisk.NewMem(), 0, 1<<20)
		defer stop()
		elapse(100 * day)
		require.Empty(t, v.verified, "without a period only on demand")
		require.EqualValues(t, 1, s.Request())
		elapse(5 * time.Second)
		require.True(t, s.Status().Running)
		require.EqualValues(t, 1, s.Request(), "what runs begins anew")
		elapse(time.Minute)
		require.EqualValues(t, 1, s.Status().Passes)
		require.Equal(t, v.all(), v.verified[len(v.verified)-10:])
		require.Greater(t, len(v.verified), 10)
		require.EqualValues(t, 2, s.Request())
		elapse(time.Minute)
		require.EqualValues(t, 2, s.Status().Passes)
	})
}

// TestARequestAtTheEndOfAPass is not answered by that pass: it has been over the replicas before.
func TestARequestAtTheEndOfAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newFakeVolume(10)
		s, stop := run(v, simdisk.NewMem(), 0, 1<<20)
		defer stop()
		var pass uint64
		v.onStrays = func(last byte) {
			if last == shards-1 && pass == 0 {
				pass = s.Request()
			}
		}
		s.Request()
		elapse(time.Minute)
		require.EqualValues(t, 1, pass)
		require.EqualValues(t, 1, s.Status().Passes)
		require.Len(t, v.verified, 20)
	})
}

func TestBadReplicasAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newFakeVolume(10)
		for n, id := range v.all() {
			if n%3 == 0 {
				v.replicas[id] = -5
			}
		}
		s, stop := run(v, simdisk.NewMem(), day, 0)
		defer stop()
		synctest.Wait()
		require.EqualValues(t, 4, s.Status().Bad)
		elapse(day)
		require.EqualValues(t, 2, s.Status().Passes)
		require.Zero(t, s.Status().Bad)
		require.EqualValues(t, 4, s.Status().BadTotal)
		v.mu.Lock()
		one := id(999, 1)
		v.replicas[one] = -1
		v.mu.Unlock()
		result, err := s.Verify(one)
		require.NoError(t, err)
		require.True(t, result.Bad)
		require.EqualValues(t, 5, s.Status().BadTotal)
	})
}

func TestAVolumeOutOfServiceEndsIt(t *testing.T) {
	v, gone := newFakeVolume(3), make(chan struct{})
	s := New(Options{Volume: v, FS: simdisk.NewMem(), Path: "/scrub", Period: day, Clock: clock.Real{},
		Logger: slog.New(slog.DiscardHandler), Gone: gone})
	close(gone)
	s.Run()
	require.Empty(t, v.verified)
}

func TestGoldenState(t *testing.T) {
	s := state{Passes: 7, Running: true, Position: id(3, 4).String(), BeganMs: 1_700_000_000_000,
		EndedMs: 1_699_000_000_000, Replicas: 12, Bytes: 1 << 30, Bad: 1, BadTotal: 5}
	want, err := os.ReadFile(filepath.Join("testdata", "golden", "state_v1.hex"))
	require.NoError(t, err)
	raw, err := hex.DecodeString(string(bytes.TrimSpace(want)))
	require.NoError(t, err)
	require.Equal(t, string(raw), string(s.encode()), "the format on disk has changed; got %x", s.encode())
	back, err := parseState(raw)
	require.NoError(t, err)
	s.Version, s.Sum = back.Version, back.Sum
	require.Equal(t, s, back)
}

func FuzzParseState(f *testing.F) {
	f.Fuzz(func(_ *testing.T, b []byte) {
		if s, err := parseState(b); err == nil {
			s.position()
		}
	})
}
