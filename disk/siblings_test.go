package disk

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
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
		for _, v := range l.Store.volumes.list {
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
