package agent

import (
	"context"
	"time"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// receive is the receiver's goroutine. It returns why the stream ended.
func (s *session) receive(ctx context.Context) error {
	r := receiver{session: s}
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return s.explain(err)
		}
		signal(s.arrived)
		if err := r.onMessage(ctx, m); err != nil {
			return err
		}
	}
}

// receiver checks what a namenode sends before anything is done about it.
type receiver struct {
	*session
	registered bool
	epoch      uint64
	txid       uint64 // highest on this stream
	observed   time.Time
}

// onMessage refuses, with an error that ends the stream, whatever comes from a
// namenode of the past or of another cluster.
func (r *receiver) onMessage(ctx context.Context, message *controlpb.NamenodeMessage) error {
	if welcome := message.GetRegistered(); welcome != nil {
		return r.onRegistered(message, welcome)
	}
	if !r.registered {
		return r.protocol("an order before the registration")
	}
	if message.Epoch != r.epoch {
		return r.protocol("the epoch changed within a stream")
	}
	if highest := r.agent.options.Store.Identity(); message.Epoch < highest.HighestEpoch {
		return r.fenced(message.Epoch, highest)
	}
	if message.Txid < r.txid {
		return r.protocol("txid went back within a stream")
	}
	r.txid = message.Txid
	r.noteTxid(message.Txid)
	switch body := message.Body.(type) {
	case nil:
		return nil // a kind of message that this build does not know
	case *controlpb.NamenodeMessage_HeartbeatReply:
		if now := r.agent.options.Clock.Now(); now.Sub(r.observed) >= observeInterval {
			r.observed = now
			return r.observe(message)
		}
		return nil
	case *controlpb.NamenodeMessage_SendReport:
		r.wantReport()
		return nil
	case *controlpb.NamenodeMessage_DeleteReplicas:
		if err := r.observe(message); err != nil {
			return err
		}
		return r.onDelete(body.DeleteReplicas)
	case *controlpb.NamenodeMessage_RecoverChunk:
		if err := r.observe(message); err != nil {
			return err
		}
		return r.onRecover(body.RecoverChunk)
	case *controlpb.NamenodeMessage_CopyReplica:
		if err := r.observe(message); err != nil {
			return err
		}
		return r.onCopy(body.CopyReplica)
	case *controlpb.NamenodeMessage_TellReplicas:
		return r.onTell(body.TellReplicas)
	case *controlpb.NamenodeMessage_VerifyReplica:
		return r.onVerify(body.VerifyReplica)
	}
	return nil
}

// onRegistered accepts a namenode, or refuses it: one of another cluster, of a lower epoch, or one whose log ends
// before what this node has seen (it was set back to an old copy, and would order live replicas deleted).
func (r *receiver) onRegistered(message *controlpb.NamenodeMessage, welcome *controlpb.Registered) error {
	if r.registered {
		return r.protocol("registered twice")
	}
	own := r.agent.options.Store.Identity()
	switch {
	case welcome.ClusterId == "":
		return r.protocol("the namenode names no cluster")
	case message.Epoch == 0:
		return r.protocol("the namenode has no epoch")
	case own.ClusterID != "" && own.ClusterID != welcome.ClusterId:
		return &fault.Error{Kind: fault.Invalid, Op: "register with namenode", Node: own.NodeID, Address: r.address,
			Reason: "this datanode belongs to cluster " + own.ClusterID +
				", the namenode serves cluster " + welcome.ClusterId,
			Hint: "configure the address of this cluster's namenode, or give the datanode an empty directory"}
	case message.Epoch < own.HighestEpoch:
		return r.fenced(message.Epoch, own)
	case message.Txid < own.HighestTxid:
		return &fault.Error{Kind: fault.Fenced, Op: "register with namenode", Node: own.NodeID, Address: r.address,
			Reason: formatBehind(message.Txid, own.HighestTxid),
			Hint:   "the namenode's log lost records or is an old copy: restore the newest log"}
	}
	if own.ClusterID == "" {
		if err := r.agent.options.Store.Join(welcome.ClusterId); err != nil {
			return err
		}
		r.logger.Info("joined cluster", keyCluster, welcome.ClusterId)
	}
	if err := r.observe(message); err != nil {
		return err
	}
	r.registered, r.epoch, r.txid, r.observed = true, message.Epoch, message.Txid, r.agent.options.Clock.Now()
	r.noteRegistered(welcome.ClusterId, message.Epoch, message.Txid)
	r.agent.registered()
	r.logger.Info("registered", keyCluster, welcome.ClusterId, keyEpoch, message.Epoch, keyTxid, message.Txid)
	r.settings <- settings{
		heartbeat: clampInterval(welcome.HeartbeatIntervalMs, heartbeatLeast, heartbeatMost, heartbeatDefault),
		report:    clampInterval(welcome.ReportIntervalMs, reportLeast, reportMost, reportDefault),
	}
	return nil
}

// observe makes the namenode's epoch and txid this node's highest, durably,
// before the order that came with them is carried out.
func (r *receiver) observe(m *controlpb.NamenodeMessage) error {
	if own := r.agent.options.Store.Identity(); r.registered && m.Txid < own.HighestTxid {
		return &fault.Error{Kind: fault.Fenced, Op: "check order", Node: own.NodeID, Address: r.address,
			Reason: formatBehind(m.Txid, own.HighestTxid)}
	}
	return r.agent.options.Store.ObserveEpoch(m.Epoch, m.Txid)
}

func (r *receiver) wantReport() { signal(r.refresh) }

func (r *receiver) protocol(reason string) error {
	return &fault.Error{Kind: fault.Protocol, Op: "namenode message", Address: r.address, Reason: reason}
}
