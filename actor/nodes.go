package actor

import (
	"time"
	"unicode/utf8"

	"github.com/whispering-woods/ww/actor/codec"
	policies "github.com/whispering-woods/ww/actor/replicas/placement"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/queue"
)

// liveness of a node: a higher number is a better node.
type liveness uint8

const (
	// nodeDead: silent for DeadAfter; its replicas do not count.
	nodeDead liveness = iota
	// nodeStale: its stream broke or it is silent for StaleAfter; its replicas
	// count, are read last, and nothing new is placed on it.
	nodeStale
	nodeLive
)

// node is a datanode. Index, id and address are durable.
type node struct {
	index   uint16
	id      string
	address string

	session   uint64
	connected bool
	liveness  liveness
	heard     time.Duration // last sign of life
	since     time.Duration // of the registration
	died      time.Duration // since when it is dead
	version   string
	admin     string // admin address
	rack      string
	volumes   []datanode.VolumeState
	load      datanode.Load
	free      int64 // bytes on healthy volumes
	capacity  int64
	largest   int64 // free bytes of the healthy volume with most
	replicas  uint64
	// placed counts replicas placed since the last heartbeat.
	placed int64
	// copies counts repair copies under way to this node.
	copies int

	// reported: a full report was taken in since registration, and since this
	// State is active.
	reported bool
	report   *report
	odd      int // replicas of it in State.odd
	deletes  map[chunk.ID]*deleteOrder
	toSend   queue.FIFO[chunk.ID]
	toResend queue.FIFO[resend]
}

func newNode(index uint16, id, address string) *node {
	return &node{index: index, id: id, address: address, rack: "/default", deletes: make(map[chunk.ID]*deleteOrder)}
}

func (n *node) describe() string {
	if n.address == "" {
		return n.id
	}
	return n.id + " (" + n.address + ")"
}

// busy is the node's load as placement and read order see it.
func (n *node) busy() int64 {
	return int64(n.load.ActiveWrites) + int64(n.load.ActiveReads) + int64(n.load.QueuedDiskOps) + n.placed
}

func (n *node) room(size int64) bool { return n.largest >= size }

func (n *node) candidate() policies.Candidate {
	return policies.Candidate{Index: n.index, Rack: n.rack, FreeBytes: n.free, CapacityBytes: n.capacity, Load: n.busy()}
}

func (n *node) setVolumes(volumes []datanode.VolumeState) {
	n.volumes = volumes
	n.free, n.capacity, n.largest, n.replicas = 0, 0, 0, 0
	for i := range volumes {
		v := &volumes[i]
		n.replicas += v.Replicas
		if !v.Healthy {
			continue
		}
		n.free += max(v.FreeBytes, 0)
		n.capacity += max(v.CapacityBytes, 0)
		n.largest = max(n.largest, v.FreeBytes)
	}
}

