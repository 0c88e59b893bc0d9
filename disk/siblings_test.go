package disk

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

// store seals some new replicas and returns how many of them came to /b.
func (l *lossy) store(first, count int) (slow int) {
	for n := first; n < first+count; n++ {
		w := mustCreate(l.t, l.Store, testID(n))
		mustAppend(l.t, w, pattern(uint64(n), 1000), true)
		mustSeal(l.t, w)
		if w.replica.volume.directory == "/b" {
			slow++
		}
	}
	return slow
}

// rounds lets the monitor compare the disks so many times.
func (l *lossy) rounds(count int) {
	for range count {
		l.options.Clock.(*fakeclock.Clock).Advance(lateness.RoundInterval)
		l.monitor.check()
		l.monitor.group.Wait()
	}
}

func TestNewReplicasGoToADiskThatIsNotSlow(t *testing.T) {
	l := startLossy(t, func(o *Options) { o.OnEvent = func(Event) {} })
	clock := l.options.Clock.(*fakeclock.Clock)
	heal := l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpDatasync, Before: func() {
		clock.Advance(100 * time.Millisecond)
	}})
	next := 1000
	store := func() (slow int) {
		slow = l.store(next, 10)
		next += 10
		return slow
	}
	for range 4 {
		require.Positive(t, store())
		l.rounds(1)
	}
	disk := l.Volumes()[1]
	require.Equal(t, datanode.VolumeSuspect, disk.Health)
	require.True(t, disk.Healthy, "it serves")
	require.Equal(t, "slow: an operation waits 100ms for it, and 0s for its siblings", disk.Error)
	require.Equal(t, datanode.VolumeHealthy, l.Volumes()[0].Health)
	for range 100 { // it is asked again all the time, and is still slow
		require.Zero(t, store())
		l.rounds(1)
	}
	full := func(v *volume) (int64, error) {
		if v.directory == "/a" {
			return 0, nil
		}
		return 1 << 30, nil
	}
	chosen, err := l.Store.volumes.choose(chunk.ID{1}, 1000, full)
	require.NoError(t, err)
	require.Equal(t, "/b", chosen.directory, "the other one is full")

	for want, roomB := range map[string]int64{"/a": 29 << 30, "/b": 31 << 30} { // 20 points more than /a, about
		const capacity = 100 << 30
		for _, v := range l.Store.volumes.all() {
			v.capacity.Store(capacity)
		}
		on := map[string]int{}
		for n := range 200 {
			chosen, err := l.Store.volumes.choose(testID(n), 1000, func(v *volume) (int64, error) {
				return map[string]int64{"/a": 10 << 30, "/b": roomB}[v.directory], nil
			})
			require.NoError(t, err)
			on[chosen.directory]++
		}
		if want == "/a" {
			require.Equal(t, map[string]int{"/a": 200}, on)
		} else {
			require.InDelta(t, 200*31/41, on["/b"], 30, "in proportion to the room")
		}
	}

	heal()
	l.rounds(40)
	require.Equal(t, datanode.VolumeHealthy, l.Volumes()[1].Health)
	require.Empty(t, l.Volumes()[1].Error)
	require.Positive(t, store())
}

// A disk that has more to write than its sibling is as good as that.
func TestABusyDiskIsNotSlow(t *testing.T) {
	l := startLossy(t)
	clock := l.options.Clock.(*fakeclock.Clock)
	l.disks.disks["/b"].Inject(simdisk.Rule{Op: simdisk.OpDatasync, Before: func() {
		clock.Advance(50 * time.Millisecond)
	}})
	bytes := pattern(1, lateness.BytesPerSecond/20)
	for range 20 {
		for _, v := range l.Store.volumes.all() {
			f, err := v.fs.OpenFile(v.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
			require.NoError(t, err)
			if v.directory == "/b" {
				_, err = f.WriteAt(bytes, 0)
				require.NoError(t, err)
			}
			require.NoError(t, f.Datasync())
			require.NoError(t, f.Close())
		}
		l.rounds(1)
	}
	require.Equal(t, datanode.VolumeHealthy, l.Volumes()[1].Health, l.Volumes()[1].Error)
}

// Every round /a syncs often, and /b seldom beside many writes.
func TestWritesCountWithTheirSync(t *testing.T) {
	const packet = 64 << 10 // of which 16 MiB/s allow one in 4 ms
	for name, c := range map[string]struct {
		bytes, quick, late int  // writes of so many bytes; so many of them wait for nothing, and so many are throttled
		sync               bool // their file
		want               datanode.VolumeHealth
	}{
		"a log that is only flushed":       {100, 500, 0, false, datanode.VolumeHealthy},
		"a log that is flushed and synced": {100, 500, 0, true, datanode.VolumeHealthy},
		"a stream with bursts":             {packet, 30, 2, true, datanode.VolumeHealthy},
		"a stream that is throttled":       {packet, 0, 5, true, datanode.VolumeSuspect},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLossy(t)
			clock := l.options.Clock.(*fakeclock.Clock)
			var takes atomic.Int64 // a probe may run
			for _, disk := range l.disks.disks {
				disk.Inject(simdisk.Rule{Op: simdisk.OpWrite, Before: func() {
					clock.Advance(time.Duration(takes.Load()))
				}})
				disk.Inject(simdisk.Rule{Op: simdisk.OpDatasync, Before: func() {
					clock.Advance(2 * time.Millisecond)
				}})
			}
			open := func(v *volume, name string) vfs.File {
				f, err := v.fs.OpenFile(v.path(name), os.O_RDWR|os.O_CREATE, 0o644)
				require.NoError(t, err)
				t.Cleanup(func() { _ = f.Close() })
				return f
			}
			a, b := l.Store.volumes.all()[0], l.Store.volumes.all()[1]
			small, log, other := open(a, "small"), open(b, "log"), open(b, "other")
			write := func(f vfs.File, count, bytes int, each time.Duration) {
				takes.Store(int64(each))
				for range count {
					_, err := f.WriteAt(make([]byte, bytes), 0)
					require.NoError(t, err)
				}
				takes.Store(0)
			}
			for range 6 {
				for range 20 {
					write(small, 1, 100, 0)
					require.NoError(t, small.Datasync())
				}
				write(log, c.quick, c.bytes, 100*time.Microsecond)
				write(log, c.late, c.bytes, 50*time.Millisecond)
				require.NoError(t, other.Datasync())
				if c.sync {
					require.NoError(t, log.Datasync())
				}
				l.rounds(1)
			}
			require.Equal(t, c.want, l.Volumes()[1].Health, l.Volumes()[1].Error)
			require.Equal(t, datanode.VolumeHealthy, l.Volumes()[0].Health)
		})
	}
}
