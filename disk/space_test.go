package disk

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

// TestMountThatDoesNotAnswerHoldsUpNobody: heartbeats describe the volumes, and writers place replicas.
func TestMountThatDoesNotAnswerHoldsUpNobody(t *testing.T) {
	l := startLossy(t)
	before := l.Volumes()
	describing := make(chan []datanode.VolumeState, 1)
	release := l.hang(simdisk.OpStatFS, func() { go func() { describing <- l.Volumes() }() })
	defer release()
	await := func(answer chan []datanode.VolumeState) (volumes []datanode.VolumeState) {
		t.Helper()
		for limit := time.After(10 * time.Second); ; {
			select {
			case volumes = <-answer:
				return volumes
			case <-limit:
				t.Fatal("held up by a disk that hangs")
			case <-time.After(time.Millisecond):
				l.options.Clock.(*fakeclock.Clock).Advance(spacePatience)
			}
		}
	}
	for i, v := range await(describing) {
		require.Equal(t, before[i].FreeBytes, v.FreeBytes, "what was known")
		require.True(t, v.Healthy)
	}
	for n := range 10 { // some on either disk
		go func() {
			mustSeal(t, mustCreate(t, l.Store, testID(100+n)))
			describing <- l.Volumes()
		}()
		await(describing)
	}
}

// TestTheFirstAnswerIsWaitedFor: before it nothing is known of the room, and a busy machine may be late with it.
func TestTheFirstAnswerIsWaitedFor(t *testing.T) {
	f := simdisk.NewFaulty(simdisk.NewMem())
	fake := fakeclock.New(testTime)
	o := testOptions(f)
	o.Clock = fake
	s := openStore(t, o)
	entered, held := make(chan struct{}), make(chan struct{})
	f.Inject(simdisk.Rule{Op: simdisk.OpStatFS, Times: 1, Before: func() { close(entered); <-held }})
	created := make(chan error, 1)
	go func() {
		_, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: testChunkSize})
		created <- err
	}()
	<-entered
	fake.Advance(2 * spacePatience)
	close(held)
	require.NoError(t, <-created)
}
