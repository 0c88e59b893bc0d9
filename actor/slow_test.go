package actor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
)

// paced is a cluster whose nodes tell how late others and their own disks are. Every node sends to every other one.
type paced struct {
	*harness
	nodes []string
	free  map[string]int64
	link  func(from, to string) time.Duration // how late an ack is; below 0: there is none
	disk  func(node string) time.Duration     // likewise an operation
	acks  map[[2]string]lateness.Sample
	disks map[string]lateness.Sample
}

func alike(string) time.Duration            { return time.Millisecond }
func allAlike(string, string) time.Duration { return time.Millisecond }

func newPaced(t *testing.T, config Config, nodes int, racks ...string) *paced {
	p := &paced{harness: newHarness(t, config), free: make(map[string]int64), link: allAlike, disk: alike,
		acks: make(map[[2]string]lateness.Sample), disks: make(map[string]lateness.Sample)}
	for i, rack := range racks {
		p.racks[string(rune('a'+i))] = rack
	}
	p.start(nodes)
	for i := range nodes {
		p.nodes = append(p.nodes, string(rune('a'+i)))
	}
	return p
}

func add(s lateness.Sample, late time.Duration) lateness.Sample {
	if late < 0 {
		return s
	}
	return lateness.Sample{Operations: s.Operations + 10, Late: s.Late + 10*late}
}

// work lets time pass, with a heartbeat of every node each second.
func (p *paced) work(d time.Duration) {
	for end := p.mono + d; p.mono < end; {
		p.mono += time.Second
		p.now += 1000
		for _, from := range p.nodes {
			p.disks[from] = add(p.disks[from], p.disk(from))
			beat := &Heartbeat{NodeID: from, Session: p.sessions[from], Volumes: volumes()}
			beat.Volumes[0].Lateness.Writes = p.disks[from]
			if free := p.free[from]; free > 0 {
				beat.Volumes[0].FreeBytes = free
			}
			for _, to := range p.nodes {
				pair := [2]string{from, to}
				if p.acks[pair] = add(p.acks[pair], p.link(from, to)); p.acks[pair].Operations > 0 {
					beat.Load.Links = append(beat.Load.Links, datanode.Link{NodeID: to, Acks: p.acks[pair]})
				}
			}
			p.own(beat)
		}
		p.own(&Tick{})
	}
}

func (p *paced) slow() (ids []string) {
	for _, n := range read[ClusterStatusResult](p.harness, &ClusterStatus{}).Nodes {
		if n.State == datanode.NodeSlow {
			ids = append(ids, n.NodeID)
		}
	}
	return ids
}

// placed counts the replicas of new chunks on each node.
func (p *paced) placed(chunks int) map[string]int {
	counts := make(map[string]int)
	for i := range chunks {
		created := ok[CreateResult](p.harness, 1, &Create{Path: fmt.Sprintf("/%d-%d", p.mono, i), ChunkCount: 1})
		for _, id := range nodeIDs(created.Chunks[0].Replicas) {
			counts[id]++
		}
	}
	return counts
}

func TestASlowNodeIsUsedLast(t *testing.T) {
	lateLink := func(late time.Duration) func(*paced) {
		return func(p *paced) {
			p.link = func(_, to string) time.Duration {
				if to == "d" {
					return late
				}
				return time.Millisecond
			}
		}
	}
	lateDisk := func(late time.Duration) func(*paced) {
		return func(p *paced) {
			p.disk = func(node string) time.Duration {
				if node == "d" {
					return late
				}
				return time.Millisecond
			}
		}
	}
	for reason, kind := range map[string]func(time.Duration) func(*paced){
		"other datanodes wait 40ms longer than they should for what they send to it, of its peers 1ms": lateLink,
		"operations of its disk wait 40ms longer than they should, of its peers 1ms":                   lateDisk,
	} {
		p := newPaced(t, Config{DefaultReplication: 3, DefaultChunkSize: 1 << 16}, 4)
		p.write(1, "/everywhere", 1<<16, 1<<16, 1<<16, 1<<16, 1<<16, 1<<16, 1<<16)
		p.work(20 * time.Second)
		require.Empty(t, p.slow())
		require.Positive(t, p.placed(20)["d"])

		kind(40 * time.Millisecond)(p)
		p.work(12 * time.Second)
		require.Equal(t, []string{"d"}, p.slow())
		status := read[ClusterStatusResult](p.harness, &ClusterStatus{}).Nodes[3]
		require.Equal(t, reason, status.SlowReason)
		require.Less(t, status.SlowFor, 12*time.Second)
		require.Zero(t, p.placed(100)["d"])
		for _, c := range read[LocateResult](p.harness, &Locate{Path: "/everywhere"}).Chunks {
			if at := slices.Index(nodeIDs(c.Replicas), "d"); at >= 0 {
				require.Equal(t, len(c.Replicas)-1, at, "it is read last")
			}
		}
		// What needs all nodes gets them.
		wide := ok[CreateResult](p.harness, 1, &Create{Path: "/wide", ChunkCount: 1, Replication: 4})
		require.Equal(t, 3, slices.Index(nodeIDs(wide.Chunks[0].Replicas), "d"))

		kind(-1)(p) // nothing is asked of it any more
		p.work(70 * time.Second)
		require.Empty(t, p.slow(), "it is tried again")
		require.Positive(t, p.placed(20)["d"])
		kind(40 * time.Millisecond)(p)
		p.work(12 * time.Second)
		require.Equal(t, []string{"d"}, p.slow())
		require.Zero(t, p.placed(100)["d"])
	}
}

