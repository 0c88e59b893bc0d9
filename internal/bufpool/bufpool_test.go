package bufpool

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/invariants"
)

func TestClassesFitAHeaderAndAPowerOfTwo(t *testing.T) {
	pool := New()
	for _, c := range []struct{ n, capacity int }{
		{0, 4<<10 + 64}, {1, 4<<10 + 64}, {4<<10 + 40, 4<<10 + 64}, {4<<10 + 65, 8<<10 + 64},
		{256<<10 + 40, 256<<10 + 64}, {1<<20 + 64, 1<<20 + 64},
	} {
		b := pool.Get(c.n)
		require.Len(t, b.Bytes(), c.n)
		require.Equal(t, c.capacity, cap(b.Bytes()), "n=%d", c.n)
		b.Release()
	}
	require.Zero(t, pool.Outstanding())
	require.Zero(t, pool.OutstandingBytes())
}

func TestClassBytes(t *testing.T) {
	for n, want := range map[int]int{0: 4096, 1: 4096, 4096: 4096, 4097: 8192, 200_000: 262144,
		262144: 262144, 1 << 20: 1 << 20} {
		require.Equal(t, want, ClassBytes(n), "n=%d", n)
	}
}

func TestAnOversizeBufferWorksAndIsNotPooled(t *testing.T) {
	p := New()
	b := p.Get(3 << 20)
	require.Len(t, b.Bytes(), 3<<20)
	require.EqualValues(t, 1, p.Oversize())
	b.Release()
	require.Zero(t, p.Outstanding())
}

func TestTheLastReleaseReturnsTheBuffer(t *testing.T) {
	pool := New()
	b := pool.Get(100)
	b.Retain()
	b.Retain()
	require.EqualValues(t, 1, pool.Outstanding())
	b.Release()
	b.Release()
	require.EqualValues(t, 1, pool.Outstanding())
	require.Len(t, b.Bytes(), 100)
	b.Release()
	require.Zero(t, pool.Outstanding())
}

func TestMisuseIsCaught(t *testing.T) {
	if !invariants.Enabled {
		t.Skip("needs -race or -tags invariants")
	}
	p := New()
	b := p.Get(100)
	content := b.Bytes()
	b.Release()
	for i := range content {
		require.EqualValues(t, poison, content[i])
	}
	require.Panics(t, func() { b.Release() })
	require.Panics(t, func() { b.Retain() })
	require.Panics(t, func() { b.Bytes() })
}

// The library would switch to buffers of twice the size once it has calibrated
// itself; a class never lets it.
func TestCapacityStaysAfterManyPuts(t *testing.T) {
	if invariants.Enabled {
		t.Skip("scribbling over 400 MB takes long")
	}
	p := New()
	for range 100_000 {
		b := p.Get(4 << 10)
		if cap(b.Bytes()) != 4<<10+HeadroomBytes {
			t.Fatalf("capacity became %d", cap(b.Bytes()))
		}
		b.Release()
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	if invariants.Enabled {
		t.Skip("wrappers are not reused under invariants")
	}
	p := New()
	p.Get(1000).Release()
	// A count per run is rounded down, so many each. A collection in between empties
	// the pool: a handful in 100,000.
	require.LessOrEqual(t, testing.AllocsPerRun(1, func() {
		for range 100_000 {
			p.Get(1000).Release()
		}
	}), 100.0)
}

func TestConcurrentFanOut(t *testing.T) {
	pool := New()
	var holders sync.WaitGroup
	for range 200 {
		buffer := pool.Get(8 << 10)
		for i := range buffer.Bytes() {
			buffer.Bytes()[i] = 7
		}
		for range 3 {
			buffer.Retain()
			holders.Go(func() {
				for _, v := range buffer.Bytes() {
					if v != 7 {
						t.Error("a held buffer changed")
						break
					}
				}
				buffer.Release()
			})
		}
		buffer.Release()
	}
	holders.Wait()
	require.Zero(t, pool.Outstanding())
	require.Zero(t, pool.OutstandingBytes())
}