func (s *State) registerNode(r *RegisterNode) (any, *fault.Error) {
	const op = "register datanode"
	refuse := func(kind fault.Kind, hint, format string, args ...any) (any, *fault.Error) {
		e := fault.New(kind, op, format, args...)
		e.Node, e.Address, e.Hint = clip(r.NodeID, 64), clip(r.Address, 64), hint
		return nil, e
	}
	switch {
	case s.clusterID == "":
		return nil, s.notActive(op)
	case r.NodeID == "" || len(r.NodeID) > nodeNameBytesMax || !utf8.ValidString(r.NodeID):
		return refuse(fault.Invalid, "", "the node id has %d bytes or is not valid UTF-8, 1..%d bytes are allowed", len(r.NodeID), nodeNameBytesMax)
	case r.Address == "" || len(r.Address) > nodeNameBytesMax || !utf8.ValidString(r.Address):
		return refuse(fault.Invalid, "", "the address has %d bytes or is not valid UTF-8, 1..%d bytes are allowed", len(r.Address), nodeNameBytesMax)
	case len(r.Volumes) > volumesPerNodeMax:
		return refuse(fault.Invalid, "", "%d volumes, at most %d are allowed", len(r.Volumes), volumesPerNodeMax)
	case r.ClusterID != "" && r.ClusterID != s.clusterID:
		return refuse(fault.Invalid, "the node belongs to another cluster: point it at that one's namenode, or give it empty disks",
			"the node is of cluster %q, this is cluster %q", clip(r.ClusterID, 64), s.clusterID)
	case r.HighestEpoch > s.epoch:
		return refuse(fault.Fenced, "a newer namenode is active; stop this one", "the node has seen epoch %d, this namenode has %d", r.HighestEpoch, s.epoch)
	case s.step.Active && r.HighestTxid > r.DurableTxid:
		return refuse(fault.Fenced, "this namenode's log lost its end; restore the log before any datanode may connect",
			"the node has seen txid %d, the log ends at %d", r.HighestTxid, r.DurableTxid)
	}
	index := s.nodeIndex[r.NodeID]
	switch {
	case index == 0 && len(s.nodes) > nodesMax:
		return refuse(fault.Busy, "", "%d datanodes are known, the limit", len(s.nodes)-1)
	case index == 0 && !s.step.Active:
		return refuse(fault.NotActive, "register with the active namenode first", "the node is not known to this standby yet")
	case index == 0, s.step.Active && s.nodes[index].address != r.Address:
		if index == 0 {
			index = uint16(len(s.nodes))
		}
		record := &codec.NodeRecord{Prefix: s.ownPrefix(), Index: index, ID: r.NodeID, Address: r.Address}
		if _, err := s.log(record); err != nil {
			return nil, err
		}
	}
	n := s.nodes[index]
	n.session, n.connected = r.Session, true
	n.heard, n.since = s.step.Mono, s.step.Mono
	n.version, n.rack = clip(r.Version, nodeNameBytesMax), r.Rack
	n.admin = clip(r.AdminAddress, nodeNameBytesMax)
	if n.rack == "" {
		n.rack = "/default"
	}
	n.setVolumes(r.Volumes)
	n.load, n.placed = datanode.Load{}, 0
	n.reported, n.report = false, nil
	s.setLiveness(n, nodeLive)
	s.resendAll(n)
	s.step.Send(n.id, &datanode.SendReport{})
	s.step.Tell(step.Event{Kind: step.EventNodeRegistered, NodeID: n.id, Text: n.address})
	s.effects.Reply.AfterTxid = s.step.Txid
	return &RegisterResult{ClusterID: s.clusterID}, nil
}

// session finds the node of a message and refuses one from an older stream.
func (s *State) session(op, id string, session uint64) (*node, *fault.Error) {
	index := s.nodeIndex[id]
	if index == 0 || s.nodes[index].session != session || session == 0 {
		e := fault.New(fault.Closed, op, "this stream is not the node's latest registration")
		e.Node = clip(id, 64)
		return nil, e
	}
	return s.nodes[index], nil
}

// heardOf notes a sign of life.
func (s *State) heardOf(n *node) {
	n.heard = s.step.Mono
	if n.connected {
		s.setLiveness(n, nodeLive)
	}
}

func (s *State) heartbeat(r *Heartbeat) *fault.Error {
	n, err := s.session("heartbeat", r.NodeID, r.Session)
	if err != nil {
		return err
	}
	if len(r.Volumes) > volumesPerNodeMax {
		return fault.New(fault.Invalid, "heartbeat", "%d volumes, at most %d are allowed", len(r.Volumes), volumesPerNodeMax)
	}
	n.setVolumes(r.Volumes)
	n.load, n.placed = r.Load, 0
	s.heardOf(n)
	return nil
}

func (s *State) nodeGone(r *NodeGone) *fault.Error {
	n, err := s.session("stream end", r.NodeID, r.Session)
	if err != nil {
		return err
	}
	n.connected = false
	n.report = nil
	if n.liveness == nodeLive {
		s.setLiveness(n, nodeStale)
	}
	s.leases.PrimaryLost(n.index, s.step.Mono)
	return nil
}

// setLiveness changes a node's liveness and has its chunks counted again.
func (s *State) setLiveness(n *node, l liveness) {
	if n.liveness == l {
		return
	}
	old := n.liveness
	n.liveness = l
	switch l {
	case nodeDead:
		n.died = s.step.Mono
		n.report = nil
		s.step.Tell(step.Event{Kind: step.EventNodeDead, NodeID: n.id, Text: n.address})
	case nodeStale:
		s.step.Tell(step.Event{Kind: step.EventNodeStale, NodeID: n.id, Text: n.address})
	case nodeLive: // what it was not sent while it was silent is due
		s.deletesQueued = s.deletesQueued || n.toSend.Len() > 0
	}
	if old == nodeDead || l == nodeDead {
		s.sweep.restart(s.files.Limit())
	}
}

// checkNodesAlive moves silent nodes towards death.
func (s *State) checkNodesAlive() {
	for _, n := range s.nodes[1:] {
		silent := s.step.Mono - n.heard
		switch {
		case n.liveness == nodeDead:
		case silent >= s.config.DeadAfter:
			s.setLiveness(n, nodeDead)
		case n.liveness == nodeLive && silent >= s.config.StaleAfter:
			s.setLiveness(n, nodeStale)
		}
	}
}
