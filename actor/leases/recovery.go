package leases

import (
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Recovery is the namenode's work on a file whose lease it has. Ephemeral.
type Recovery struct {
	attempt Attempt       // zero if none is under way
	next    time.Duration // when another attempt may start
	started int
	// settling is since when all chunks are sealed, and copied to more nodes before the file is closed; 0: not yet.
	settling time.Duration
}

// Attempt is the order to bring an open chunk to one length.
type Attempt struct {
	Chunk      namespace.ChunkSlot
	Generation chunk.Generation
	Primary    datanode.Index // node that leads it
	Everyone   bool           // all members are asked, since nobody reported a replica
}

// Due reports whether another attempt may start.
func (r *Recovery) Due(now time.Duration) bool { return r.next <= now }

// UnderWay reports whether an attempt is.
func (r *Recovery) UnderWay() bool { return r.attempt.Chunk != 0 }

// Attempt is the one under way; zero if there is none.
func (r *Recovery) Attempt() Attempt { return r.attempt }

// Started counts the attempts.
func (r *Recovery) Started() int { return r.started }

// Start notes an attempt that may take until a time.
func (r *Recovery) Start(a Attempt, deadline time.Duration) {
	r.attempt, r.next = a, deadline
	r.started++
}

// Stop ends the attempt under way; another may start at a time.
func (r *Recovery) Stop(next time.Duration) { r.attempt, r.next = Attempt{}, next }

// Settling notes that only copies are waited for, and returns for how long they have been.
func (r *Recovery) Settling(now time.Duration) time.Duration {
	if r.settling == 0 {
		r.settling = now
	}
	return now - r.settling
}

// Expire allows another attempt to start at once; until then the answer of the one under way still counts.
func (r *Recovery) Expire(now time.Duration) { r.next = now }
