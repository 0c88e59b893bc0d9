package namenode

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/invariants"
)

// sequences numbers the client's mutations, so that the namenode can tell a retry from a new request. Safe for
// concurrent use.
//
// Invariant: oldest <= every pending sequence < next, and len(pending) <= mutationsMax, so the namenode's 1,024
// remembered results per client always hold those of all mutations that can still be retried.
type sequences struct {
	client uuid.UUID
	slots  chan struct{}
	mu     struct {
		sync.Mutex
		next    uint64
		oldest  uint64
		pending map[uint64]struct{}
	}
}

func newSequences(client uuid.UUID) *sequences {
	s := &sequences{client: client, slots: make(chan struct{}, mutationsMax)}
	s.mu.next, s.mu.oldest = 1, 1
	s.mu.pending = make(map[uint64]struct{})
	return s
}

// begin numbers a new mutation; it waits while mutationsMax are running. The caller must end it.
func (s *sequences) begin(ctx context.Context) (uint64, error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sequence := s.mu.next
	s.mu.next++
	s.mu.pending[sequence] = struct{}{}
	return sequence, nil
}

// end says that the mutation will not be tried again.
func (s *sequences) end(sequence uint64) {
	s.mu.Lock()
	_, ok := s.mu.pending[sequence]
	invariants.Assert(ok, "mutation %d ended twice", sequence)
	delete(s.mu.pending, sequence)
	for s.mu.oldest < s.mu.next {
		if _, waits := s.mu.pending[s.mu.oldest]; waits {
			break
		}
		s.mu.oldest++
	}
	s.mu.Unlock()
	<-s.slots
}

// fill makes the header of one attempt of a running mutation.
func (s *sequences) fill(header *controlpb.MutationHeader, sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	invariants.Assert(s.mu.oldest <= sequence, "mutation %d is older than the oldest pending %d", sequence, s.mu.oldest)
	header.ClientId, header.Sequence, header.OldestPending = s.client[:], sequence, s.mu.oldest
}
