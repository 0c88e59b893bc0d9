package namenode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
)

// loop is the actor goroutine of one term: nothing else touches the state.
type loop struct {
	server  *Server
	term    *term
	state   *actor.State
	grant   editlog.Grant
	writer  LogWriter
	logger  *slog.Logger
	pulse   *pulse
	batches batches
	waiting waiting
	last    uint64 // txid of the last record stepped
	// sessions are the datanode streams that registered, by node id.
	sessions map[string]*session
	// after is the txid that the last message to a node waits for: the next one does not overtake it.
	after       map[string]uint64
	checkpoints *checkpoints

	// From the log writer's goroutine.
	durable chan struct{} // capacity 1: term.durable rose
	failed  chan error    // capacity 1
}

func newLoop(server *Server, term *term, state *actor.State, grant editlog.Grant, from loaded,
	pulse *pulse) (*loop, error) {
	loop := &loop{
		server: server, term: term, state: state, grant: grant, pulse: pulse, last: grant.LastTxid,
		logger:   server.logger.With(keyEpoch, grant.Epoch),
		sessions: make(map[string]*session), after: make(map[string]uint64),
		durable: make(chan struct{}, 1), failed: make(chan error, 1),
	}
	loop.batches = batches{records: server.options.BatchRecords, bytes: server.options.BatchBytes}
	loop.waiting = waiting{durable: grant.LastTxid, release: loop.deliver}
	loop.checkpoints = newCheckpoints(server, grant, from, loop.logger)
	term.durable.Store(grant.LastTxid)
	var err error
	loop.writer, err = server.log.OpenWriter(editlog.WriterOptions{
		Grant: grant, InFlightBatches: server.options.BatchesInFlight, InFlightBytes: batchBytesInFlight,
		OnDurable: func(txid uint64) {
			term.durable.Store(txid)
			select {
			case loop.durable <- struct{}{}:
			default:
			}
		},
		OnFailed: loop.fail,
	})
	return loop, err
}

// fail ends the term from any goroutine; the first reason counts.
func (l *loop) fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

// run serves until the log fails (returns why) or soft ends (returns nil after
// what is in flight is durable, or hard ended too).
func (l *loop) run(soft, hard context.Context) error {
	opening, err := l.open()
	if err != nil {
		return err
	}
	interval := l.server.options.Actor.TickInterval
	tick := l.server.options.Clock.NewTimer(interval)
	defer tick.Stop()
	var mailbox chan *call // nil until active
	always := make(chan struct{})
	close(always)
	for {
		select { // before everything else: a term that is over serves nobody
		case err := <-l.failed:
			return err
		default:
		}
		if err := l.flush(); err != nil {
			return err
		}
		commands, behind := mailbox, always
		if l.batches.full() {
			commands = nil
		}
		if commands == nil || !l.state.Behind() {
			behind = nil
		}
		select {
		case c := <-commands:
			if err := l.drain(c); err != nil {
				return err
			}
		case <-behind: // a part between commands, in turns by chance
			if err := l.step(ownCall(&actor.Continue{})); err != nil {
				return err
			}
		case <-l.durable:
			l.release()
		case <-tick.C():
			if mailbox != nil && !l.batches.full() {
				if err := l.step(ownCall(&actor.Tick{})); err != nil {
					return err
				}
				l.checkpoint()
			}
			tick.Reset(interval)
		case a := <-opening.answer:
			if a.err != nil {
				return a.err
			}
			mailbox = l.term.mailbox
			l.server.serve(l.term)
			l.logger.Info("namenode is active", keyCluster, l.state.ClusterID(), keyTxid, l.last)
		case r := <-l.term.checkpoints: // nobody asks before it is active
			l.checkpoints.ask(r, l.last)
			l.checkpoint()
		case a := <-l.checkpoints.finished:
			l.checkpoints.done(a)
			l.checkpoint()
		case err := <-l.failed:
			return err
		case <-soft.Done():
			l.server.unserve(l.term)
			return l.settle(hard)
		}
	}
}

