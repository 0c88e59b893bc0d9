package logserver

import (
	"github.com/whispering-woods/ww/internal/fault"
)

// fail ends this server's service for good. It returns only after nothing can
// leave for the peers any more; it may run on any goroutine of raft, also while
// Start is still busy. watchLeadership does the rest.
func (s *Server) fail(err error) {
	s.mu.Lock()
	if s.mu.failure != nil || s.mu.closing {
		s.mu.Unlock()
		return
	}
	s.mu.failure = err
	s.mu.leading = false
	close(s.failed)
	s.mu.Unlock()
	s.o.Logger.Error("log server failed and serves no more; it must be started again", "node", s.o.NodeID, "err", err)
	s.transport.cut()
	s.grpc.SetServing(false)
}

// damaged remembers that a read met damage.
func (s *Server) damaged(err error) {
	s.mu.Lock()
	first := s.mu.damage == nil
	if first {
		s.mu.damage = err
	}
	s.mu.Unlock()
	if first {
		s.o.Logger.Error("the log is damaged", "node", s.o.NodeID, "err", err)
		s.grpc.SetServing(false)
	}
}

// end closes done once.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.ended {
		s.mu.ended = true
		close(s.done)
	}
}

// Ready is nil while this server serves: it leads, or follows a leader, its
// disk took every write, and no read met damage. Else it says why not.
func (s *Server) Ready() error {
	s.mu.Lock()
	leading, failure, damage, closing := s.mu.leading, s.mu.failure, s.mu.damage, s.mu.closing
	s.mu.Unlock()
	switch {
	case closing:
		return fault.New(fault.Closed, "log server", "stopping")
	case failure != nil:
		return failure
	case damage != nil:
		return damage
	case leading:
		return nil
	}
	_, leader := s.raft.LeaderWithID()
	if leader == "" || string(leader) == s.o.NodeID {
		return fault.New(fault.NotActive, "log server", "no leader is elected yet")
	}
	return nil
}

// Done is closed when the server ended: by Close, or by itself (see Err).
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended by itself: a disk error on a server without
// peers. nil while it runs and after an orderly Close. The caller still calls
// Close, and exits non-zero.
func (s *Server) Err() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.failure
}

// leading tells whether this server leads and knows all that is committed.
func (s *Server) leading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.leading && s.mu.failure == nil
}

// refusal is why no call can be served; nil if calls can be.
func (s *Server) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusalLocked()
}

func (s *Server) refusalLocked() error {
	if s.mu.failure != nil {
		return s.mu.failure
	}
	if s.mu.closing {
		return fault.New(fault.Closed, "log server", "the log server is stopping")
	}
	return nil
}
