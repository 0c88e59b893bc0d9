package namenode

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc/peer"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// datanodes serves DatanodeControl.
type datanodes struct {
	controlpb.UnimplementedDatanodeControlServer
	server *Server
}

// Connect serves one stream: this goroutine sends, a second one receives and waits for each command before it reads
// the next message, so that one node never has more than one page of a report in the mailbox.
func (d *datanodes) Connect(stream controlpb.DatanodeControl_ConnectServer) error {
	const op = "datanode stream"
	server := d.server
	term, err := server.activeTerm(op)
	if err != nil {
		return err
	}
	if server.sessions.Add(1) > sessionsMax {
		server.sessions.Add(-1)
		return fault.New(fault.Busy, op, "%d datanode streams are open", sessionsMax)
	}
	receiver := &receiver{datanodes: d, term: term, stream: stream, peer: peerOf(stream.Context()),
		registered: make(chan *session, 1), result: make(chan error, 1)}
	// Receive unblocks when this handler returns, which Close does not need to
	// wait for: the receiver is counted instead.
	server.streams.Add(1)
	go func() {
		defer server.streams.Done()
		defer server.sessions.Add(-1)
		receiver.result <- receiver.run(stream.Context())
	}()
	timer := server.options.Clock.NewTimer(registerTimeout)
	defer timer.Stop()
	select {
	case own := <-receiver.registered:
		return d.writeQueued(stream, term, own, receiver.result)
	case err := <-receiver.result:
		return err
	case <-timer.C():
		return fault.New(fault.Protocol, op, "no registration within %v", registerTimeout)
	case <-term.ended:
		return term.over(op)
	case <-server.closing:
		return fault.New(fault.NotActive, op, "this namenode is shutting down")
	}
}

// writeQueued moves messages from the session's queue to the stream. Each is stamped
// with the epoch and the last durable txid, which never goes back.
func (d *datanodes) writeQueued(stream controlpb.DatanodeControl_ConnectServer, term *term, own *session,
	received <-chan error) error {
	for {
		select {
		case body := <-own.out:
			m := d.toNamenodeMessage(body)
			if m == nil {
				d.server.logger.Error("message of an unknown kind for a datanode", keyNode, own.nodeID)
				continue
			}
			m.Epoch, m.Txid = term.epoch, term.durable.Load()
			if err := stream.Send(m); err != nil {
				return err
			}
		case err := <-received:
			return err
		case <-own.ended:
			return own.reason
		case <-term.ended:
			return term.over("datanode stream")
		case <-d.server.closing:
			return fault.New(fault.NotActive, "datanode stream", "this namenode is shutting down")
		}
	}
}

// receiver turns a stream's messages into commands.
type receiver struct {
	*datanodes
	term       *term
	stream     controlpb.DatanodeControl_ConnectServer
	peer       string
	registered chan *session // the session, once
	result     chan error    // why it ended, once
	session    *session
}