// open steps the first commands of a term: Format on an empty log, then
// BecomeActive, whose call it returns. Serving begins when that is durable.
func (l *loop) open() (*call, error) {
	if l.last == 0 {
		c := ownCall(&actor.Format{ClusterID: l.server.options.ClusterID})
		c.atStep = true
		if err := l.step(c); err != nil {
			return nil, err
		}
		if a := <-c.answer; a.err != nil {
			return nil, a.err
		}
	}
	c := ownCall(&actor.BecomeActive{Epoch: l.grant.Epoch})
	return c, l.step(c)
}

// drain steps first and what else waits in the mailbox, within bounds.
func (l *loop) drain(first *call) error {
	if err := l.step(first); err != nil {
		return err
	}
	for range drainCommands {
		if l.batches.full() {
			return nil
		}
		select {
		case c := <-l.term.mailbox:
			if err := l.step(c); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// step runs one command and arranges what follows from it. An error ends the term.
func (l *loop) step(call *call) error {
	stats := &l.server.stats
	if gone := call.abandoned(); gone != nil {
		stats.skipped.Add(1)
		call.answer <- answer{err: gone}
		return nil //nolint:nilerr // that the caller left is no reason to stop
	}
	call.command.Now, call.command.Mono = l.pulse.now()
	if _, err := io.ReadFull(l.server.options.Rand, call.command.Random[:]); err != nil {
		call.answer <- answer{err: fault.New(fault.Internal, "step", "no randomness: %v", err)}
		return fmt.Errorf("read randomness: %w", err)
	}
	if register, ok := call.command.Request.(*actor.RegisterNode); ok {
		register.DurableTxid = l.waiting.durable
	}
	effects := l.state.Step(call.command)
	stats.commands.Add(1)
	stats.records.Add(uint64(len(effects.Records)))
	invariants.Assert(len(effects.Records) == 0 || effects.FirstTxid == l.last+1,
		"records begin at txid %d after %d", effects.FirstTxid, l.last)
	for i, record := range effects.Records {
		l.batches.add(effects.FirstTxid+uint64(i), record)
		l.checkpoints.bytes += uint64(len(record))
	}
	l.last += uint64(len(effects.Records))
	invariants.Assert(l.state.Txid() == l.last, "state is at txid %d, records end at %d", l.state.Txid(), l.last)
	l.reply(call, effects.Reply)
	for _, m := range effects.Messages {
		l.queueMessage(m)
	}
	for _, e := range effects.Events {
		l.event(e)
	}
	return nil
}

// reply releases a call's answer when its txid is durable.
func (l *loop) reply(call *call, reply actor.Reply) {
	call.held = answer{result: reply.Result}
	if reply.Err != nil {
		call.held.err = reply.Err
	}
	invariants.Assert(reply.AfterTxid <= l.last, "reply waits for txid %d, the last one is %d", reply.AfterTxid, l.last)
	switch request := call.command.Request.(type) {
	case *actor.RegisterNode:
		if reply.Err == nil {
			l.after[request.NodeID] = max(l.after[request.NodeID], reply.AfterTxid)
		}
	case *actor.NodeGone:
		l.detach(call.session)
	}
	if call.atStep {
		call.answer <- call.held
		return
	}
	l.waiting.after(reply.AfterTxid, due{call: call})
}

// queueMessage queues a message for its node's stream once its txid is durable, behind those before it.
func (l *loop) queueMessage(m step.Message) {
	txid := max(m.AfterTxid, l.after[m.NodeID])
	if txid > l.waiting.durable {
		l.after[m.NodeID] = txid
	} else {
		delete(l.after, m.NodeID)
	}
	l.waiting.after(txid, due{node: m.NodeID, body: m.Body})
}

// deliver answers a call, or queues a message, that waited for its txid.
func (l *loop) deliver(d due) {
	if d.call == nil {
		if s := l.sessions[d.node]; s != nil {
			s.enqueue(d.body)
		}
		return
	}
	if registered, ok := d.call.held.result.(*actor.RegisterResult); ok {
		l.attach(d.call.session, registered.ClusterID)
	}
	d.call.answer <- d.call.held
}

// attach makes a session the node's, and welcomes it. An older one is cut.
func (l *loop) attach(s *session, cluster string) {
	if s.gone {
		return
	}
	if old := l.sessions[s.nodeID]; old != nil && old != s {
		old.cut(fault.New(fault.Closed, "datanode stream", "the datanode registered again from %s", s.peer))
	}
	l.sessions[s.nodeID] = s
	s.enqueue(welcome{cluster})
}

// detach forgets a session whose stream broke.
func (l *loop) detach(s *session) {
	s.gone = true
	if l.sessions[s.nodeID] == s {
		delete(l.sessions, s.nodeID)
	}
}

// flush appends batches to the log as long as it accepts them.
func (l *loop) flush() error {
	for b := l.batches.next(); b != nil; b = l.batches.next() {
		err := l.writer.TryAppend(b.first, b.records)
		if errors.Is(err, fault.Busy) {
			return nil // OnDurable wakes us
		}
		if err != nil {
			return err
		}
		l.server.stats.batches.Add(1)
		l.batches.drop()
	}
	return nil
}

// release delivers what became durable.
func (l *loop) release() {
	l.waiting.advance(l.term.durable.Load())
	l.checkpoints.maybeUpload(l.waiting.durable)
}

// checkpoint takes one if it is due.
func (l *loop) checkpoint() {
	l.checkpoints.maybeTake(l.state, l.last)
	l.checkpoints.maybeUpload(l.waiting.durable)
}

// settle ends a term in order: no more commands, but the answers of those
// that were stepped, as far as the log still accepts their records.
func (l *loop) settle(hard context.Context) error {
	timer := l.server.options.Clock.NewTimer(drainTimeout)
	defer timer.Stop()
	for {
		if err := l.flush(); err != nil {
			return err
		}
		if l.waiting.durable == l.last {
			return nil
		}
		select {
		case <-l.durable:
			l.release()
		case err := <-l.failed:
			return err
		case <-timer.C():
			return fault.New(fault.Unavailable, "close namenode", "%d records were not acknowledged in time",
				l.last-l.waiting.durable)
		case <-hard.Done():
			return hard.Err()
		}
	}
}

// close delivers what became durable, and nothing after that, and ends everything of the term.
func (l *loop) close(reason error) {
	if reason != nil {
		l.server.phase.Store(&phase{doing: "stopped after: " + reason.Error()})
	}
	l.server.unserve(l.term)
	l.waiting.advance(l.term.durable.Load())
	l.term.reason = reason
	close(l.term.ended)
	l.checkpoints.stop()
	// Who puts a call into the mailbox from here on sees that it has ended, and empties it.
	l.term.empty()
	l.waiting.abandon(func(d due) {
		if d.call != nil {
			d.call.answer <- answer{err: errOver}
		}
	})
	l.writer.Close()
}

// pulse is the actor's clock. Its owner is the actor goroutine.
type pulse struct {
	clock   clock.Clock
	start   time.Time
	last    time.Duration // of start, at the last call
	skipped time.Duration // in which the process did not run
	pause   time.Duration
}

func newPulse(c clock.Clock, tick time.Duration) *pulse {
	return &pulse{clock: c, start: c.Now(), pause: max(pauseLeast, 4*tick)}
}

// now is the wall clock in Unix ms and the monotonic time since start. Between two calls the latter advances by at
// most pause: a namenode that was stopped for a minute has not been without its datanodes' heartbeats for a minute,
// it has just not read them yet.
func (p *pulse) now() (int64, time.Duration) {
	wall := p.clock.Now()
	elapsed := max(p.last, wall.Sub(p.start))
	if gap := elapsed - p.last; gap > p.pause {
		p.skipped += gap - p.pause
	}
	p.last = elapsed
	return wall.UnixMilli(), elapsed - p.skipped
}
