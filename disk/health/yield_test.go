package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestWhatIsDoneInTheBackgroundYields(t *testing.T) {
	now := &fakeclock.Hurried{Clock: fakeclock.New(time.Unix(1, 0))}
	v := New(now, Limits{ErrorsMax: 1, Window: Window, StallAfter: StallAfter, HangAfter: HangAfter}, func() {})
	yielded := func() time.Duration {
		began := now.Now()
		v.Yield()
		return now.Now().Sub(began)
	}
	require.Zero(t, yielded(), "nobody uses the disk")
	read := func(watch func(string, string, func() (int, error)) (int, error), meanwhile func()) {
		_, err := watch("read", "/f", func() (int, error) { meanwhile(); return 1, nil })
		require.NoError(t, err)
	}
	read(v.WatchRead, func() { require.Equal(t, yieldMax, yielded(), "it goes on while a read never ends") })
	require.Zero(t, yielded(), "the read has ended")
	read(v.WatchBackgroundRead, func() { require.Zero(t, yielded(), "nobody waits for that one") })

	ends, ended, waits := make(chan struct{}), make(chan struct{}), 0
	now.OnTimer = func() {
		if waits++; waits == 3 {
			close(ends)
			<-ended
		}
	}
	began := make(chan struct{})
	go func() {
		defer close(ended)
		read(v.WatchRead, func() { close(began); <-ends })
	}()
	<-began
	require.Equal(t, 3*yieldStep, yielded(), "no longer than the read")
}
