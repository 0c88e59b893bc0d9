package entry

import (
	"fmt"

	"github.com/whispering-woods/ww/internal/fault"
)

// State is the replicated state machine: who may write, and where the log ends. It is a pure function of the
// entries, in order: every server, the verifier and every Tail that steps through the same entries agree on which
// of them were accepted.
type State struct {
	Epoch    uint64 // highest acquired; 0 = none yet
	Holder   string // who acquired it
	LastTxid uint64 // of the last accepted batch; 0 = none
}

// Step applies one entry. It returns nil if the entry was accepted; else why not, and the state has not changed.
// Errors: fault.Fenced, fault.Gap, fault.Protocol.
func (s *State) Step(next *Entry) error {
	const op = "append to log"
	if next.Kind == Acquire {
		s.Epoch++
		s.Holder = next.Holder
		return nil
	}
	switch {
	case next.Epoch < s.Epoch:
		return s.Fenced(next.Epoch)
	case next.Epoch > s.Epoch:
		return fault.New(fault.Protocol, op, "epoch %d was never acquired, the highest is %d", next.Epoch, s.Epoch)
	case next.FirstTxid != s.LastTxid+1:
		err := fault.New(fault.Gap, op, "the batch starts at txid %d, the log expects txid %d", next.FirstTxid,
			s.LastTxid+1)
		err.Hint = "replay the log and append behind its last txid"
		return err
	}
	s.LastTxid = next.LastTxid()
	return nil
}

// Fenced is the refusal of a lower epoch.
func (s *State) Fenced(epoch uint64) error {
	return &fault.Error{Kind: fault.Fenced, Op: "append to log", Holder: s.Holder,
		Reason: fmt.Sprintf("epoch %d ended, epoch %d is in force", epoch, s.Epoch),
		Hint:   "another namenode took over: stop serving"}
}

// Point is a known position: the state after the entry at raft index index.
type Point struct {
	Index    uint64
	Epoch    uint64
	LastTxid uint64
}

// State returns the state at the point; the holder is not kept.
func (p Point) State() State { return State{Epoch: p.Epoch, LastTxid: p.LastTxid} }