// run receives until the stream ends.
func (r *receiver) run(ctx context.Context) error {
	first, err := r.stream.Recv()
	if err != nil {
		return err
	}
	if err := r.register(ctx, first.GetRegister()); err != nil {
		return err
	}
	defer r.reportGone()
	logger := r.server.logger.With(keyNode, r.session.nodeID, keyPeer, r.peer)
	for {
		m, err := r.stream.Recv()
		if err != nil {
			logger.Info("datanode stream ended", keyError, err)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := r.onMessage(ctx, m); err != nil {
			logger.Warn("datanode stream cut", keyError, err)
			return err
		}
	}
}

// register steps the first message. A datanode that is refused hears why, and so does this side's log.
func (r *receiver) register(ctx context.Context, m *controlpb.Register) error {
	request, err := registerFromProto(m)
	if err != nil {
		r.server.stats.malformed.Add(1)
		return err
	}
	request.Session = r.server.number.Add(1)
	own := newSession(request.Session, request.NodeID, r.peer, &r.server.stats)
	c := newCall(ctx, request)
	c.session = own
	logger := r.server.logger.With(keyNode, request.NodeID, keyPeer, r.peer)
	if a := r.term.do(c, "register datanode"); a.err != nil {
		// It may have been stepped all the same, when the caller's end was seen before the answer.
		r.session = own
		r.reportGone()
		logger.Warn("datanode refused", keyError, a.err)
		return a.err
	}
	r.session = own
	r.server.stats.streams.Add(1)
	logger.Info("datanode registered", "address", request.Address, "version", request.Version)
	r.registered <- own
	return nil
}

// reportGone makes the actor note that the stream is gone, unless the term has ended.
func (r *receiver) reportGone() {
	c := ownCall(&actor.NodeGone{NodeID: r.session.nodeID, Session: r.session.number})
	c.session, c.atStep = r.session, true
	r.term.do(c, "datanode gone")
}

// onMessage steps one message; an error ends the stream.
func (r *receiver) onMessage(ctx context.Context, message *controlpb.DatanodeMessage) error {
	var request actor.Request
	var err error
	node, number := r.session.nodeID, r.session.number
	switch body := message.Body.(type) {
	case *controlpb.DatanodeMessage_Heartbeat:
		beat := &actor.Heartbeat{NodeID: node, Session: number, Load: loadFromProto(body.Heartbeat.GetLoad())}
		beat.Volumes, err = volumesFromProto(body.Heartbeat.GetVolumes())
		request = beat
	case *controlpb.DatanodeMessage_Report:
		page := &actor.ReportPage{NodeID: node, Session: number, ReportID: body.Report.GetReportId(),
			Page: body.Report.GetPage(), Last: body.Report.GetLast()}
		page.Replicas, err = reportFromProto(body.Report.GetReplicas(), false)
		request = page
	case *controlpb.DatanodeMessage_Delta:
		delta := &actor.Delta{NodeID: node, Session: number}
		if delta.Stored, err = reportFromProto(body.Delta.GetStored(), false); err == nil {
			delta.Removed, err = reportFromProto(body.Delta.GetRemoved(), true)
		}
		request = delta
	case *controlpb.DatanodeMessage_RecoverResult:
		request, err = recoverResultFromProto(node, number, body.RecoverResult)
	case *controlpb.DatanodeMessage_CopyResult:
		request, err = r.copyResult(body.CopyResult)
	case *controlpb.DatanodeMessage_VerifyResult:
		request, err = verifyResultFromProto(node, number, body.VerifyResult)
	case *controlpb.DatanodeMessage_Register:
		err = malformed("datanode message", "registered twice on one stream")
	default:
		return nil // a kind of message that this build does not know
	}
	if err != nil {
		r.server.stats.malformed.Add(1)
		return err
	}
	c := newCall(ctx, request)
	c.session, c.atStep = r.session, true
	if a := r.term.do(c, "datanode message"); a.err != nil {
		return a.err
	}
	if beat := message.GetHeartbeat(); beat != nil {
		r.session.enqueue(heartbeatReply{beat.Sequence})
	}
	return nil
}

// copyResult logs what failed; the state machine orders the copy again.
func (r *receiver) copyResult(m *controlpb.CopyResult) (*actor.CopyResult, error) {
	request, err := copyResultFromProto(r.session.nodeID, r.session.number, m)
	if err == nil && request.Error != "" {
		r.server.logger.Warn("replica not copied", keyNode, r.session.nodeID, keyChunk, request.Chunk,
			keyError, request.Error)
	}
	return request, err
}

// hostOf is the caller's address without its port; "" if it is not known.
func hostOf(ctx context.Context) string {
	address := peerOf(ctx)
	return address[:max(0, strings.LastIndexByte(address, ':'))]
}

// peerOf is the caller's network address, for logs.
func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return "unknown"
}
