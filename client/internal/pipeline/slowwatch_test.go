package pipeline

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/test/fakeclock"
)

// TestWhichHopIsSlow feeds the meter with acks as they look when one disk or one link is slow, and when nobody is to
// blame.
func TestWhichHopIsSlow(t *testing.T) {
	const ms = 1000
	for name, c := range map[string]struct {
		trip   time.Duration
		hops   []wire.HopStatus
		worst  int
		byLink bool
	}{
		"the disk of the middle": {500 * time.Millisecond, []wire.HopStatus{{Micros: 5 * ms, TotalMicros: 490 * ms},
			{Micros: 470 * ms, TotalMicros: 480 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 1, false},
		"the link to the tail": {500 * time.Millisecond, []wire.HopStatus{{Micros: 5 * ms, TotalMicros: 490 * ms},
			{Micros: 4 * ms, TotalMicros: 480 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 2, true},
		"the disk of the head": {500 * time.Millisecond, []wire.HopStatus{{Micros: 480 * ms, TotalMicros: 490 * ms},
			{Micros: 4 * ms, TotalMicros: 9 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 0, false},
		"the link to the head": {500 * time.Millisecond, []wire.HopStatus{{Micros: 5 * ms, TotalMicros: 12 * ms},
			{Micros: 4 * ms, TotalMicros: 9 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 0, true},
		"all disks": {500 * time.Millisecond, []wire.HopStatus{{Micros: 400 * ms, TotalMicros: 490 * ms},
			{Micros: 400 * ms, TotalMicros: 480 * ms}, {Micros: 400 * ms, TotalMicros: 420 * ms}}, -1, false},
		"slower, but not by much": {60 * time.Millisecond, []wire.HopStatus{{Micros: 10 * ms, TotalMicros: 50 * ms},
			{Micros: 30 * ms, TotalMicros: 40 * ms}, {Micros: 10 * ms, TotalMicros: 12 * ms}}, -1, false},
		"a short time": {9 * time.Millisecond, []wire.HopStatus{{Micros: 100, TotalMicros: 9 * ms},
			{Micros: 8 * ms, TotalMicros: 9 * ms}, {Micros: 100, TotalMicros: 200}}, -1, false},
		"one hop alone": {500 * time.Millisecond, []wire.HopStatus{{Micros: 480 * ms, TotalMicros: 490 * ms}},
			-1, false},
	} {
		var m hopMeter
		for i := range slowSteps + 1 {
			m.count(c.trip, 256<<10, c.hops)
			m.next()
			if m.full > 0 && m.full < slowSteps {
				require.False(t, m.find(len(c.hops)).sure, "%s: after %d steps", name, i)
			}
		}
		f := m.find(len(c.hops))
		require.Equal(t, c.worst >= 0, f.sure, name)
		require.InDelta(t, 1<<20, f.rate, 1, name)
		if f.sure {
			require.Equal(t, c.worst, f.hop, name)
			require.Equal(t, c.byLink, f.byLink, name)
		}
	}
}

// TestWhatAMeterKeeps: it judges the last slowSteps, without gaps.
func TestWhatAMeterKeeps(t *testing.T) {
	slow := []wire.HopStatus{{Micros: 1000, TotalMicros: 900_000}, {Micros: 1000, TotalMicros: 2000}}
	steps := func(m *hopMeter, hops []wire.HopStatus) {
		for range slowSteps {
			m.count(time.Second, 1, hops)
			m.next()
		}
	}
	var m hopMeter
	m.count(time.Second, 1, slow)
	m.next()
	require.Zero(t, m.full, "a part of a step does not count")
	steps(&m, slow)
	require.True(t, m.find(2).sure)
	m.interrupt()
	steps(&m, slow)
	require.Equal(t, slowSteps-1, m.full, "nothing waited for a moment")
	steps(&m, []wire.HopStatus{{Micros: 900_000, TotalMicros: 950_000}, {Micros: 1000, TotalMicros: 2000}})
	require.Equal(t, 0, m.find(2).hop, "what is longer ago is forgotten")
	steps(&m, []wire.HopStatus{{Micros: 1, TotalMicros: 5}, {Micros: 9}})
	require.LessOrEqual(t, m.full, 1, "a hop that does not tell its times")
	m = hopMeter{}
	for range 2 * slowSteps {
		m.next()
	}
	require.Equal(t, -1, m.find(2).hop, "silence alone is no finding")
	m.count(800*time.Millisecond, 1, []wire.HopStatus{{Micros: 1000, TotalMicros: 3000},
		{Micros: 1000, TotalMicros: 2000}})
	m.next()
	f := m.find(2)
	require.True(t, f.sure && f.byLink && f.hop == 0,
		"an ack now and then, and silence between: the way to the first hop")
}

// watched makes a session as the watch sees it, with acks for the time that it judges.
func watched(t *testing.T, w *slowWatch, nodes string, mbPerSecond float64, hops []wire.HopStatus) *session {
	client, server := net.Pipe()
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	s := &session{pipelines: w.pipelines, conn: datanode.NewConnection(client, "a"), changed: make(chan struct{}, 1)}
	for _, id := range nodes {
		s.target.hops = append(s.target.hops, wire.Hop{NodeID: string(id)})
	}
	s.mu.opened = true
	s.mu.window.packets = []*Packet{{sent: time.Now()}}
	s.mu.meter = &hopMeter{whole: true}
	for range slowSteps {
		s.mu.meter.count(time.Second, int64(mbPerSecond*250_000), hops)
		s.mu.meter.next()
	}
	s.mu.meter.count(time.Second, int64(mbPerSecond*250_000), hops)
	return s
}

// TestWhoIsReplaced: what several sessions say together.
func TestWhoIsReplaced(t *testing.T) {
	const ms = 1000
	link := func(place int) []wire.HopStatus { // the way to this hop is slow
		h := []wire.HopStatus{{Micros: 2 * ms, TotalMicros: 6 * ms}, {Micros: 2 * ms, TotalMicros: 5 * ms},
			{Micros: 2 * ms, TotalMicros: 4 * ms}}
		for i := range place {
			h[i].TotalMicros = 990 * ms
		}
		return h
	}
	type one struct {
		nodes string
		rate  float64
		hops  []wire.HopStatus
	}
	for name, c := range map[string]struct {
		sessions []one
		adjust   func(*slowWatch, []*session)
		late     bool
		failed   []bool
		avoided  []string
	}{
		"a node that stopped two seconds ago": {[]one{{"abc", 90, link(2)}}, func(_ *slowWatch,
			s []*session) {
			stop(s[0], 7, link(2))
		}, false, []bool{false}, nil},
		"a node that stopped three seconds ago": {[]one{{"abc", 90, link(2)}}, func(_ *slowWatch,
			s []*session) {
			stop(s[0], 12, link(2))
		}, false, []bool{true}, []string{"c"}},
		"a slow tail": {[]one{{"abc", 1, link(2)}}, nil, false, []bool{true}, []string{"c"}},
		"what one finds holds for the others": {[]one{{"abc", 1, link(2)}, {"cab", 0.5, link(0)}, {"bca", 2, nil},
			{"dab", 90, link(2)}}, nil, false, []bool{true, true, true, false}, []string{"c"}},
		"others wait for another node": {[]one{{"abc", 1, link(2)}, {"cbd", 1, link(1)}}, nil, false,
			[]bool{true, true}, []string{"b", "c"}},
		"a node that is fast elsewhere": {[]one{{"abc", 1, link(2)}, {"cab", 50, link(1)}}, nil, false,
			[]bool{false, false}, nil},
		"a node that is fast enough in all": {[]one{{"abc", 9, link(2)}, {"bac", 9, link(2)}}, nil, false,
			[]bool{false, false}, nil},
		"a slow head, and one that is fast": {[]one{{"abc", 1, link(0)}, {"bcd", 90, link(1)}}, nil, false,
			[]bool{true, false}, []string{"a"}},
		"all heads: it is this client's own link": {[]one{{"abc", 1, link(0)}, {"bcd", 1, link(0)},
			{"cda", 2, link(0)}}, nil, false, []bool{false, false, false}, nil},
		"this client was held up": {[]one{{"abc", 1, link(2)}}, nil, true, []bool{false}, nil},
		"nothing waits": {[]one{{"abc", 1, link(2)}},
			func(_ *slowWatch, s []*session) { s[0].mu.window.packets = nil }, false, []bool{false}, nil},
		"a disk that has much to sync": {[]one{{"abc", 1, link(2)}},
			func(_ *slowWatch, s []*session) { syncs(s[0], 64<<20, 3*time.Second) }, false, []bool{false}, nil},
		"a disk that takes too long for a sync": {[]one{{"abc", 1, link(2)}},
			func(_ *slowWatch, s []*session) { syncs(s[0], 64<<20, 5*time.Second) }, false, []bool{true},
			[]string{"c"}},
		"a head was fast a while ago": {[]one{{"abc", 1, link(0)}},
			func(w *slowWatch, _ []*session) { w.pipelines.Nodes.SlowWrites.FastHead("b") }, false, []bool{true},
			[]string{"a"}},
		"the last head was slow to reach, too": {[]one{{"abc", 1, link(0)}},
			func(w *slowWatch, _ []*session) { w.pipelines.Nodes.SlowWrites.SlowHead("b") }, false, []bool{false}, nil},
		"the same head again": {[]one{{"abc", 1, link(0)}},
			func(w *slowWatch, _ []*session) { w.pipelines.Nodes.SlowWrites.SlowHead("a") }, false, []bool{true},
			[]string{"a"}},
		"the own link is known to be slow": {[]one{{"abc", 1, link(0)}},
			func(w *slowWatch, _ []*session) { w.pipelines.Nodes.SlowWrites.OwnLink() }, false, []bool{false}, nil},
		"the own link was slow, but not any more": {[]one{{"abc", 1, link(0)}, {"bcd", 90, link(1)}},
			func(w *slowWatch, _ []*session) { w.pipelines.Nodes.SlowWrites.OwnLink() }, false, []bool{true, false},
			[]string{"a"}},
		"a slow node that there was no other for": {[]one{{"abc", 1, link(2)}}, func(w *slowWatch, s []*session) {
			w.pipelines.Nodes.SlowWrites.Slow("c")
			s[0].target.slow = []string{"c"}
		}, false, []bool{false}, []string{"c"}},
		"one that was found slow by others since": {[]one{{"abc", 1, link(2)}}, func(w *slowWatch, _ []*session) {
			w.pipelines.Nodes.SlowWrites.Slow("c")
		}, false, []bool{true}, []string{"c"}},
		"one that was known to be slow long ago": {[]one{{"abc", 1, link(2)}}, func(_ *slowWatch, s []*session) {
			s[0].target.slow = []string{"c"}
		}, false, []bool{true}, []string{"c"}},
		"another one than the slow one that there is no other for": {[]one{{"acd", 1, link(1)}, {"abd", 1, link(2)}},
			func(w *slowWatch, s []*session) {
				w.pipelines.Nodes.SlowWrites.Slow("d")
				s[0].target.slow, s[1].target.slow = []string{"d"}, []string{"d"}
			}, false, []bool{true, false}, []string{"c", "d"}},
		"a slow tail behind a slow link of our own": {[]one{{"abc", 1, link(2)}},
			func(w *slowWatch, _ []*session) { w.pipelines.Nodes.SlowWrites.OwnLink() }, false, []bool{true},
			[]string{"c"}},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := health.NewNodes(fakeclock.New(time.Unix(1000, 0)))
			w := &New(Options{Nodes: nodes, SlowBytesPerSecond: 16 << 20}).slow
			nodes.SlowWrites.Placed([]wire.Hop{{NodeID: "a"}, {NodeID: "b"}, {NodeID: "c"}, {NodeID: "d"},
				{NodeID: "e"}})
			var all []*session
			for _, o := range c.sessions {
				if o.hops == nil { // silent
					o.hops, o.rate = link(0), 0
					s := watched(t, w, o.nodes, 0, o.hops)
					s.mu.meter = &hopMeter{full: slowSteps, whole: true}
					all = append(all, s)
					continue
				}
				all = append(all, watched(t, w, o.nodes, o.rate, o.hops))
			}
			if c.adjust != nil {
				c.adjust(w, all)
			}
			w.step(all, time.Now(), c.late)
			for i, s := range all {
				require.Equal(t, c.failed[i], s.mu.err != nil, "session %d: %v", i, s.mu.err)
			}
			require.Equal(t, c.avoided, nodes.SlowWrites.Avoid(3))
		})
	}
}

// TestASlowNodeHidesNoOther: a session that has to do with a node known to be slow judges the others.
func TestASlowNodeHidesNoOther(t *testing.T) {
	nodes := health.NewNodes(fakeclock.New(time.Unix(1000, 0)))
	p := New(Options{Nodes: nodes, SlowBytesPerSecond: 16 << 20})
	nodes.SlowWrites.Slow("c")
	s := &Stream{pipelines: p, place: placement{pipelines: p, width: 3}}
	target := s.target(wire.ModeCreate, 1, 0, []wire.Hop{{NodeID: "a"}, {NodeID: "b"}, {NodeID: "c"}})
	require.True(t, target.judged)
}

// stop adds steps to a session in which nothing is acknowledged.
func stop(s *session, steps int, hops []wire.HopStatus) {
	for range steps {
		s.mu.meter.count(time.Second, 0, hops)
		s.mu.meter.next()
	}
}

// syncs makes a session wait for a sync of so many bytes.
func syncs(s *session, bytes int64, since time.Duration) {
	oldest := s.mu.window.packets[0]
	oldest.Flags, oldest.Offset, oldest.sent = wire.FlagSeal, bytes, time.Now().Add(-since)
}
