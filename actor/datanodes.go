package actor

import (
	"unicode/utf8"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

func session(nodeID string, number uint64) replicas.Session {
	return replicas.Session{NodeID: nodeID, Number: number}
}

func registerNode(s *State, r *RegisterNode) (any, *fault.Error) {
	const op = "register datanode"
	refuse := func(kind fault.Kind, hint, format string, args ...any) (any, *fault.Error) {
		e := fault.New(kind, op, format, args...)
		e.Node, e.Address, e.Hint = limits.Clip(r.NodeID, 64), limits.Clip(r.Address, 64), hint
		return nil, e
	}
	switch {
	case s.clusterID == "":
		return nil, notActive(op)
	case r.NodeID == "" || len(r.NodeID) > limits.TextBytesMax || !utf8.ValidString(r.NodeID):
		return refuse(fault.Invalid, "", "the node id has %d bytes or is not valid UTF-8, 1..%d bytes are allowed", len(r.NodeID), limits.TextBytesMax)
	case r.Address == "" || len(r.Address) > limits.TextBytesMax || !utf8.ValidString(r.Address):
		return refuse(fault.Invalid, "", "the address has %d bytes or is not valid UTF-8, 1..%d bytes are allowed", len(r.Address), limits.TextBytesMax)
	case len(r.Volumes) > limits.VolumesPerNodeMax:
		return refuse(fault.Invalid, "", "%s", limits.CheckCount("volumes", len(r.Volumes), limits.VolumesPerNodeMax))
	case r.ClusterID != "" && r.ClusterID != s.clusterID:
		return refuse(fault.Invalid, "the node belongs to another cluster: point it at that one's namenode, or give it empty disks",
			"the node is of cluster %q, this is cluster %q", limits.Clip(r.ClusterID, 64), s.clusterID)
	case r.HighestEpoch > s.epoch:
		return refuse(fault.Fenced, "a newer namenode is active; stop this one", "the node has seen epoch %d, this namenode has %d", r.HighestEpoch, s.epoch)
	case s.step.Active && r.HighestTxid > r.DurableTxid:
		return refuse(fault.Fenced, "this namenode's log lost its end; restore the log before any datanode may connect",
			"the node has seen txid %d, the log ends at %d", r.HighestTxid, r.DurableTxid)
	}
	nodes := &s.replicas.Nodes
	index := nodes.Find(r.NodeID)
	switch {
	case index == 0 && nodes.Next() > replicas.NodesMax:
		return refuse(fault.Busy, "", "%d datanodes are known, the limit", nodes.Next()-1)
	case index == 0 && !s.step.Active:
		return refuse(fault.NotActive, "register with the active namenode first", "the node is not known to this standby yet")
	case index == 0, s.step.Active && nodes.Address(index) != r.Address:
		if index == 0 {
			index = nodes.Next()
		}
		record := &codec.NodeRecord{Prefix: s.ownPrefix(), Index: index, ID: r.NodeID, Address: r.Address}
		if _, err := s.log(record); err != nil {
			return nil, err
		}
	}
	nodes.Register(index, &replicas.Registration{Session: r.Session, Version: r.Version, Rack: r.Rack,
		AdminAddress: r.AdminAddress, Volumes: r.Volumes})
	s.effects.Reply.AfterTxid = s.step.Txid
	return &RegisterResult{ClusterID: s.clusterID}, nil
}

func nodeGone(s *State, r *NodeGone) *fault.Error {
	node, err := s.replicas.Nodes.Disconnected(session(r.NodeID, r.Session))
	if err == nil {
		s.leases.PrimaryLost(node, s.step.Mono)
	}
	return err
}

func reportBadReplica(s *State, r *ReportBadReplica) (any, *fault.Error) {
	if !s.step.Active {
		return nil, notActive("report bad replica")
	}
	if err := s.replicas.Suspects.Report(r.Chunk, r.Generation, r.NodeID, r.Reason); err != nil {
		return nil, err
	}
	return &ReportBadReplicaResult{}, nil
}

func changeSafeMode(s *State, r *SafeMode) (any, *fault.Error) {
	const op = "safe mode"
	switch r.Action {
	case SafeModeGet:
	case SafeModeEnter, SafeModeLeave:
		if !s.step.Active {
			return nil, notActive(op)
		}
		if r.Action == SafeModeLeave {
			if s.replicas.SafeMode.On() {
				s.replicas.SafeMode.Leave("an operator asked for it")
			}
		} else {
			s.replicas.SafeMode.Enter(true, "an operator asked for it")
		}
	default:
		return nil, fault.New(fault.Invalid, op, "action %d is not known", r.Action)
	}
	return &SafeModeResult{On: s.replicas.SafeMode.On(), Reason: s.replicas.SafeMode.Reason()}, nil
}

func format(s *State, r *Format) (any, *fault.Error) {
	if s.step.Txid != 0 {
		return nil, fault.New(fault.Exists, "format", "the log has %d records already", s.step.Txid)
	}
	id := r.ClusterID
	if id == "" {
		id = s.step.Random.ChunkID(s.step.Now).String()
	}
	if len(id) > limits.TextBytesMax {
		return nil, fault.New(fault.Invalid, "format", "the cluster id has %d bytes, at most %d are allowed", len(id), limits.TextBytesMax)
	}
	return s.log(&codec.FormatRecord{Prefix: s.ownPrefix(), ClusterID: id})
}

// becomeActive logs the epoch and starts to serve.
func becomeActive(s *State, r *BecomeActive) (any, *fault.Error) {
	const op = "become active"
	if s.clusterID == "" {
		return nil, fault.New(fault.NotActive, op, "the log is empty; format it first")
	}
	if r.Epoch <= s.epoch {
		return nil, fault.New(fault.Fenced, op, "epoch %d is not above the log's, %d", r.Epoch, s.epoch)
	}
	result, err := s.log(&codec.EpochRecord{Prefix: s.ownPrefix(), Epoch: r.Epoch})
	if err != nil {
		return nil, err
	}
	s.step.Active, s.step.ActiveSince = true, s.step.Mono
	s.leases.RenewAll(s.step.Mono)
	s.replicas.Activate()
	return result, nil
}

// tick drives everything that waits for time.
func tick(s *State) {
	s.replicas.CheckNodes()
	if !s.step.Active || s.replicas.SafeMode.On() {
		return
	}
	s.endLeases()
	s.continueRecoveries()
	s.replicas.Repair()
}
