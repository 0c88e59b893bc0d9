// Package lifetime bounds everything that a client runs by the client itself: its background goroutines, and the
// contexts of its operations. Closing the Lifetime ends and awaits them all.
//
// It owns the count of goroutines and the context that they share; the goroutines themselves belong to those who start
// them. It knows nothing of what runs.
package lifetime

import (
	"context"
	"errors"
	"sync"

	"github.com/whispering-woods/ww/internal/fault"
)

// ErrClosed is the error of whatever the end of the client interrupted.
var ErrClosed = fault.New(fault.Closed, "client", "the client was closed")

// Lifetime is the time from Dial to Close of one client. Safe for concurrent use.
type Lifetime struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	mu     struct {
		sync.Mutex
		closed bool
	}
	running sync.WaitGroup // goroutines; none is added once closed is set
}

// New begins a lifetime.
func New() *Lifetime {
	l := &Lifetime{}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// Context ends when the client closes.
func (l *Lifetime) Context() context.Context { return l.ctx }

// Close ends all contexts and waits for all goroutines. It reports false, without waiting, if the lifetime was closed
// before.
func (l *Lifetime) Close() bool {
	l.mu.Lock()
	already := l.mu.closed
	l.mu.closed = true
	l.mu.Unlock()
	if already {
		return false
	}
	l.cancel(ErrClosed)
	l.running.Wait()
	return true
}

// Start runs f on a goroutine that Close waits for; false if the client is closed.
func (l *Lifetime) Start(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return false
	}
	l.running.Go(f)
	return true
}

// Scope derives the context of one operation: it also ends when the client closes. The caller must call the returned
// function.
func (l *Lifetime) Scope(ctx context.Context) (context.Context, context.CancelFunc) {
	return Join(ctx, l.ctx)
}

// Join derives a context that also ends, with the same cause, when the second one does. The caller must call the
// returned function.
func Join(ctx, life context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Ended is the error of an operation whose context ended: fault.Closed when cancelled, fault.Unavailable when out of
// time. last is the failure that was being retried, if any.
func Ended(ctx context.Context, op, path string, last error) error {
	cause := ctx.Err()
	e := &fault.Error{Kind: fault.Closed, Op: op, Path: path, Reason: "cancelled by the caller", Err: cause}
	switch {
	case errors.Is(context.Cause(ctx), ErrClosed):
		e.Reason, e.Err = ErrClosed.Reason, nil
	case cause == context.DeadlineExceeded:
		e.Kind, e.Reason = fault.Unavailable, "out of time"
	}
	if last != nil {
		e.Reason += ", after: " + last.Error()
	}
	return e
}
