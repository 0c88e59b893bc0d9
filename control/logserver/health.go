package logserver

import (
	"sync"

	"github.com/whispering-woods/ww/internal/fault"
)

// health is the state of a server: whether it leads, has failed, has read damaged
// data, or is closing. Safe for concurrent use.
type health struct {
	stopping chan struct{} // closed by Close: streams and watchers end
	failed   chan struct{} // closed when failure is set
	done     chan struct{} // closed when the server ended, by itself or by Close

	mu struct {
		sync.Mutex
		leads bool // raft leads, and everything committed before is applied
		// failure is why this server must never serve again: a failed write, a committed entry that cannot be read.
		failure error
		damage  error // a read found damage; the server continues but is not ready
		rot     error // what the last scrub has found; the server serves what it can read
		ended   bool  // done is closed
		closing bool  // stopping is closed
	}
}

func newHealth() *health {
	return &health{stopping: make(chan struct{}), failed: make(chan struct{}), done: make(chan struct{})}
}

// fail notes the first failure; false if there is one already, or the server is closing.
func (h *health) fail(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.failure != nil || h.mu.closing {
		return false
	}
	h.mu.failure, h.mu.leads = err, false
	close(h.failed)
	return true
}

// damaged notes that a read found damage; false if one did before.
func (h *health) damaged(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.damage != nil {
		return false
	}
	h.mu.damage = err
	return true
}

// scrubbed notes what a scrub has found; nil: all is good.
func (h *health) scrubbed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.rot = err
}

// rot is what the last scrub has found.
func (h *health) rot() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.rot
}

// leadsNow notes whether this server leads; a failed one never does.
func (h *health) leadsNow(leads bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.leads = leads && h.mu.failure == nil
}

// close notes that the server is stopping, and reports whether it led until then.
func (h *health) close() (led bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.closing = true
	close(h.stopping)
	return h.mu.leads
}

// end closes done once.
func (h *health) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.mu.ended {
		h.mu.ended = true
		close(h.done)
	}
}

// leading reports whether this server leads and has applied all that is committed.
func (h *health) leading() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.leads
}

// failure is why this server must never serve again; nil if nothing is.
func (h *health) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.failure
}

// refusal is why no call can be served; nil if calls can be.
func (h *health) refusal() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.failure == nil && h.mu.closing {
		return fault.New(fault.Closed, "log server", "the log server is stopping")
	}
	return h.mu.failure
}

// unready is why the server is not ready although it may know a leader; nil if only that counts.
func (h *health) unready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.mu.closing:
		return fault.New(fault.Closed, "log server", "stopping")
	case h.mu.failure != nil:
		return h.mu.failure
	}
	return h.mu.damage
}
