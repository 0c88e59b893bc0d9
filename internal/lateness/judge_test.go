package lateness

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	round = 2 * time.Second
	ms    = time.Millisecond
)

// field is a set of records that are judged together.
type field struct {
	now     time.Duration
	judge   Judge
	most    int
	records []*Record
}

func newField(things, most int) *field {
	f := &field{now: time.Hour, judge: Judge{Floor: 10 * ms, Peers: 2}, most: most}
	for range things {
		f.records = append(f.records, &Record{})
	}
	return f
}

// rounds gives each record a score, so many times; below 0: none.
func (f *field) rounds(count int, scores ...time.Duration) {
	for range count {
		f.now += round
		for i, late := range scores {
			if late >= 0 {
				f.records[i].Score(f.now, late)
			}
		}
		f.judge.Decide(f.now, f.most, f.records)
	}
}

func (f *field) slow() (which []int) {
	for i, r := range f.records {
		if _, slow := r.Slow(f.now); slow {
			which = append(which, i)
		}
	}
	return which
}

func TestOneThatIsLateAmongPeersIsSlow(t *testing.T) {
	f := newField(4, 1)
	f.rounds(3, ms, ms, 2*ms, 45*ms)
	require.Empty(t, f.slow(), "three rounds say nothing")
	f.rounds(1, ms, ms, 2*ms, 40*ms)
	require.Equal(t, []int{3}, f.slow())
	verdict, _ := f.records[3].Slow(f.now)
	require.Equal(t, Verdict{Since: f.now, Late: 45 * ms, Peers: ms}, verdict)
	since := f.now
	f.rounds(60, ms, ms, 2*ms, 20*ms)
	verdict, slow := f.records[3].Slow(f.now)
	require.True(t, slow, "it goes on")
	require.Equal(t, Verdict{Since: since, Late: 20 * ms, Peers: ms}, verdict)
}

func TestNobodyIsSlowBecause(t *testing.T) {
	for name, play := range map[string]func(*field){
		"all are late":            func(f *field) { f.rounds(20, 45*ms, 40*ms, 60*ms, 90*ms) },
		"it is below the floor":   func(f *field) { f.rounds(20, 0, 0, 0, 9*ms) },
		"two things are too few":  func(f *field) { f.rounds(20, ms, -1, -1, 90*ms) },
		"it stood still a moment": func(f *field) { f.rounds(5, ms, ms, ms, ms); f.rounds(2, ms, ms, ms, time.Second) },
		"its peers are silent":    func(f *field) { f.rounds(20, -1, -1, -1, time.Second) },
		"scores are too far apart": func(f *field) {
			for range 20 {
				f.rounds(1, ms, ms, ms, 90*ms)
				f.now += time.Minute
			}
		},
	} {
		f := newField(4, 1)
		play(f)
		f.rounds(2, ms, ms, ms, ms)
		require.Empty(t, f.slow(), name)
	}
}

func TestAShareAtMostIsSlow(t *testing.T) {
	f := newField(9, 2)
	f.rounds(10, ms, ms, ms, ms, ms, ms, 70*ms, 90*ms, 80*ms)
	require.Equal(t, []int{7, 8}, f.slow(), "the latest")
	f.rounds(10, ms, ms, ms, ms, ms, ms, 200*ms, 90*ms, 80*ms)
	require.Equal(t, []int{7, 8}, f.slow(), "they stay")
	f.rounds(40, ms, ms, ms, ms, ms, ms, 200*ms, ms, ms)
	require.Equal(t, []int{6}, f.slow(), "there is a place for the third")
}

// What is avoided is measured no more: it is tried again, each time later.
func TestAVerdictEndsAndReturns(t *testing.T) {
	f := newField(4, 1)
	for _, minutes := range []int{1, 2, 4, 8, 16, 16} {
		f.rounds(4, ms, ms, ms, 50*ms)
		require.Equal(t, []int{3}, f.slow())
		rounds := minutes * int(time.Minute/round)
		f.rounds(rounds-1, ms, ms, ms, -1)
		require.Equal(t, []int{3}, f.slow(), "%d min", minutes)
		f.rounds(1, ms, ms, ms, -1)
		require.Empty(t, f.slow(), "%d min", minutes)
	}
	f.rounds(20*60, ms, ms, ms, ms)
	f.rounds(4, ms, ms, ms, 50*ms)
	f.rounds(29, ms, ms, ms, -1)
	require.Equal(t, []int{3}, f.slow())
	f.rounds(1, ms, ms, ms, -1)
	require.Empty(t, f.slow(), "it was well for long")
}

func TestSamples(t *testing.T) {
	require.Equal(t, 500*ms, Of(1500*ms, BytesPerSecond))
	require.Zero(t, Of(ms, 1<<20))
	var m Meter
	_, known := m.Sample().Mean()
	require.False(t, known)
	m.Note(3 * ms)
	m.Note(5 * ms)
	before := m.Sample()
	late, known := before.Mean()
	require.True(t, known)
	require.Equal(t, 4*ms, late)
	m.Note(6 * ms)
	require.Equal(t, Sample{1, 6 * ms}, m.Sample().Since(before))
	require.Equal(t, Sample{1, ms}, Sample{1, ms}.Since(before), "its process began anew")
}
