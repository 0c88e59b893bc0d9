// Package daemon assembles the processes of Whispering Woods from their configuration: StartLogServer,
// StartNamenode, StartDatanode, and StartMini, which runs all of them in one process.
//
// Each Start returns a Daemon that owns its parts and stops them in the right order: what answers for bytes goes
// before what stores them. The goroutines are those of the parts, and one per Daemon that waits for a part to end
// by itself. The package reads no environment and handles no signal.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
)

// Version is the version of this program, as peers and people see it.
const Version = "0.1.0-dev"

// readyPoll is how often a state is looked at that nobody announces.
const readyPoll = 10 * time.Millisecond

// Daemon is a running daemon. Safe for concurrent use.
type Daemon struct {
	// Name is the verb that runs it: "namenode".
	Name string

	logger    *slog.Logger
	admin     string // the admin address, of this daemon or of the cluster that it is part of; "" if there is none
	addresses map[string]string
	ready     func(context.Context) error
	check     atomic.Pointer[func() error] // see working
	parts     []part                       // in the order of their start
	done      chan struct{}
	closing   chan struct{}
	watchers  sync.WaitGroup
	// sealFiles closes the record files of a datanode. Close does it too; mini does it
	// on all datanodes before it closes any.
	sealFiles func(context.Context) error
	once      sync.Once
	mu        struct {
		sync.Mutex
		err error // why it ended by itself
	}
}

// part is something that a Daemon stops.
type part struct {
	name  string
	close func(context.Context) error
}

// newDaemon makes a daemon without parts; logger may be nil.
func newDaemon(name string, logger *slog.Logger) *Daemon {
	return &Daemon{
		Name: name, logger: cmp.Or(logger, slog.New(slog.DiscardHandler)), addresses: map[string]string{},
		done: make(chan struct{}), closing: make(chan struct{}),
		ready: func(context.Context) error { return nil },
	}
}

// add notes a part that Close stops before those that were added earlier.
func (d *Daemon) add(name string, stop func(context.Context) error) {
	d.parts = append(d.parts, part{name, stop})
}

// watch ends the daemon's life (Done, Err) when a part ends by itself.
func (d *Daemon) watch(name string, done <-chan struct{}, err func() error) {
	d.watchers.Go(func() {
		select {
		case <-done:
		case <-d.closing:
			return
		}
		cause := err()
		if cause == nil {
			cause = fault.New(fault.Closed, name, "ended by itself")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.mu.err == nil {
			d.mu.err = cause
			close(d.done)
		}
	})
}

// Addresses are the host:port that the daemon listens on, by what they are for: "grpc", "raft", "data", "admin".
func (d *Daemon) Addresses() map[string]string { return maps.Clone(d.addresses) }

// Address is one of Addresses.
func (d *Daemon) Address(purpose string) string { return d.addresses[purpose] }

// WaitReady waits until the daemon does its work. Errors: why it ended by itself, fault.Closed if it is closed
// meanwhile, and if ctx ends first, what it waited for.
func (d *Daemon) WaitReady(ctx context.Context) error {
	waiting, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait() // after cancel: deferred calls run last to first
	defer cancel(nil)
	watcher.Go(func() {
		select {
		case <-d.done:
			cancel(d.Err())
		case <-d.closing:
			cancel(fault.New(fault.Closed, d.Name, "is being closed"))
		case <-waiting.Done():
		}
	})
	err := d.ready(waiting)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return context.Cause(waiting)
	}
	return err
}

// Done is closed when a part ended by itself, and Err says why: the daemon can no longer do its work. Close it.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Err is why the daemon ended by itself; nil while it runs.
func (d *Daemon) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.err
}

// Close stops all parts in reverse order, within ctx as far as they can. It
// stops every part also after an error. Further calls do nothing.
func (d *Daemon) Close(ctx context.Context) error {
	var errs []error
	d.once.Do(func() {
		close(d.closing)
		for i := len(d.parts) - 1; i >= 0; i-- {
			errs = append(errs, d.parts[i].close(ctx))
		}
		d.watchers.Wait()
	})
	return errors.Join(errs...)
}

// abandonTimeout bounds the end of a daemon whose start failed.
const abandonTimeout = 15 * time.Second

// abandon closes a daemon whose start failed and returns the reason.
func (d *Daemon) abandon(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	return errors.Join(cause, d.Close(ctx))
}

// started is the end of a start: the daemon, or none if ctx ended meanwhile.
func (d *Daemon) started(ctx context.Context) (*Daemon, error) {
	if err := ctx.Err(); err != nil {
		return nil, d.abandon(ctx, err)
	}
	return d, nil
}
