package actor

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/queue"
)

// safeMode refuses mutations, deletions and repairs until enough chunks have a
// reported replica. Ephemeral.
type safeMode struct {
	on bool
	// byHand: an operator entered it; only an operator ends it.
	byHand bool
	// left is when it ended.
	left time.Duration
}

// safeModeNeed is how many sealed chunks must be located.
func (s *State) safeModeNeed() uint64 {
	return (s.files.Sealed()*uint64(s.config.SafeModeShare) + 999) / 1000
}

func (s *State) safeModeReason() string {
	switch {
	case !s.step.Active:
		return "the namenode is not active"
	case !s.safe.on:
		return ""
	case s.safe.byHand:
		return "an operator asked for it"
	}
	registered, reported := 0, 0
	for _, n := range s.nodes[1:] {
		if n.connected {
			registered++
		}
		if n.reported {
			reported++
		}
	}
	return fmt.Sprintf("%d of %d chunks have a reported replica, %d are needed; %d of %d datanodes are registered, %d have reported",
		s.located, s.files.Sealed(), s.safeModeNeed(), registered, len(s.nodes)-1, reported)
}

// maybeLeaveSafeMode ends safe mode when enough chunks are located.
func (s *State) maybeLeaveSafeMode() {
	if s.step.Active && s.safe.on && !s.safe.byHand && s.located >= s.safeModeNeed() {
		s.leaveSafeMode("enough chunks are reported")
	}
}

func (s *State) leaveSafeMode(why string) {
	s.safe = safeMode{left: s.step.Mono}
	s.step.Tell(step.Event{Kind: step.EventSafeModeLeft, Count: int(s.located), Text: why})
}

func (s *State) changeSafeMode(r *SafeMode) (any, *fault.Error) {
	const op = "safe mode"
	switch r.Action {
	case SafeModeGet:
	case SafeModeEnter, SafeModeLeave:
		if !s.step.Active {
			return nil, s.notActive(op)
		}
		if r.Action == SafeModeLeave {
			if s.safe.on {
				s.leaveSafeMode("an operator asked for it")
			}
		} else {
			s.safe = safeMode{on: true, byHand: true}
			s.step.Tell(step.Event{Kind: step.EventSafeModeEntered, Text: "an operator asked for it"})
		}
	default:
		return nil, fault.New(fault.Invalid, op, "action %d is not known", r.Action)
	}
	return &SafeModeResult{On: s.safe.on, Reason: s.safeModeReason()}, nil
}

// becomeActive logs the epoch and starts to serve.
func (s *State) becomeActive(r *BecomeActive) (any, *fault.Error) {
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
	for _, n := range s.nodes[1:] {
		n.reported, n.report = false, nil
		if n.connected {
			s.step.Send(n.id, &datanode.SendReport{})
		} else {
			s.setLiveness(n, nodeDead)
			n.died = s.step.Mono
		}
	}
	s.watchAllOdd()
	s.sweep.restart(s.files.Limit())
	s.safe = safeMode{on: true}
	s.step.Tell(step.Event{Kind: step.EventSafeModeEntered, Text: "the namenode became active"})
	return result, nil
}

// watchAllOdd begins every grace anew: what a standby saw may be older than the
// log that it has replayed since.
func (s *State) watchAllOdd() {
	s.oddQueue, s.blamedQueue = queue.FIFO[oddCheck]{}, queue.FIFO[oddCheck]{}
	ids := make([]chunk.ID, 0, len(s.odd))
	for id := range s.odd {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b chunk.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		for i := range s.odd[id] {
			s.odd[id][i].since = s.step.Mono
			s.watchOdd(id, &s.odd[id][i])
		}
	}
}
