package agent

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// session is one stream, from Register to its end. run's goroutine sends, a second one receives (receive.go).
type session struct {
	*link
	stream controlpb.DatanodeControl_ConnectClient
	// From the receiver to the sender.
	settings chan settings // the namenode's answer to Register, once
	refresh  chan struct{} // capacity 1: a full report is wanted
	arrived  chan struct{} // capacity 1: something arrived since the last look
	// Only the sender.
	heartbeat  uint64
	pending    bool            // a full report is due
	began      bool            // a first one was asked for: before it no change is sent
	page       uint32          // next page of the running report
	unreported []chunk.Replica // replicas not yet reported; nil: no report runs
	running    bool
	changesDue time.Time // the next changes are sent then, at the earliest
}

type settings struct{ heartbeat, report time.Duration }

func newSession(l *link) *session {
	return &session{link: l, settings: make(chan settings, 1), refresh: make(chan struct{}, 1),
		arrived: make(chan struct{}, 1)}
}

// run returns why the stream ended, never nil.
func (s *session) run(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	// An attempt that gets no answer is cut by its timer.
	timer := s.agent.options.Clock.NewTimer(registerTimeout)
	defer timer.Stop()
	opened := make(chan struct{})
	timedOut := make(chan bool, 1)
	go func() {
		select {
		case <-timer.C():
			cancel()
			timedOut <- true
		case <-opened:
			timedOut <- false
		case <-parent.Done():
			timedOut <- false
		}
	}()
	received := make(chan error, 1)
	chosen, err := s.register(ctx, received)
	close(opened)
	if <-timedOut {
		err = &fault.Error{Kind: fault.Unavailable, Op: "register with namenode", Address: s.address,
			Reason: "no answer in time"}
	}
	if s.stream == nil {
		return err
	}
	if err == nil {
		err = s.sendLoop(ctx, chosen, received)
	}
	cancel()
	for range received { // until the receiver has ended
	}
	return err
}

// register sends Register and waits for the receiver to see the answer. The receiver runs as soon as stream is set;
// it sends one error and then closes received.
func (s *session) register(ctx context.Context, received chan error) (settings, error) {
	stream, err := s.connect(ctx)
	if err != nil {
		return settings{}, err
	}
	s.stream = stream
	go func() {
		defer close(received)
		received <- s.receive(ctx)
	}()
	o := s.agent.options
	identity := o.Store.Identity()
	err = stream.Send(&controlpb.DatanodeMessage{
		Body: &controlpb.DatanodeMessage_Register{Register: &controlpb.Register{ClusterId: identity.ClusterID,
			NodeId: identity.NodeID, Address: o.Address, Version: o.Version,
			Volumes: rpc.VolumesToProto(o.Store.Volumes()), HighestEpoch: identity.HighestEpoch,
			HighestTxid: identity.HighestTxid, Rack: o.Rack, AdminAddress: o.AdminAddress, Name: o.Name}}})
	if err != nil && !errors.Is(err, io.EOF) { // after EOF the receiver knows the reason
		return settings{}, s.explain(err)
	}
	select {
	case chosen := <-s.settings:
		return chosen, nil
	case err := <-received:
		return settings{}, err
	}
}

