package namenode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// checkpoints decides when a term takes one, and takes them one at a time. Its owner is the actor goroutine, which
// only freezes the state; another one encodes and uploads.
type checkpoints struct {
	server *Server
	grant  editlog.Grant
	logger *slog.Logger

	newest     editlog.Checkpoint // Txid 0: there is none
	began      time.Time          // of the term: the newest one's age if there is none
	bytes      uint64             // of records since the newest one, snapshot's excluded
	unreadable []uint64           // txids of those that the start could not read
	failure    error              // of the last attempt
	failures   int                // in a row
	notBefore  time.Time          // before then no attempt but one that is asked for

	// snapshot waits until all of its records are durable; upload runs.
	snapshot      *actor.Snapshot
	running       bool
	started       time.Time
	snapshotTxid  uint64 // last txid of the snapshot
	snapshotBytes uint64 // bytes at the snapshot
	asked         []checkpointRequest

	finished chan checkpointAnswer // capacity 1
	cancel   context.CancelFunc    // of the running upload
}

// checkpointRequest is somebody's wish for a checkpoint that holds a txid.
type checkpointRequest struct {
	txid     uint64                // 0: the last one when it comes in
	accepted chan uint64           // capacity 1: the txid
	answer   chan checkpointAnswer // capacity 1: gets one, unless the term ends
}

// checkpointAnswer is the result of an attempt.
type checkpointAnswer struct {
	checkpoint editlog.Checkpoint
	took       time.Duration
	err        error
}

// loaded describes the state that a start found.
type loaded struct {
	newest  editlog.Checkpoint // Txid 0: there was none
	bytes   uint64             // of the records replayed behind it
	damaged []uint64           // txids of newer ones that could not be read
}

func newCheckpoints(s *Server, grant editlog.Grant, from loaded, logger *slog.Logger) *checkpoints {
	c := &checkpoints{server: s, grant: grant, logger: logger, newest: from.newest, began: s.options.Clock.Now(),
		bytes: from.bytes, finished: make(chan checkpointAnswer, 1)}
	c.unreadable = from.damaged
	if len(from.damaged) > 0 {
		c.bytes = max(c.bytes, s.options.CheckpointBytes) // two good ones are wanted soon
		c.newest.Bytes = 0
	}
	c.publish()
	return c
}

// due says why a checkpoint should be taken now; "" if it should not. The tail that a start would replay is allowed
// to grow with the state: then a start takes a bounded multiple of what loading the state takes, and checkpoints
// cost a bounded share of what the mutations cost that cause them.
func (c *checkpoints) due(now time.Time, last, items uint64) string {
	options := &c.server.options
	records := last - c.newest.Txid
	switch {
	case c.snapshot != nil || c.running:
		return ""
	case slices.ContainsFunc(c.asked, func(r checkpointRequest) bool { return r.txid > c.newest.Txid }):
		return "it was asked for"
	case records == 0 || now.Before(c.notBefore):
		return ""
	case records >= max(options.CheckpointRecords, items/checkpointShare):
		return "records"
	case c.bytes >= max(options.CheckpointBytes, c.newest.Bytes/checkpointShare):
		return "bytes"
	case now.Sub(c.since()) >= options.CheckpointInterval:
		return "time"
	}
	return ""
}

// since is when the newest one was made.
func (c *checkpoints) since() time.Time {
	if c.newest.Txid == 0 {
		return c.began
	}
	return c.newest.Created
}

// ask adds a request; last is the last txid of the state.
func (c *checkpoints) ask(r checkpointRequest, last uint64) {
	if r.txid == 0 || r.txid > last {
		r.txid = last
	}
	r.accepted <- r.txid
	c.asked = append(c.asked, r)
	c.settle(checkpointAnswer{checkpoint: c.newest}, c.newest.Txid)
}

