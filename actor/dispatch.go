package actor

import (
	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
	"github.com/whispering-woods/ww/internal/limits"
)

// dispatch runs a command's handler. Mutations of clients pass through mutate.
func (s *State) dispatch(request Request) (any, *fault.Error) {
	switch r := request.(type) {
	case *Mkdir:
		return mutate(s, "mkdir", r, mkdir)
	case *Create:
		return mutate(s, "create", r, create)
	case *AddChunks:
		return mutate(s, "add chunks", r, addChunks)
	case *Complete:
		return mutate(s, "complete", r, complete)
	case *Abandon:
		return mutate(s, "abandon", r, abandon)
	case *Append:
		return mutate(s, "append", r, openForAppend)
	case *RecoverPipeline:
		return mutate(s, "recover pipeline", r, recoverPipeline)
	case *UpdatePipeline:
		return mutate(s, "update pipeline", r, updatePipeline)
	case *Rename:
		return mutate(s, "rename", r, rename)
	case *Remove:
		return mutate(s, "remove", r, remove)
	case *RecoverLease:
		return mutate(s, "recover lease", r, recoverLease)
	case *Truncate:
		return mutate(s, "truncate", r, truncate)
	case *List:
		return list(s, r)
	case *Stat:
		return stat(s, r)
	case *Locate:
		return locate(s, r)
	case *Summary:
		return summary(s, r)
	case *RenewLeases:
		return renewLeases(s, r)
	case *ReportBadReplica:
		return reportBadReplica(s, r)
	case *ClusterStatus:
		return clusterStatus(s)
	case *SafeMode:
		return changeSafeMode(s, r)
	case *Format:
		return format(s, r)
	case *BecomeActive:
		return becomeActive(s, r)
	case *StepDown:
		s.step.Active = false
		return nil, nil
	case *RegisterNode:
		return registerNode(s, r)
	case *Heartbeat:
		return nil, s.replicas.Nodes.Heartbeat(session(r.NodeID, r.Session), r.Volumes, r.Load)
	case *NodeGone:
		return nil, nodeGone(s, r)
	case *ReportPage:
		return nil, s.replicas.Reports.Page(session(r.NodeID, r.Session), replicas.Page{ReportID: r.ReportID, Number: r.Page, Last: r.Last, Replicas: r.Replicas})
	case *Delta:
		return nil, s.replicas.Reports.Delta(session(r.NodeID, r.Session), r.Stored, r.Removed)
	case *RecoverResult:
		return nil, recoverResult(s, r)
	case *VerifyResult:
		return nil, s.replicas.Suspects.Verified(session(r.NodeID, r.Session), &r.VerifyResult)
	case *Tick:
		tick(s)
		return nil, nil
	}
	return nil, fault.New(fault.Internal, "step", "request %T is not known", request)
}

// mutate holds what all mutations of clients share: only an active namenode
// serves them, a retry gets the first answer, safe mode refuses the rest.
func mutate[R Request](s *State, op string, request R, handler func(*State, R) (any, *fault.Error)) (any, *fault.Error) {
	if !s.step.Active {
		return nil, notActive(op)
	}
	c := s.command
	if c.Client == (ClientID{}) || c.Sequence == 0 {
		return nil, fault.New(fault.Invalid, op, "the mutation header has no client id or sequence")
	}
	result, found, forgotten := s.answers.Lookup(c.Client, c.Sequence)
	if found {
		s.effects.Reply.AfterTxid = s.step.Txid
		return result, nil
	}
	if forgotten {
		return nil, fault.New(fault.Invalid, op, "sequence %d was given up by the client (oldest pending), its answer is forgotten", c.Sequence)
	}
	if s.replicas.SafeMode.On() {
		return nil, where{op: op}.refuse(fault.SafeMode, "try again when the datanodes have reported, or end safe mode by hand",
			"the namenode is in safe mode: %s", s.replicas.SafeMode.Reason())
	}
	s.leases.Renew(c.Client, s.step.Mono)
	// What a mutation found, or left as it was, may not be durable yet.
	s.effects.Reply.AfterTxid = s.step.Txid
	return handler(s, request)
}

// where is what a refusal names: the operation and the path.
type where struct{ op, path string }

// refuse makes an error that says why, and what may help.
func (w where) refuse(kind fault.Kind, hint, format string, args ...any) *fault.Error {
	e := fault.New(kind, w.op, format, args...)
	e.Path, e.Hint = w.path, hint
	return e
}

// tooMany refuses a list that is too long.
func (w where) tooMany(what string, count, most int) *fault.Error {
	return w.refuse(fault.Invalid, "", "%s", limits.CheckCount(what, count, most))
}

// notActive refuses what only the active namenode does.
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
		return nil, &fault.Error{Kind: fault.Invalid, Op: "log", Reason: "the request makes too large a record", Err: err}
	}
	result, err := s.applyRecord(r)
	invariants.Assert(err == nil, "record kind %d that was just validated does not apply: %v", r.Kind(), err)
	s.effects.Records = append(s.effects.Records, frame)
	s.effects.Reply.AfterTxid = s.step.Txid
	return result, nil
}
