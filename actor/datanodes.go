package actor

import (
	"cmp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

func session(nodeID string, number uint64) replicas.Session {
	return replicas.Session{NodeID: nodeID, Number: number}
}

func registerNode(state *State, request *RegisterNode) (any, *fault.Error) {
	const op = "register datanode"
	refuse := func(kind fault.Kind, hint, format string, args ...any) (any, *fault.Error) {
		e := fault.New(kind, op, format, args...)
		e.Node, e.Address, e.Hint = limits.Clip(request.NodeID, 64), limits.Clip(request.Address, 64), hint
		return nil, e
	}
	switch {
	case state.clusterID == "":
		return nil, notActive(op)
	case request.NodeID == "" || len(request.NodeID) > limits.TextBytesMax || !utf8.ValidString(request.NodeID):
		return refuse(fault.Invalid, "", "the node id has %d bytes or is not valid UTF-8, 1..%d bytes are allowed",
			len(request.NodeID), limits.TextBytesMax)
	case request.Address == "" || len(request.Address) > limits.TextBytesMax || !utf8.ValidString(request.Address):
		return refuse(fault.Invalid, "", "the address has %d bytes or is not valid UTF-8, 1..%d bytes are allowed",
			len(request.Address), limits.TextBytesMax)
	case len(request.Volumes) > limits.VolumesPerNodeMax:
		return refuse(fault.Invalid, "", "%s",
			limits.CheckCount("volumes", len(request.Volumes), limits.VolumesPerNodeMax))
	case request.ClusterID != "" && request.ClusterID != state.clusterID:
		return refuse(fault.Invalid,
			"the node belongs to another cluster: point it at that one's namenode, or give it empty disks",
			"the node is of cluster %q, this is cluster %q", limits.Clip(request.ClusterID, 64), state.clusterID)
	case request.HighestEpoch > state.epoch:
		return refuse(fault.Fenced, "a newer namenode is active; stop this one",
			"the node has seen epoch %d, this namenode has %d", request.HighestEpoch, state.epoch)
	case state.step.Active && request.HighestTxid > request.DurableTxid:
		return refuse(fault.Fenced, "this namenode's log lost its end; restore the log before any datanode may connect",
			"the node has seen txid %d, the log ends at %d", request.HighestTxid, request.DurableTxid)
	}
	nodes := &state.replicas.Nodes
	index := nodes.Find(request.NodeID)
	if index != 0 {
		if other, alive := nodes.Occupied(index, request.Address); alive {
			return refuse(fault.Exists, "two processes run on copies of one data directory: "+
				"stop one of them, and give it an empty directory",
				"another datanode is alive under this id, at %s; this one is at %s", other, request.Address)
		}
	}
	switch {
	case index == 0 && nodes.Next() > replicas.NodesMax:
		return refuse(fault.Busy, "", "%d datanodes are known, the limit", nodes.Next()-1)
	case index == 0 && !state.step.Active:
		return refuse(fault.NotActive, "register with the active namenode first",
			"the node is not known to this standby yet")
	case index == 0, state.step.Active && nodes.Address(index) != request.Address:
		if index == 0 {
			index = nodes.Next()
		}
		record := &codec.NodeRecord{Prefix: state.ownPrefix(), Index: index, ID: request.NodeID,
			Address: request.Address}
		if _, err := state.log(record); err != nil {
			return nil, err
		}
	}
	if err := remember(state, index); err != nil {
		return nil, err
	}
	if err := nameNode(state, index, request.Name); err != nil {
		return nil, err
	}
	nodes.Register(index, &replicas.Registration{Session: request.Session, Address: request.Address,
		Version: request.Version, Rack: request.Rack, AdminAddress: request.AdminAddress, Volumes: request.Volumes})
	state.effects.Reply.AfterTxid = state.step.Txid
	return &RegisterResult{ClusterID: state.clusterID}, nil
}

// remember logs that a forgotten datanode is there after all; a standby does so once it is active.
func remember(state *State, node datanode.Index) *fault.Error {
	if !state.step.Active || state.replicas.Duties.Of(node).Duty != datanode.DutyForgotten {
		return nil
	}
	_, err := state.log(&codec.NodeDutyRecord{Prefix: state.ownPrefix(), Index: node, Duty: datanode.DutyServe})
	return err
}

// nameNode logs the name that a datanode tells, if that is news: people know it by its name also while it is away.
func nameNode(state *State, node datanode.Index, name string) *fault.Error {
	name = strings.ToValidUTF8(limits.Clip(name, limits.TextBytesMax), "")
	if !state.step.Active || state.replicas.Names.Of(node) == name {
		return nil
	}
	_, err := state.log(&codec.NodeNameRecord{Prefix: state.ownPrefix(), Index: node, Name: name})
	return err
}

func nodeGone(s *State, r *NodeGone) *fault.Error {
	gone, err := s.replicas.Nodes.Disconnected(session(r.NodeID, r.Session))
	if err == nil {
		s.leases.PrimariesLost(func(node datanode.Index) bool { return node == gone }, s.step.Mono)
	}
	return err
}

func reportBadReplica(s *State, r *ReportBadReplica) (any, *fault.Error) {
	if !s.step.Active {
		return nil, notActive("report bad replica")
	}
	if r.Missing {
		s.replicas.Reports.Missing(r.Chunk, r.Generation, r.NodeID)
		return &ReportBadReplicaResult{}, nil
	}
	if err := s.replicas.Suspects.Report(r.Chunk, r.Generation, r.NodeID, r.Reason); err != nil {
		return nil, err
	}
	return &ReportBadReplicaResult{}, nil
}

// setDuty logs what an operator wants of a datanode. It also serves in safe mode, and asking twice changes nothing.
func setDuty(state *State, request *SetDuty) (any, *fault.Error) {
	const op = "change the duty of a datanode"
	refuse := func(kind fault.Kind, hint, format string, args ...any) (any, *fault.Error) {
		e := fault.New(kind, op, format, args...)
		e.Node, e.Hint = limits.Clip(request.NodeID, 64), hint
		return nil, e
	}
	nodes, duties := &state.replicas.Nodes, &state.replicas.Duties
	node := nodes.Find(request.NodeID)
	maintenance, forget := request.Duty == datanode.DutyMaintenance, request.Duty == datanode.DutyForgotten
	switch {
	case !state.step.Active:
		return nil, notActive(op)
	case node == 0, !forget && duties.Of(node).Duty == datanode.DutyForgotten:
		return refuse(fault.NotFound, "see the report for the datanodes that there are", "the datanode is not known")
	case request.Duty > datanode.DutyForgotten:
		return refuse(fault.Invalid, "", "duty %d is not known", request.Duty)
	case maintenance && (request.For < time.Second || request.For > MaintenanceMax):
		return refuse(fault.Invalid, "", "a maintenance of %v is not within 1s..%v", request.For, MaintenanceMax)
	case request.Duty == datanode.DutyDecommission && !nodes.OthersServe(node):
		return refuse(fault.TooFewNodes, "start another datanode first",
			"no other live datanode is in service: none could take its replicas")
	}
	if maintenance || duties.Of(node).Duty != request.Duty {
		if forget {
			if err := state.replicas.MayForget(op, node); err != nil {
				return nil, err
			}
		}
		record := &codec.NodeDutyRecord{Prefix: state.ownPrefix(), Index: node, Duty: request.Duty}
		if maintenance {
			record.Until = state.step.Now + request.For.Milliseconds()
		}
		if _, err := state.log(record); err != nil {
			return nil, err
		}
	}
	state.effects.Reply.AfterTxid = state.step.Txid
	return &SetDutyResult{Node: nodes.StatusOf(node)}, nil
}

// changeRepair changes the limits of the repair, if any is set, and tells of it. Nothing of it is durable.
func changeRepair(state *State, request *Repair) (any, *fault.Error) {
	const op = "repair"
	if !state.step.Active {
		return nil, notActive(op)
	}
	wanted := state.replicas.RepairLimits()
	wanted.Streams = cmp.Or(request.Streams, wanted.Streams)
	wanted.NodeStreams = cmp.Or(request.NodeStreams, wanted.NodeStreams)
	if request.Bandwidth != nil {
		wanted.Bandwidth = *request.Bandwidth
	}
	if wanted != state.replicas.RepairLimits() {
		if wrong := wanted.Check(); wrong != "" {
			return nil, fault.New(fault.Invalid, op, "%s", wrong)
		}
		state.replicas.LimitRepair(wanted)
	}
	state.effects.Reply.AfterTxid = state.step.Txid
	return &RepairResult{state.replicas.RepairStatus()}, nil
}

// changeBalance begins or stops a balance, and tells of it. Nothing of it is durable: a namenode that ends leaves
// nothing half done, and a new balance goes on from how full the datanodes are.
func changeBalance(state *State, request *Balance) (any, *fault.Error) {
	const op = "balance"
	balancer, wish := &state.replicas.Balancer, request.BalanceWish
	running, runs := balancer.Running()
	switch {
	case !state.step.Active:
		return nil, notActive(op)
	case request.Action < BalanceGet || request.Action > BalancePlan:
		return nil, fault.New(fault.Invalid, op, "action %d is not known", request.Action)
	case request.Action == BalanceStart || request.Action == BalancePlan:
		if wrong := wish.Check(); wrong != "" {
			return nil, fault.New(fault.Invalid, op, "%s", wrong)
		}
	}
	state.effects.Reply.AfterTxid = state.step.Txid
	switch {
	case request.Action == BalancePlan:
		return &BalanceResult{balancer.Plan(wish)}, nil
	case request.Action == BalanceStop:
		balancer.Stop()
	case request.Action == BalanceStart && !runs:
		balancer.Start(wish)
	case request.Action == BalanceStart && running != wish:
		return nil, where{op: op}.refuse(fault.Exists, "stop it first: `ww admin balance --stop`",
			"another balance runs, with a threshold of %g and %d bytes per second",
			running.Threshold, running.Bandwidth)
	}
	return &BalanceResult{balancer.Status()}, nil
}

func changeSafeMode(state *State, request *SafeMode) (any, *fault.Error) {
	const op, why = "safe mode", "an operator asked for it"
	safe := &state.replicas.SafeMode
	switch {
	case request.Action < SafeModeGet || request.Action > SafeModeLeave:
		return nil, fault.New(fault.Invalid, op, "action %d is not known", request.Action)
	case request.Action != SafeModeGet && !state.step.Active:
		return nil, notActive(op)
	case request.Action == SafeModeEnter:
		safe.Enter(true, why)
	case request.Action == SafeModeLeave && safe.On():
		safe.Leave(why)
	}
	return &SafeModeResult{On: safe.On(), Reason: safe.Reason()}, nil
}

func format(state *State, r *Format) (any, *fault.Error) {
	if state.step.Txid != 0 {
		return nil, fault.New(fault.Exists, "format", "the log has %d records already", state.step.Txid)
	}
	id := r.ClusterID
	if id == "" {
		id = state.step.Random.ChunkID(state.step.Now).String()
	}
	if len(id) > limits.TextBytesMax {
		return nil, fault.New(fault.Invalid, "format", "the cluster id has %d bytes, at most %d are allowed", len(id),
			limits.TextBytesMax)
	}
	return state.log(&codec.FormatRecord{Prefix: state.ownPrefix(), ClusterID: id})
}

// becomeActive logs the epoch and starts to serve.
func becomeActive(state *State, r *BecomeActive) (any, *fault.Error) {
	const op = "become active"
	if state.clusterID == "" {
		return nil, fault.New(fault.NotActive, op, "the log is empty; format it first")
	}
	if r.Epoch <= state.epoch {
		return nil, fault.New(fault.Fenced, op, "epoch %d is not above the log's, %d", r.Epoch, state.epoch)
	}
	result, err := state.log(&codec.EpochRecord{Prefix: state.ownPrefix(), Epoch: r.Epoch})
	if err != nil {
		return nil, err
	}
	state.step.Active, state.step.ActiveSince = true, state.step.Mono
	for _, node := range state.replicas.Returned() {
		if err := remember(state, node); err != nil {
			return nil, err
		}
	}
	state.leases.RenewAll(state.step.Mono)
	state.replicas.Activate()
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
	expireTrash(s)
	s.replicas.Repair()
}
