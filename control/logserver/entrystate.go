package logserver

import (
	"fmt"

	"github.com/whispering-woods/ww/internal/fault"
)

// state is the replicated state machine: who may write, and where the log
// ends. It is a pure function of the entries, in order: every server, the
// verifier and every Tail that steps through the same entries agree on which
// of them were accepted.
type state struct {
	epoch    uint64 // highest acquired; 0 = none yet
	holder   string // who acquired it
	lastTxid uint64 // of the last accepted batch; 0 = none
}

// step applies one entry. It returns nil if the entry was accepted; else why
// not, and the state has not changed. Errors: fault.Fenced, fault.Gap,
// fault.Protocol.
func (s *state) step(e *entry) error {
	const op = "append to log"
	if e.kind == entryAcquire {
		s.epoch++
		s.holder = e.holder
		return nil
	}
	switch {
	case e.epoch < s.epoch:
		return s.fenced(e.epoch)
	case e.epoch > s.epoch:
		return fault.New(fault.Protocol, op, "epoch %d was never acquired, the highest is %d", e.epoch, s.epoch)
	case e.firstTxid != s.lastTxid+1:
		err := fault.New(fault.Gap, op, "the batch starts at txid %d, the log expects txid %d", e.firstTxid, s.lastTxid+1)
		err.Hint = "replay the log and append behind its last txid"
		return err
	}
	s.lastTxid = e.lastTxid()
	return nil
}

// fenced is the refusal of a lower epoch.
func (s *state) fenced(epoch uint64) error {
	return &fault.Error{Kind: fault.Fenced, Op: "append to log", Holder: s.holder,
		Reason: fmt.Sprintf("epoch %d ended, epoch %d is in force", epoch, s.epoch),
		Hint:   "another namenode took over: stop serving"}
}

// point is a known position: the state after the entry at raft index index.
type point struct {
	index    uint64
	epoch    uint64
	lastTxid uint64
}

// state gives the state at the point; the holder is not kept.
func (p point) state() state { return state{epoch: p.epoch, lastTxid: p.lastTxid} }