// What one node says of the others proves nothing: its own time stands still.
func TestANodeThatFindsAllOthersSlowCondemnsNobody(t *testing.T) {
	for _, nodes := range []int{3, 4, 7} {
		p := newPaced(t, Config{}, nodes)
		p.link = func(from, _ string) time.Duration {
			if from == "b" {
				return time.Second
			}
			return time.Millisecond
		}
		p.work(30 * time.Second)
		require.Empty(t, p.slow(), nodes)
	}
}

func TestSlowNodesStarveNobody(t *testing.T) {
	p := newPaced(t, Config{DefaultReplication: 3}, 9)
	p.link = func(_, to string) time.Duration {
		if to >= "f" { // four of nine
			return time.Second
		}
		return time.Millisecond
	}
	p.work(30 * time.Second)
	require.Len(t, p.slow(), 2)
	require.Empty(t, newPacedSlow(t, 2), "nobody knows which of two is slow")
}

func newPacedSlow(t *testing.T, nodes int) []string {
	p := newPaced(t, Config{DefaultReplication: 2}, nodes)
	p.link = func(_, to string) time.Duration {
		if to == "b" {
			return time.Second
		}
		return 0
	}
	p.disk = func(node string) time.Duration { return p.link("", node) }
	p.work(30 * time.Second)
	return p.slow()
}

// Racks come before speed, and so does a cluster that fills up unevenly.
func TestASlowNodeIsUsedWhenItHasTheOtherRack(t *testing.T) {
	slow := func(node string) time.Duration {
		if node == "d" {
			return time.Second
		}
		return time.Millisecond
	}
	p := newPaced(t, Config{DefaultReplication: 2}, 4, "/r1", "/r1", "/r1", "/r2")
	p.disk = slow
	p.work(20 * time.Second)
	require.Equal(t, []string{"d"}, p.slow())
	require.Equal(t, 50, p.placed(50)["d"])

	p = newPaced(t, Config{DefaultReplication: 2}, 4)
	p.disk = slow
	p.work(20 * time.Second)
	require.Zero(t, p.placed(50)["d"])
	for _, other := range []string{"a", "b", "c"} {
		p.free[other] = 1 << 38 // a quarter, when it has half
	}
	p.work(time.Second)
	require.Equal(t, []string{"d"}, p.slow())
	require.Positive(t, p.placed(50)["d"])
}

// Where all are slow, how full they are does not set some of them apart.
func TestAmongSlowNodesThePolicyChooses(t *testing.T) {
	p := newPaced(t, Config{DefaultReplication: 7, Placement: "round-robin"}, 8)
	p.disk = func(node string) time.Duration {
		if node >= "g" {
			return time.Second
		}
		return time.Millisecond
	}
	p.free["g"] = 1 << 36 // a sixteenth, when h has half
	p.work(20 * time.Second)
	require.Equal(t, []string{"g", "h"}, p.slow())
	created := ok[CreateResult](p.harness, 1, &Create{Path: "/f", ChunkCount: 1, ExcludeNodes: []string{"g", "h"}})
	require.Equal(t, "g", created.Chunks[0].Replicas[6].NodeID)
}

// A namenode that becomes active does not count what was before, nor at a datanode that registers again, however often.
func TestLatenessBeginsWithTheFirstHeartbeat(t *testing.T) {
	late := func(_, to string) time.Duration {
		if to == "d" {
			return time.Second
		}
		return 0
	}
	for what, slow := range map[string]func(*paced){
		"link": func(p *paced) { p.link = late },
		"disk": func(p *paced) { p.disk = func(node string) time.Duration { return late("", node) } },
	} {
		t.Run(what, func(t *testing.T) {
			p := newPaced(t, Config{}, 4)
			slow(p)
			p.work(20 * time.Second)
			require.Equal(t, []string{"d"}, p.slow())
			p.restart(p.nodes...)
			p.link, p.disk = allAlike, alike
			for range 10 {
				p.work(2 * time.Second)
				for _, n := range read[ClusterStatusResult](p.harness, &ClusterStatus{}).Nodes {
					require.Empty(t, n.SlowReason, n.NodeID)
				}
				for _, id := range p.nodes { // their streams broke
					p.register(id)
				}
			}
		})
	}
}

// What slow nodes say of others is not heard: their own time may be what they measure.
func TestASlowNodeCondemnsNobody(t *testing.T) {
	p := newPaced(t, Config{}, 8)
	p.disk = func(node string) time.Duration {
		if node <= "b" {
			return time.Second
		}
		return time.Millisecond
	}
	p.work(12 * time.Second)
	require.Equal(t, []string{"a", "b"}, p.slow())
	p.link = func(from, to string) time.Duration {
		switch {
		case to != "h" || from == "c":
			return time.Millisecond
		case from <= "b":
			return time.Second
		}
		return -1 // nothing goes there
	}
	for range 20 {
		p.work(time.Second)
		require.Equal(t, []string{"a", "b"}, p.slow())
	}
}

func TestASlowNodeLeadsNoRecovery(t *testing.T) {
	p := newPaced(t, Config{DefaultReplication: 3, DefaultChunkSize: 1 << 16}, 3)
	created := ok[CreateResult](p.harness, 1, &Create{Path: "/open", ChunkCount: 1})
	for _, id := range p.nodes {
		p.stored(id, chunk.Replica{ID: created.Chunks[0].Chunk, Generation: 1, Length: 10, State: chunk.Open})
	}
	p.disk = func(node string) time.Duration {
		if node == "a" {
			return time.Second
		}
		return 0
	}
	p.work(12 * time.Second)
	require.Equal(t, []string{"a"}, p.slow())
	var leaders []string
	for _, m := range p.as(2, &RecoverLease{Path: "/open"}).Messages {
		if _, is := m.Body.(*datanode.RecoverChunk); is {
			leaders = append(leaders, m.NodeID)
		}
	}
	require.Equal(t, []string{"b"}, leaders)
}
