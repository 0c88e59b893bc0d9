package machine

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
)

// linkIdleMax is how long a neighbour keeps its place among those that are measured without an ack of it.
const linkIdleMax = 30 * time.Second

// links measure how late the acks of the next hops come, over all sessions of a node: those of the first
// datanode.LinksMax neighbours, because one that is measured for a moment says nothing. Safe for concurrent use.
type links struct {
	mu struct {
		sync.Mutex
		meters []linkMeter
	}
}

type linkMeter struct {
	nodeID string
	at     time.Duration // of the newest ack
	acks   lateness.Sample
}

// note adds an ack of a neighbour.
func (l *links) note(nodeID string, late, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	meters := l.mu.meters
	at := slices.IndexFunc(meters, func(m linkMeter) bool { return m.nodeID == nodeID })
	if at < 0 && len(meters) < datanode.LinksMax {
		at, l.mu.meters = len(meters), append(meters, linkMeter{nodeID: nodeID})
	}
	if at < 0 {
		if at = slices.IndexFunc(meters, func(m linkMeter) bool { return now-m.at > linkIdleMax }); at < 0 {
			return
		}
		l.mu.meters[at] = linkMeter{nodeID: nodeID}
	}
	meter := &l.mu.meters[at]
	meter.at = now
	meter.acks.Operations++
	meter.acks.Late += late
}

// Links is how late the acks of the next hops came, by node id.
func (n *Node) Links() []datanode.Link {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	list := make([]datanode.Link, 0, len(n.links.mu.meters))
	for i := range n.links.mu.meters {
		list = append(list, datanode.Link{NodeID: n.links.mu.meters[i].nodeID, Acks: n.links.mu.meters[i].acks})
	}
	slices.SortFunc(list, func(a, b datanode.Link) int { return strings.Compare(a.NodeID, b.NodeID) })
	return list
}

// noteLink measures the link with an ack of new packets: how long the first of them was on its way there and back,
// beyond what that hop, its disk and those behind it took. A hop that tells no times is not measured.
func (m *Machine) noteLink(s *WriteSession, next *wire.HopStatus) {
	if next.TotalMicros == 0 || s.inflight.Len() == 0 {
		return
	}
	first := *s.inflight.At(int(s.downSeqno + 1 - (*s.inflight.At(0)).Header.Seqno))
	took := m.now - first.dispatched - time.Duration(next.TotalMicros)*time.Microsecond
	m.node.links.note(next.NodeID, lateness.Of(took, s.next-s.ackedLength), m.now)
}
