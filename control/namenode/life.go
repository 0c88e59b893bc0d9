package namenode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// run serves term after term, until Close or a reason to stay down.
func (s *Server) run(soft, hard context.Context) {
	defer close(s.done)
	failures := 0 // in a row
	p := newPulse(s.options.Clock, s.options.Actor.TickInterval)
	for {
		before := s.stats.terms.Load()
		err := s.runTerm(soft, hard, p)
		if soft.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				s.logger.Warn("namenode stops", keyError, err)
			}
			return
		}
		if s.stats.terms.Load() > before {
			failures = 0
		}
		if isFinal(err) {
			s.err = err
			s.phase.Store(&phase{doing: "staying down after: " + err.Error()})
			s.logger.Error("namenode stays down", keyError, err)
			return
		}
		failures++
		pause := backoff.Spread(backoff.Exponential{First: restartFirst, Max: restartMax}.After(failures))
		s.phase.Store(&phase{doing: "restarting after: " + err.Error()})
		s.logger.Warn("namenode restarts", keyError, err, "in", pause.Round(time.Millisecond))
		if clock.Sleep(soft, s.options.Clock, pause) != nil {
			return
		}
	}
}

// isFinal reports whether a restart would be wrong: another namenode took over, or
// what the log holds cannot be read by this program.
func isFinal(err error) bool {
	return errors.Is(err, fault.Fenced) || errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Version)
}

// runTerm acquires an epoch, replays the log, and serves until the term ends.
func (s *Server) runTerm(soft, hard context.Context, pulse *pulse) error {
	s.phase.Store(&phase{doing: "waiting for the log server"})
	s.logger.Info("asking the log servers for an epoch", "log_servers", s.options.LogServers)
	attempt, cancel := context.WithTimeout(soft, acquireTimeout)
	grant, err := s.log.AcquireEpoch(attempt, s.options.Holder)
	cancel()
	if err != nil {
		// Nobody took anything from us: we had nothing.
		if errors.Is(err, fault.Fenced) {
			return fault.New(fault.Unavailable, "acquire epoch", "%s", err.Error())
		}
		return err
	}
	s.logger.Info("epoch acquired", keyEpoch, grant.Epoch, keyTxid, grant.LastTxid)
	state, from, err := s.replay(soft, grant)
	if err != nil {
		return err
	}
	term := &term{epoch: grant.Epoch, mailbox: make(chan *call, s.options.Mailbox), stats: &s.stats,
		ended: make(chan struct{}), checkpoints: make(chan checkpointRequest, checkpointsAskedMax)}
	loop, err := newLoop(s, term, state, grant, from, pulse)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(soft)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchEpoch(watching, grant.Epoch, loop.fail)
	}()
	// The writer closes its stream for good: nothing that is in the state but
	// not in the log can get there any more.
	err = loop.run(soft, hard)
	loop.close(err)
	stop()
	<-watched
	return err
}