// settle answers those who wait for a txid up to holds.
func (c *checkpoints) settle(a checkpointAnswer, holds uint64) {
	c.asked = slices.DeleteFunc(c.asked, func(r checkpointRequest) bool {
		if r.txid <= holds {
			r.answer <- a
		}
		return r.txid <= holds
	})
}

// maybeTake freezes the state if a checkpoint is due.
func (c *checkpoints) maybeTake(state *actor.State, last uint64) {
	now := c.server.options.Clock.Now()
	why := c.due(now, last, state.Items())
	if why == "" {
		return
	}
	c.snapshot, c.started, c.snapshotTxid, c.snapshotBytes = state.Snapshot(), now, last, c.bytes
	c.logger.Debug("checkpoint begins", keyTxid, last, "why", why)
}

// maybeUpload starts the upload once all that the snapshot holds is durable.
func (c *checkpoints) maybeUpload(durable uint64) {
	if c.snapshot == nil || c.running || durable < c.snapshot.Txid() {
		return
	}
	snapshot := c.snapshot
	c.snapshot, c.running = nil, true
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	log, clock, config, started := c.server.log, c.server.options.Clock, c.server.options.Actor, c.started
	o := editlog.Upload{Grant: c.grant, Txid: snapshot.Txid(), Unreadable: c.unreadable}
	go func() {
		taken, err := log.UploadCheckpoint(ctx, o, func(w io.Writer) error {
			return encodeProved(config, snapshot.Txid(), w, snapshot.Encode)
		})
		c.finished <- checkpointAnswer{checkpoint: taken, took: clock.Now().Sub(started), err: err}
	}()
	c.publish()
}

// done handles the result of an upload.
func (c *checkpoints) done(result checkpointAnswer) {
	stats := &c.server.stats
	c.cancel()
	c.running = false
	c.failure = result.err
	if result.err != nil {
		stats.checkpointsFailed.Add(1)
		c.failures++
		pause := backoff.Exponential{First: checkpointPauseFirst, Max: checkpointPauseMax}.After(c.failures)
		c.logger.Error("no checkpoint could be stored; the log grows until one is", keyError, result.err,
			"next_attempt_in", pause)
		c.notBefore = c.server.options.Clock.Now().Add(pause)
	} else {
		stats.checkpoints.Add(1)
		c.newest, c.bytes, c.failures = result.checkpoint, c.bytes-c.snapshotBytes, 0
		c.logger.Info("checkpoint stored", keyTxid, result.checkpoint.Txid, "bytes", result.checkpoint.Bytes, "took",
			result.took.Round(time.Millisecond))
	}
	c.settle(result, c.snapshotTxid)
	c.publish()
}

// stop ends an upload and waits for it. What it became is not known: the next
// start finds out. Whoever waits for an answer sees that the term has ended.
func (c *checkpoints) stop() {
	if c.running {
		c.cancel()
		<-c.finished
	}
	c.snapshot, c.running = nil, false
	c.publish()
}

// publish updates what the cluster's status shows.
func (c *checkpoints) publish() {
	status := checkpointStatus{newest: c.newest, running: c.running}
	if c.failure != nil {
		status.failure = c.failure.Error()
	}
	c.server.checkpoint.Store(&status)
}

// checkpointStatus is what the last term knows of its checkpoints.
type checkpointStatus struct {
	newest  editlog.Checkpoint
	running bool
	failure string
}

// toProto describes it at a txid.
func (s *checkpointStatus) toProto(now time.Time, txid uint64) *controlpb.CheckpointStatus {
	out := &controlpb.CheckpointStatus{Txid: s.newest.Txid, Bytes: s.newest.Bytes, Running: s.running, Error: s.failure}
	if s.newest.Txid > 0 {
		out.AgeMs = uint64(max(0, now.Sub(s.newest.Created)).Milliseconds())
	}
	if txid > s.newest.Txid {
		out.RecordsSince = txid - s.newest.Txid
	}
	return out
}

