package machine

import (
	"sync/atomic"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// budget bounds the memory that write sessions take on this node: the sum of
// granted windows, and the number of sessions. Safe for concurrent use.
//
// Half of it is for wide windows, each an eighth of what is left of that half; the other half is kept for the smallest
// window, so that many writers get a narrow one each before any is refused. With 128 MiB, windows of at most 8 MiB and
// packets of 256 KiB: 8 MiB for the first, 1 MiB for about the 16th, then 256 KiB each, 290 sessions in all.
type budget struct {
	total, windowMax int64
	sessionsMax      int64
	granted          atomic.Int64
	sessions         atomic.Int64
}

func newBudget(l *Limits) *budget {
	return &budget{total: l.WindowBudgetBytes, windowMax: l.WindowBytes, sessionsMax: int64(l.SessionsMax)}
}

// grant takes a window of at most want bytes (0: no wish) for a new session, or
// reports that there is none. release gives it back.
func (b *budget) grant(want int64) (window int64, ok bool) {
	if b.sessions.Add(1) > b.sessionsMax {
		b.sessions.Add(-1)
		return 0, false
	}
	for {
		granted := b.granted.Load()
		window = min((b.total/2-granted)/8, b.windowMax)
		if want > 0 {
			window = min(window, want)
		}
		window = max(window/WindowMin*WindowMin, WindowMin) // whole packets of a bulk transfer
		if granted+window > b.total {
			b.sessions.Add(-1)
			return 0, false
		}
		if b.granted.CompareAndSwap(granted, granted+window) {
			return window, true
		}
	}
}

// shrink gives back what a session does not use of its window.
func (b *budget) shrink(by int64) { b.granted.Add(-by) }

// Load is what is taken now.
func (b *budget) Load() (sessions, bytes int64) { return b.sessions.Load(), b.granted.Load() }

// release ends a session that holds window.
func (b *budget) release(window int64) {
	b.granted.Add(-window)
	b.sessions.Add(-1)
}

// reserve takes bytes that belong to no session (queued requests).
func (b *budget) reserve(bytes int64) bool {
	if b.granted.Add(bytes) > b.total {
		b.granted.Add(-bytes)
		return false
	}
	return true
}

// lend reserves bytes for one record that is larger than its session's window.
// A quarter of the budget is not lent: new sessions find their narrow window.
func (b *budget) lend(bytes int64) bool {
	if b.granted.Add(bytes) > b.total-b.total/4 {
		b.granted.Add(-bytes)
		return false
	}
	return true
}

// windowWish is the most that a session can make use of.
func windowWish(o *wire.OpenWrite) int64 {
	left := o.ChunkSize - o.Offset
	if o.SizeHint > 0 {
		left = min(left, o.SizeHint)
	}
	wish := wire.WindowCost(int(left))
	if o.WindowBytes > 0 {
		wish = min(wish, o.WindowBytes)
	}
	return wish
}
