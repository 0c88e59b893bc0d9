package client

import (
	"errors"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
)

// readAcks takes acks until the session finished or failed.
func (s *session) readAcks() {
	defer close(s.ended)
	for {
		done, err := s.readAck()
		if err != nil {
			var p *pipelineError
			if !errors.As(err, &p) {
				p = s.lost(err)
			}
			_ = s.fail(p)
			return
		}
		if done {
			return
		}
	}
}

// readAck takes one OpenAck, Ack or Error; done: the session is over in order.
func (s *session) readAck() (done bool, err error) {
	h, payload, err := s.conn.packets.Next()
	if err != nil {
		return false, err
	}
	switch h.Op {
	case wire.OpOpenAck:
		var ack wire.OpenAck
		if err := wire.DecodeBody(payload, &ack); err != nil {
			return false, err
		}
		if err := s.blame("open write", ack.Hops); err != nil {
			return false, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.opened {
			return false, fault.New(fault.Protocol, "write chunk", "a second open ack")
		}
		s.mu.opened, s.mu.window = true, min(ack.WindowBytes, s.client.options.WindowBytes)
		if len(s.mu.inflight) == 0 && s.mu.err == nil {
			_ = s.conn.net.SetReadDeadline(time.Time{}) // nothing is owed
		}
		for _, p := range s.mu.inflight { // the one that came with the open
			p.sent = time.Now()
		}
		s.changedLocked()
		return false, nil
	case wire.OpAck:
		ack := &s.ack
		if err := wire.DecodeAck(payload, ack); err != nil {
			return false, err
		}
		if err := s.blame("write chunk", ack.Hops); err != nil {
			return false, err
		}
		return s.take(ack)
	case wire.OpError:
		var status wire.Status
		if err := wire.DecodeBody(payload, &status); err != nil {
			return false, err
		}
		hop := wire.HopStatus{NodeID: status.NodeID, Code: status.Code, Reason: status.Reason}
		if hop.NodeID == "" {
			hop.NodeID = s.target.hops[0].NodeID
		}
		if err := s.blame("write chunk", []wire.HopStatus{hop}); err != nil {
			return false, err
		}
	}
	return false, fault.New(fault.Protocol, "write chunk", "got op %d in a write session", h.Op)
}

// take handles an ack without errors: the packets up to its seqno are done. An
// ack that repeats the last seqno is a report of what the oldest one waits for.
func (s *session) take(ack *wire.Ack) (done bool, err error) {
	s.mu.Lock()
	if !s.mu.opened || ack.Seqno < s.mu.acked || ack.Seqno > s.mu.sent {
		defer s.mu.Unlock()
		return false, fault.New(fault.Protocol, "write chunk", "ack %d, but %d are acked and %d sent", ack.Seqno, s.mu.acked, s.mu.sent)
	}
	if s.mu.closed {
		s.mu.Unlock()
		return true, nil // the packets are the owner's again
	}
	var bytes int64
	var oldest time.Time
	now := time.Now()
	for s.mu.acked < ack.Seqno {
		p := s.mu.inflight[0]
		invariants.Assert(p.seqno == s.mu.acked+1, "packet %d is first in flight after ack %d", p.seqno, s.mu.acked)
		s.mu.inflight[0] = nil
		s.mu.inflight = s.mu.inflight[1:]
		s.mu.acked++
		s.mu.cost -= wire.WindowCost(p.size)
		s.mu.length = p.end()
		if p.flags != 0 {
			s.mu.synced = p.end()
		}
		bytes += int64(p.size)
		if oldest.IsZero() || p.sent.Before(oldest) {
			oldest = p.sent
		}
		if p.flags&(wire.FlagSeal|wire.FlagClose) != 0 {
			done = true
			for _, hop := range ack.Hops {
				s.mu.sealed = append(s.mu.sealed, hop.NodeID)
			}
		}
		p.release()
	}
	if len(s.mu.inflight) == 0 {
		s.mu.inflight = s.mu.spare
	}
	if s.mu.err == nil {
		deadline := time.Time{} // nothing is owed
		if len(s.mu.inflight) > 0 {
			deadline = now.Add(s.client.options.DataTimeout)
		}
		_ = s.conn.net.SetReadDeadline(deadline) // a dead socket shows at the next read
	}
	report := oldest.IsZero()
	if report && len(s.mu.inflight) > 0 {
		oldest = s.mu.inflight[0].sent
	}
	s.measureLocked(now.Sub(oldest), bytes, ack.Hops)
	s.mu.Unlock()
	if report {
		return false, nil
	}
	if s.onAcked != nil && bytes > 0 {
		s.onAcked(bytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.finished = done
	s.mu.waiters.wake(s.mu.acked)
	s.changedLocked()
	return done, nil
}

// blame makes an error of the hops that report one.
func (s *session) blame(op string, hops []wire.HopStatus) error {
	var failed []hopFailure
	for _, status := range hops {
		if status.Code == 0 {
			continue
		}
		hop := wire.Hop{NodeID: status.NodeID}
		for _, h := range s.target.hops {
			if h.NodeID == status.NodeID {
				hop = h
			}
		}
		failed = append(failed, hopFailure{hop: hop, err: &fault.Error{Kind: fault.Kind(status.Code), Op: op, Chunk: s.target.id.String(),
			Node: hop.NodeID, Address: hop.Address, Reason: status.Reason}})
	}
	if failed == nil {
		if len(hops) != len(s.target.hops) {
			return fault.New(fault.Protocol, op, "an ack of %d hops for a pipeline of %d", len(hops), len(s.target.hops))
		}
		return nil
	}
	return &pipelineError{failed: failed, err: failed[0].err}
}