// Checkpoint takes a checkpoint of all that was acknowledged before.
func (s *service) Checkpoint(ctx context.Context,
	m *controlpb.CheckpointRequest) (*controlpb.CheckpointResponse, error) {
	const op = "checkpoint"
	term, err := s.server.activeTerm(op)
	if err != nil {
		return nil, err
	}
	if m.AtLeastTxid == 0 {
		s.server.logger.Info("checkpoint asked for by hand", keyPeer, peerOf(ctx))
	}
	request := checkpointRequest{txid: m.AtLeastTxid, accepted: make(chan uint64, 1),
		answer: make(chan checkpointAnswer, 1)}
	select {
	case term.checkpoints <- request:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-term.ended:
		return nil, term.over(op)
	}
	timer := s.server.options.Clock.NewTimer(checkpointAnswerWait)
	defer timer.Stop()
	select {
	case result := <-request.answer:
		if result.err != nil {
			return nil, result.err
		}
		return &controlpb.CheckpointResponse{Txid: result.checkpoint.Txid, Bytes: result.checkpoint.Bytes,
			TookMs: uint64(result.took.Milliseconds()), AtLeastTxid: <-request.accepted}, nil
	case <-timer.C():
		select {
		case txid := <-request.accepted:
			return &controlpb.CheckpointResponse{Pending: true, AtLeastTxid: txid}, nil
		default:
			return nil, fault.New(fault.Busy, op, "the namenode did not come to it")
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-term.ended:
		return nil, term.over(op)
	}
}

// load reads the newest checkpoint that can be read; the state is empty if there is none. A damaged one is logged
// as an error, and the one before it is read instead. Errors: those of the log, if it does not answer.
func (s *Server) load(ctx context.Context, grant editlog.Grant) (*actor.State, loaded, []error, error) {
	var from loaded
	var damage []error
	before := uint64(0)
	for attempt := 1; ; attempt++ {
		state, err := actor.New(s.options.Actor)
		if err != nil {
			return nil, from, damage, &fault.Error{Kind: fault.Invalid, Op: "start namenode", Err: err}
		}
		s.phase.Store(&phase{doing: "loading a checkpoint", target: grant.LastTxid})
		began := s.options.Clock.Now()
		checkpoint, err := s.log.DownloadCheckpoint(ctx, grant, before,
			func(checkpoint editlog.Checkpoint, r io.Reader) error {
				if err := state.ReadCheckpoint(r, int64(checkpoint.Bytes)); err != nil {
					return err
				}
				if state.Txid() != checkpoint.Txid || checkpoint.Txid > grant.LastTxid {
					return fault.New(fault.CorruptData, "load checkpoint",
						"it is of txid %d, the log server said %d, and the log ends at %d", state.Txid(),
						checkpoint.Txid, grant.LastTxid)
				}
				return nil
			})
		switch {
		case err == nil:
			from.newest = checkpoint
			s.logger.Info("checkpoint loaded", keyTxid, checkpoint.Txid, "bytes", checkpoint.Bytes, "took",
				s.options.Clock.Now().Sub(began).Round(time.Millisecond))
			return state, from, damage, nil
		case ctx.Err() != nil:
			return nil, from, damage, ctx.Err()
		case errors.Is(err, fault.NotFound):
			state, err = actor.New(s.options.Actor)
			return state, from, damage, err
		case checkpoint.Txid > 0 && (errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Version)):
			s.stats.checkpointsDamaged.Add(1)
			s.logger.Error("a checkpoint is damaged; the one before it is taken", keyTxid, checkpoint.Txid, keyError,
				err)
			damage = append(damage, err)
			before, attempt, from.damaged = checkpoint.Txid, 0, append(from.damaged, checkpoint.Txid)
			continue
		case fault.ClassOf(err) != fault.Retryable || attempt >= replayAttempts:
			return nil, from, damage, err
		}
		s.logger.Warn("loading a checkpoint was interrupted, beginning again", keyError, err)
		if err := clock.Sleep(ctx, s.options.Clock, replayPause); err != nil {
			return nil, from, damage, err
		}
	}
}