// sendLoop is the sender's loop. Heartbeats come first, then answers, then the
// pages of a report, then changes: a change is never sent inside a report, nor
// before the first one. The namenode asks for that when it is this node's turn.
func (s *session) sendLoop(ctx context.Context, chosen settings, received <-chan error) error {
	now := s.agent.options.Clock.Now()
	beat := s.agent.options.Clock.NewTimer(0)
	defer beat.Stop()
	// Datanodes that registered together do not report together for ever.
	report := chosen.report - rand.N(chosen.report/10+1)
	periodic := s.agent.options.Clock.NewTimer(report)
	defer periodic.Stop()
	lastHeard, due := now, now
	silence := max(silenceLeast, silenceHeartbeats*chosen.heartbeat)
	gathered := s.agent.options.Clock.NewTimer(changesInterval)
	defer gathered.Stop()
	for {
		now = s.agent.options.Clock.Now()
		if !now.Before(due) {
			select {
			case <-s.arrived:
				lastHeard = now
			default:
			}
			if now.Sub(lastHeard) > silence {
				return &fault.Error{Kind: fault.Unavailable, Op: "heartbeat", Address: s.address,
					Reason: "the namenode is silent: stream cut"}
			}
			if err := s.sendHeartbeat(); err != nil {
				return s.reason(err, received)
			}
			due = now.Add(chosen.heartbeat)
			beat.Reset(chosen.heartbeat)
		}
		before := s.changesDue
		sent, err := s.sendNext(now)
		if s.changesDue != before {
			gathered.Reset(changesInterval)
		}
		if err != nil {
			return s.reason(err, received)
		}
		if sent {
			select {
			case err := <-received:
				return err
			default:
				continue
			}
		}
		select {
		case <-beat.C():
		case <-s.arrived:
			lastHeard = s.agent.options.Clock.Now()
		case <-s.queue.wake:
		case <-gathered.C():
		case <-s.urgent:
			due = now
		case <-s.refresh:
			s.pending = true
		case <-periodic.C():
			s.pending = true
			periodic.Reset(report)
		case m := <-s.outbox:
			if err := s.stream.Send(m); err != nil {
				return s.reason(err, received)
			}
		case err := <-received:
			return err
		case <-ctx.Done():
			return s.explain(ctx.Err())
		}
	}
}

// sendNext sends one message of those that wait, other than heartbeats. Changes that follow others gather for
// changesInterval: of small files there are hundreds a second, of which the namenode has heard from their writers.
func (s *session) sendNext(now time.Time) (bool, error) {
	select {
	case m := <-s.outbox:
		return true, s.stream.Send(m)
	default:
	}
	select {
	case <-s.refresh:
		// A report that runs answers the question: what it does not show follows as changes.
		s.pending = s.pending || !s.running
	default:
	}
	if s.running {
		return true, s.sendPage()
	}
	if s.pending {
		s.pending, s.running, s.began, s.page = false, true, true, 0
		s.report++
		s.queue.reset()
		s.unreported = s.agent.options.Store.Replicas()
		return true, s.sendPage()
	}
	if !s.began || now.Before(s.changesDue) {
		return false, nil
	}
	changes, complete := s.queue.drain(deltaReplicasMax)
	if !complete {
		s.logger.Warn("changes came faster than the stream sends them: full report follows")
		s.pending = true
		return true, nil
	}
	if len(changes) == 0 {
		return false, nil
	}
	s.changesDue = now.Add(changesInterval)
	return true, s.stream.Send(deltaToProto(changes))
}

func (s *session) sendPage() error {
	n := min(pageReplicas, len(s.unreported))
	page := &controlpb.ChunkReport{ReportId: s.report, Page: s.page, Last: n == len(s.unreported),
		Replicas: make([]*controlpb.ReplicaReport, 0, n)}
	for _, r := range s.unreported[:n] {
		page.Replicas = append(page.Replicas, replicaToProto(r))
	}
	s.unreported, s.page = s.unreported[n:], s.page+1
	err := s.stream.Send(&controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_Report{Report: page}})
	if page.Last {
		s.running, s.unreported = false, nil
		if err == nil {
			s.noteReport()
		}
	}
	return err
}

func (s *session) sendHeartbeat() error {
	s.heartbeat++
	defer s.beats.Add(1)
	var load datanode.Load
	if s.agent.options.Load != nil {
		load = s.agent.options.Load()
	}
	return s.stream.Send(&controlpb.DatanodeMessage{
		Body: &controlpb.DatanodeMessage_Heartbeat{Heartbeat: &controlpb.Heartbeat{Sequence: s.heartbeat,
			Volumes: rpc.VolumesToProto(s.agent.options.Store.Volumes()), Load: loadToProto(load)}}})
}

// reason prefers what the receiver knows: Send only says io.EOF when the namenode has ended the stream.
func (s *session) reason(err error, received <-chan error) error {
	if errors.Is(err, io.EOF) {
		if known, ok := <-received; ok {
			return known
		}
	}
	return s.explain(err)
}

func clampInterval(ms int64, least, most, other time.Duration) time.Duration {
	if ms <= 0 {
		return other
	}
	return max(least, time.Duration(min(ms, most.Milliseconds()))*time.Millisecond)
}
