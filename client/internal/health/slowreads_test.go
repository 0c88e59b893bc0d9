package health

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestANodeThatIsSlowToReadFromIsAskedLast(t *testing.T) {
	now := fakeclock.New(time.Unix(1000, 0))
	replicas := []wire.Hop{{Address: "a"}, {Address: "b"}, {Address: "c"}}
	first := func(m *Nodes) string { return m.OrderForRead(replicas)[0].Address }
	reads := func(m *Nodes, address string, times int, took time.Duration) {
		for range times {
			m.SlowReads.Note(address, 4096, took)
		}
	}
	m := NewNodes(now)
	reads(m, "a", 100, 50*time.Millisecond)
	require.Equal(t, "a", first(m), "there is nobody to compare with")
	reads(m, "b", readSamples, 2*time.Millisecond)
	require.Equal(t, "a", first(m))
	reads(m, "a", 1, 50*time.Millisecond)
	require.Equal(t, "b", first(m))
	m.Failures.Failed("c")
	require.Equal(t, []wire.Hop{{Address: "b"}, {Address: "a"}, {Address: "c"}}, m.OrderForRead(replicas),
		"failed ones come last")
	now.Advance(readSlowFor)
	require.Equal(t, "a", first(m), "it gets another chance")
	reads(m, "a", readSamples-1, 50*time.Millisecond)
	require.Equal(t, "a", first(m))
	reads(m, "a", 1, 50*time.Millisecond)
	require.Equal(t, "b", first(m), "and is still slow")
	now.Advance(readSlowFor)
	reads(m, "b", 1, 2*time.Millisecond)
	reads(m, "a", 2*readSamples, 3*time.Millisecond)
	require.Equal(t, "a", first(m), "or well")

	for name, well := range map[string]func(*Nodes){
		"all are slow": func(m *Nodes) {
			for _, address := range []string{"b", "a", "c"} {
				reads(m, address, 40, 50*time.Millisecond)
			}
		},
		"slower, but fast": func(m *Nodes) {
			reads(m, "b", 40, 500*time.Microsecond)
			reads(m, "a", 40, readSlowLeast-1)
		},
		"not by much": func(m *Nodes) {
			reads(m, "b", 40, 20*time.Millisecond)
			reads(m, "a", 40, 99*time.Millisecond)
		},
		"one hiccup": func(m *Nodes) {
			reads(m, "b", 40, 2*time.Millisecond)
			reads(m, "a", 40, 2*time.Millisecond)
			reads(m, "a", readSamples/2, time.Second)
			reads(m, "a", 1, 2*time.Millisecond)
		},
		"large reads": func(m *Nodes) {
			reads(m, "b", 40, 2*time.Millisecond)
			for range 40 {
				m.SlowReads.Note("a", readSmallMax+1, time.Second)
			}
		},
		"the others were long ago": func(m *Nodes) {
			reads(m, "b", 40, 2*time.Millisecond)
			now.Advance(readRecent)
			reads(m, "a", 40, 50*time.Millisecond)
		},
	} {
		m := NewNodes(now)
		well(m)
		require.Equal(t, "a", first(m), name)
	}
	for i := range 3 * nodesMax {
		reads(m, fmt.Sprint(i), 1, time.Millisecond)
	}
	require.LessOrEqual(t, len(m.SlowReads.mu.nodes), nodesMax)
}
