package replicas

import (
	"fmt"
	"time"

	"github.com/whispering-woods/ww/actor/step"
)

// SafeMode refuses mutations, deletions and repairs until enough chunks have a reported replica. Ephemeral.
type SafeMode struct {
	room   *Replicas
	on     bool
	byHand bool // an operator entered it; only an operator ends it
	ended  time.Duration
}

// On reports whether it is on.
func (s *SafeMode) On() bool { return s.on }

// need is how many sealed chunks must be located.
func (s *SafeMode) need() uint64 {
	return (s.room.files.Sealed()*uint64(s.room.config.SafeModeShare) + 999) / 1000
}

// Reason says why it is on, with the numbers.
func (s *SafeMode) Reason() string {
	switch {
	case !s.room.step.Active:
		return "the namenode is not active"
	case !s.on:
		return ""
	case s.byHand:
		return "an operator asked for it"
	}
	registered, reported := s.room.Nodes.counts()
	return fmt.Sprintf("%d of %d chunks have a reported replica, %d are needed; "+
		"%d of %d datanodes are registered, %d have reported",
		s.room.locations.count(), s.room.files.Sealed(), s.need(), registered, len(s.room.Nodes.all()), reported)
}

// Enter begins it.
func (s *SafeMode) Enter(byHand bool, why string) {
	s.on, s.byHand, s.ended = true, byHand, 0
	s.room.step.Emit(step.Event{Kind: step.EventSafeModeEntered, Text: why})
}

// Leave ends it.
func (s *SafeMode) Leave(why string) {
	s.on, s.byHand, s.ended = false, false, s.room.step.Mono
	s.room.step.Emit(step.Event{Kind: step.EventSafeModeLeft, Count: int(s.room.locations.count()), Text: why})
}

// maybeLeave ends it when enough chunks are located.
func (s *SafeMode) maybeLeave() {
	if s.room.step.Active && s.on && !s.byHand && s.room.locations.count() >= s.need() {
		s.Leave("enough chunks are reported")
	}
}

// repairs reports whether copies may be ordered: nodes that are slow to come back have had time for it.
func (s *SafeMode) repairs() bool { return !s.on && s.graceLeft() <= 0 }

// graceLeft is how long copies wait after its end.
func (s *SafeMode) graceLeft() time.Duration {
	return s.room.config.RepairGrace - (s.room.step.Mono - s.ended)
}
