package replicas

import (
	"fmt"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/replicas/placement"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
)

// Slowness knows which datanodes are far later than their peers: by the links into them, as the nodes before them in
// pipelines measure, and by their own disks. They are used last, and used: for new replicas, reads, and to lead a
// recovery. Heartbeats bring what was measured, and every lateness.RoundInterval all live nodes are compared.
type Slowness struct {
	room   *Replicas
	judged time.Duration // the last round
	nodes  []nodeLateness
}

// nodeLateness is what was measured at one node, and about it.
type nodeLateness struct {
	link, disk lateness.Record
	slow       bool // as it was told last
	// What the node itself tells, since its registration. The first heartbeat is where all begins: who became active a
	// moment ago has not seen what was before.
	told    bool
	links   []linkLateness
	volumes []volumeLateness
}

// linkLateness is what one node tells of the link to another: now, and when the round began.
type linkLateness struct {
	to          datanode.Index
	now, before lateness.Sample
}

type volumeLateness struct {
	id          string
	now, before lateness.IO
}

func (s *Slowness) addNode() { s.nodes = append(s.nodes, nodeLateness{}) }

// registered forgets what a process told that has ended.
func (s *Slowness) registered(node datanode.Index) {
	n := &s.nodes[node]
	n.told, n.links, n.volumes = false, nil, nil
}

// note takes what a heartbeat tells; of nodes that are not known nothing.
func (s *Slowness) note(node datanode.Index, told []datanode.Link, volumes []datanode.VolumeState) {
	own := &s.nodes[node]
	links := make([]linkLateness, 0, min(len(told), datanode.LinksMax))
	for i, link := range told[:min(len(told), datanode.LinksMax)] {
		to := s.room.Nodes.Find(link.NodeID)
		if to == 0 || to == node {
			continue
		}
		next := linkLateness{to: to, now: link.Acks}
		if !own.told {
			next.before = link.Acks
		} else if i < len(own.links) && own.links[i].to == to { // they come in the same order
			next.before = own.links[i].before
		} else if at := slices.IndexFunc(own.links, func(l linkLateness) bool { return l.to == to }); at >= 0 {
			next.before = own.links[at].before
		}
		links = append(links, next)
	}
	disks := make([]volumeLateness, 0, len(volumes))
	for i := range volumes {
		v := &volumes[i]
		if !v.Healthy {
			continue
		}
		next := volumeLateness{id: v.ID, now: v.Lateness, before: v.Lateness}
		if at := slices.IndexFunc(own.volumes, func(l volumeLateness) bool { return l.id == v.ID }); at >= 0 {
			next.before = own.volumes[at].before
		}
		disks = append(disks, next)
	}
	own.told, own.links, own.volumes = true, links, disks
}

// tick ends a round if it is time to.
func (s *Slowness) tick() {
	now := s.room.step.Mono
	if now-s.judged < lateness.RoundInterval {
		return
	}
	s.judged = now
	s.scoreLinks(now)
	var links, disks []*lateness.Record
	for _, n := range s.room.Nodes.all() {
		own := &s.nodes[n.index]
		if late, known := own.takeDisk(); known {
			own.disk.Score(now, late)
		}
		if n.live() {
			links, disks = append(links, &own.link), append(disks, &own.disk)
		}
	}
	most := max(1, len(links)/slowShare)
	lateness.Judge{Floor: slowLinkFloor, Peers: 2}.Decide(now, most, links)
	for _, record := range links {
		if _, slow := record.Slow(now); slow {
			most--
		}
	}
	lateness.Judge{Floor: lateness.DiskFloor, Peers: 2}.Decide(now, most, disks)
	for _, n := range s.room.Nodes.all() {
		own := &s.nodes[n.index]
		text, _ := s.reason(n.index)
		switch was := own.slow; {
		case text != "" && !was:
			s.room.step.Emit(step.Event{Kind: step.EventNodeSlow, NodeID: n.id, Text: text})
		case text == "" && was:
			s.room.step.Emit(step.Event{Kind: step.EventNodeNotSlow, NodeID: n.id, Text: n.address})
		}
		own.slow = text != ""
	}
}

// scoreLinks ends the round of the links. What several nodes say of one counts, and of that the median, so that one
// that is slow itself, or has a bad link to one other, condemns nobody.
func (s *Slowness) scoreLinks(now time.Duration) {
	about := make([][]time.Duration, len(s.nodes))
	for _, n := range s.room.Nodes.all() {
		own := &s.nodes[n.index]
		for i := range own.links {
			link := &own.links[i]
			if late, known := link.now.Since(link.before).Mean(); known && !own.slow {
				about[link.to] = append(about[link.to], late)
			}
			link.before = link.now
		}
	}
	for to, lates := range about {
		if len(lates) >= 2 {
			s.nodes[to].link.Score(now, lateness.Median(lates))
		}
	}
}

// takeDisk ends the round of a node's disks: the best one counts, because new replicas go there.
func (n *nodeLateness) takeDisk() (best time.Duration, known bool) {
	for i := range n.volumes {
		v := &n.volumes[i]
		if late, measured := v.now.Since(v.before).Mean(); measured && (!known || late < best) {
			best, known = late, true
		}
		v.before = v.now
	}
	return best, known
}

// of reports whether a node is slow.
func (s *Slowness) of(node datanode.Index) bool {
	now, n := s.room.step.Mono, &s.nodes[node]
	_, link := n.link.Slow(now)
	_, disk := n.disk.Slow(now)
	return link || disk
}

// reason says why a node is slow, and for how long; "" if it is not.
func (s *Slowness) reason(node datanode.Index) (text string, since time.Duration) {
	now, n := s.room.step.Mono, &s.nodes[node]
	what := "other datanodes wait %v longer than they should for what they send to it"
	verdict, slow := n.link.Slow(now)
	if !slow {
		what = "operations of its disk wait %v longer than they should"
		if verdict, slow = n.disk.Slow(now); !slow {
			return "", 0
		}
	}
	return fmt.Sprintf(what+", of its peers %v", verdict.Late.Round(time.Millisecond),
		verdict.Peers.Round(time.Millisecond)), now - verdict.Since
}

// avoided reports whether new replicas had better go to the others: not while those are much fuller, or a cluster of
// fast and slow disks would fill the fast ones first.
func (s *Slowness) avoided(n *placement.Candidate, othersFree float64) bool {
	return s.of(n.Index) && float64(n.FreeBytes)/float64(max(n.CapacityBytes, 1)) <= othersFree+lateness.FreeMost
}
