package actor

import (
	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
)

// dispatch runs a command's handler. Mutations of clients pass through mutate.
func (s *State) dispatch(request Request) (any, *fault.Error) {
	switch request := request.(type) {
	case *Mkdir:
		return mutate(s, "mkdir", request, mkdir)
	case *Create:
		return mutate(s, "create", request, create)
	case *AddChunks:
		return mutate(s, "add chunks", request, addChunks)
	case *Complete:
		return mutate(s, "complete", request, complete)
	case *Abandon:
		return mutate(s, "abandon", request, abandon)
	case *Append:
		return mutate(s, "append", request, openForAppend)
	case *RecoverPipeline:
		return mutate(s, "recover pipeline", request, recoverPipeline)
	case *UpdatePipeline:
		return mutate(s, "update pipeline", request, updatePipeline)
	case *Rename:
		return mutate(s, "rename", request, rename)
	case *Remove:
		return mutate(s, "remove", request, remove)
	case *RecoverLease:
		return mutate(s, "recover lease", request, recoverLease)
	case *SetReplication:
		return mutate(s, "set replication", request, setReplication)
	case *Truncate:
		return mutate(s, "truncate", request, truncate)
	case *List:
		return list(s, request)
	case *Stat:
		return stat(s, request)
	case *Locate:
		return locate(s, request)
	case *Summary:
		return summary(s, request)
	case *Fsck:
		return fsck(s, request)
	case *Why:
		return why(s, request)
	case *RenewLeases:
		return renewLeases(s, request)
	case *ReportBadReplica:
		return reportBadReplica(s, request)
	case *ClusterStatus:
		return clusterStatus(s)
	case *Balance:
		return changeBalance(s, request)
	case *Repair:
		return changeRepair(s, request)
	case *SafeMode:
		return changeSafeMode(s, request)
	case *SetDuty:
		return setDuty(s, request)
	case *Format:
		return format(s, request)
	case *BecomeActive:
		return becomeActive(s, request)
	case *StepDown:
		s.step.Active = false
		return nil, nil
	case *RegisterNode:
		return registerNode(s, request)
	case *Heartbeat:
		return nil, s.replicas.Nodes.Heartbeat(session(request.NodeID, request.Session), request.Volumes, request.Load)
	case *NodeGone:
		return nil, nodeGone(s, request)
	case *ReportPage:
		return nil, s.replicas.Reports.Page(session(request.NodeID, request.Session),
			replicas.Page{ReportID: request.ReportID, Number: request.Page, Last: request.Last,
				Replicas: request.Replicas})
	case *Delta:
		return nil, s.replicas.Reports.Delta(session(request.NodeID, request.Session), request.Stored, request.Removed)
	case *RecoverResult:
		return nil, recoverResult(s, request)
	case *CopyResult:
		return nil, s.replicas.Copied(session(request.NodeID, request.Session), &request.CopyResult)
	case *VerifyResult:
		return nil, s.replicas.Suspects.Verified(session(request.NodeID, request.Session), &request.VerifyResult)
	case *Continue:
		s.replicas.Backlog.GoOn()
		return nil, nil
	case *Tick:
		tick(s)
		return nil, nil
	}
	return nil, fault.New(fault.Internal, "step", "request %T is not known", request)
}

// mutate holds what all mutations of clients share: only an active namenode
// serves them, a retry gets the first answer, safe mode refuses the rest.
func mutate[R Request](state *State, op string, request R, handler func(*State, R) (any, *fault.Error)) (any,
	*fault.Error) {
	if !state.step.Active {
		return nil, notActive(op)
	}
	command := state.command
	if command.Client == (ClientID{}) || command.Sequence == 0 {
		return nil, fault.New(fault.Invalid, op, "the mutation header has no client id or sequence")
	}
	result, found, forgotten := state.answers.Lookup(command.Client, command.Sequence)
	if found {
		state.effects.Reply.AfterTxid = state.step.Txid
		return result, nil
	}
	if forgotten {
		return nil, fault.New(fault.Invalid, op,
			"sequence %d was given up by the client (oldest pending), its answer is forgotten", command.Sequence)
	}
	if state.replicas.SafeMode.On() {
		return nil, where{op: op}.refuse(fault.SafeMode,
			"try again when the datanodes have reported, or end safe mode by hand",
			"the namenode is in safe mode: %s", state.replicas.SafeMode.Reason())
	}
	state.leases.Renew(command.Client, state.step.Mono)
	// What a mutation found, or left as it was, may not be durable yet.
	state.effects.Reply.AfterTxid = state.step.Txid
	return handler(state, request)
}

// where is what a refusal names: the operation and the path.
type where struct{ op, path string }

// refuse makes an error that says why, and what may help.
func (w where) refuse(kind fault.Kind, hint, format string, args ...any) *fault.Error {
	e := fault.New(kind, w.op, format, args...)
	e.Path, e.Hint = w.path, hint
	return e
}

// refuseChunk is refuse for one chunk of the file.
func (w where) refuseChunk(kind fault.Kind, id chunk.ID, hint, format string, args ...any) *fault.Error {
	e := w.refuse(kind, hint, format, args...)
	e.Chunk = id.String()
	return e
}

func notActive(op string) *fault.Error {
	return where{op: op}.refuse(fault.NotActive, "ask another namenode", "this namenode is not active")
}

// prefix begins a record for the command's client.
func (s *State) prefix() codec.Prefix {
	return codec.Prefix{Version: codec.Version, Head: codec.Header{Time: s.step.Now, Client: s.command.Client,
		Sequence: s.command.Sequence, Oldest: s.command.OldestPending}}
}

// ownPrefix begins a record of the namenode's own.
func (s *State) ownPrefix() codec.Prefix {
	return codec.Prefix{Version: codec.Version, Head: codec.Header{Time: s.step.Now}}
}

// log makes a record durable (as an effect) and applies it. Handlers validate
// first, so a record that does not apply is a bug.
func (s *State) log(r codec.Record) (any, *fault.Error) {
	frame, err := s.encoder.Record(r)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "log", Reason: "the request makes too large a record",
			Err: err}
	}
	result, err := s.applyRecord(r)
	invariants.Assert(err == nil, "record kind %d that was just validated does not apply: %v", r.Kind(), err)
	s.effects.Records = append(s.effects.Records, frame)
	s.effects.Reply.AfterTxid = s.step.Txid
	return result, nil
}