// replay builds the state from the newest checkpoint and the records behind it, up to the grant's last txid. A
// stream that breaks is resumed behind the last record applied.
func (s *Server) replay(ctx context.Context, grant editlog.Grant) (*actor.State, loaded, error) {
	state, from, damage, err := s.load(ctx, grant)
	if err != nil {
		return nil, from, err
	}
	began, base := s.options.Clock.Now(), state.Txid()
	for attempt := 1; state.Txid() < grant.LastTxid; attempt++ {
		applied := state.Txid()
		s.phase.Store(&phase{doing: "replaying the log", applied: applied, target: grant.LastTxid})
		err := s.log.Replay(ctx, applied+1, grant.LastTxid, func(b editlog.Batch) error {
			if b.FirstTxid != state.Txid()+1 {
				return fault.New(fault.CorruptData, "replay log", "batch starts at txid %d, expected %d", b.FirstTxid,
					state.Txid()+1)
			}
			for i, record := range b.Records {
				txid := b.FirstTxid + uint64(i)
				from.bytes += uint64(len(record))
				if err := state.Replay(txid, record); err != nil {
					return notReplayed(txid, err)
				}
			}
			s.phase.Store(&phase{doing: "replaying the log", applied: state.Txid(), target: grant.LastTxid})
			return ctx.Err()
		})
		switch {
		case err == nil && state.Txid() < grant.LastTxid:
			return nil, from, fault.New(fault.Gap, "replay log", "the log ended at txid %d, %d was granted",
				state.Txid(), grant.LastTxid)
		case err == nil:
		case errors.Is(err, fault.Gap) && state.Txid() == base:
			return nil, from, notComplete(base, append(damage, err))
		case fault.ClassOf(err) != fault.Retryable || ctx.Err() != nil:
			return nil, from, err
		case state.Txid() > applied:
			attempt = 0
		case attempt >= replayAttempts:
			return nil, from, err
		}
		if err != nil {
			s.logger.Warn("replay interrupted, going on", keyTxid, state.Txid(), keyError, err)
			if err := clock.Sleep(ctx, s.options.Clock, replayPause); err != nil {
				return nil, from, err
			}
		}
	}
	s.phase.Store(&phase{doing: "becoming active"})
	s.logger.Info("log replayed", keyTxid, state.Txid(), keyCount, state.Txid()-base, "took",
		s.options.Clock.Now().Sub(began).Round(time.Millisecond))
	return state, from, nil
}

// notComplete keeps the namenode down when the log no longer holds the record
// behind what could be loaded: a namespace that lacks something is never served.
func notComplete(base uint64, causes []error) error {
	err := &fault.Error{Kind: fault.CorruptData, Op: "replay log", Err: errors.Join(causes...),
		Reason: "no checkpoint can be read that the log goes on behind",
		Hint: "look with `ww log verify` at the log server's directory; " +
			"restore its checkpoints from a copy or from another log server"}
	if base > 0 {
		err.Reason = fmt.Sprintf("the log does not go on behind the checkpoint of txid %d", base)
	}
	return err
}

// notReplayed makes sure that a record which the state machine refuses keeps
// the namenode down: the log is damaged, or newer than this program.
func notReplayed(txid uint64, err error) error {
	kind := fault.CorruptData
	if errors.Is(err, fault.Version) {
		kind = fault.Version
	}
	return &fault.Error{Kind: kind, Op: "replay log", Reason: fmt.Sprintf("record of txid %d", txid), Err: err}
}

// watchEpoch asks the log servers every epochInterval whether somebody holds a
// higher epoch, so that a namenode without mutations stops serving reads too.
func (s *Server) watchEpoch(ctx context.Context, own uint64, fail func(error)) {
	s.noteLogServers(s.log.Status(ctx))
	for {
		if clock.Sleep(ctx, s.options.Clock, epochInterval) != nil {
			return
		}
		statuses := s.log.Status(ctx)
		s.noteLogServers(statuses)
		for _, status := range statuses {
			if status.GetEpoch() > own {
				fail(fault.New(fault.Fenced, "hold epoch", "epoch %d is held by %s, this namenode's is %d",
					status.Epoch, status.Holder, own))
				return
			}
		}
	}
}

// noteLogServers keeps the status of the log servers for the cluster's status.
func (s *Server) noteLogServers(statuses []*controlpb.LogStatusResponse) {
	out := make([]*controlpb.LogServerStatus, len(statuses))
	for i, status := range statuses {
		out[i] = &controlpb.LogServerStatus{NodeId: status.NodeId, Leader: status.Leader, Error: status.Error,
			AdminAddress: status.AdminAddress}
		if i < len(s.options.LogServers) {
			out[i].Address = s.options.LogServers[i]
		}
	}
	s.logServers.Store(&out)
}

// serve admits callers.
func (s *Server) serve(t *term) {
	s.stats.terms.Add(1)
	s.current.Store(t)
	s.rpc.SetServing(true)
	s.readyOnce.Do(func() { close(s.ready) })
}

// unserve refuses further callers. Those admitted already get an answer when
// their records are durable, or when the term ends.
func (s *Server) unserve(t *term) {
	if s.current.CompareAndSwap(t, nil) {
		s.rpc.SetServing(false)
	}
}
