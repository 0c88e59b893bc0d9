package logserver

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
)

// serveTail sends a server's records, up to what it knows to be committed and has applied. Without follow it ends
// there, and then only the leader may answer, since only it knows that nothing newer is committed.
func serveTail(server *Server, request *controlpb.TailRequest,
	stream grpc.ServerStreamingServer[controlpb.TailBatch]) error {
	const op = "tail log"
	if err := server.health.refusal(); err != nil {
		return err
	}
	if request.FromTxid == 0 {
		return fault.New(fault.Invalid, op, "txids begin with 1")
	}
	leads := server.health.leading()
	if !request.Follow && !leads {
		return raftFault(op, raft.ErrNotLeader)
	}
	if last := server.fsm.view().LastTxid; request.FromTxid > last+1 {
		if !leads {
			return fault.New(fault.NotActive, op, "this log server has applied txid %d, txid %d was requested", last,
				request.FromTxid)
		}
		return fault.New(fault.Gap, op, "the log ends at txid %d, txid %d was requested", last, request.FromTxid)
	}
	at, ok := server.fsm.before(request.FromTxid)
	if !ok {
		return cutOff(request.FromTxid, server.fsm.firstTxid())
	}
	reader := newLogReader(server.store, at, request.FromTxid)
	timer := server.options.Clock.NewTimer(tailHeartbeat)
	defer timer.Stop()
	for {
		view := server.fsm.view()
		for reader.index < view.applied {
			batch, err := reader.read(view.applied)
			if err != nil {
				return server.readFailed(err)
			}
			if len(batch.Records) == 0 {
				continue
			}
			batch.LastTxid = view.LastTxid
			if err := stream.Send(batch); err != nil {
				return err
			}
		}
		if !request.Follow {
			return nil
		}
		select {
		case <-view.news:
		case <-timer.C():
			timer.Reset(tailHeartbeat)
			if err := stream.Send(&controlpb.TailBatch{FirstTxid: reader.next,
				LastTxid: server.fsm.view().LastTxid}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-server.health.stopping:
			return server.health.refusal()
		}
		if err := server.health.refusal(); err != nil {
			return err
		}
	}
}

// cutOff is the error for a record that only a checkpoint holds.
func cutOff(wanted, first uint64) error {
	err := fault.New(fault.Gap, "tail log", "the log begins at txid %d, txid %d was requested", first, wanted)
	err.Hint = "start from a checkpoint"
	return err
}

// logReader steps through committed entries and returns the records of the
// accepted ones, from a txid on. One goroutine at a time may use it.
type logReader struct {
	store *store
	state entry.State
	index uint64 // raft index of the last entry that was read
	next  uint64 // txid of the next record to return
}

// newLogReader begins behind a point in front of the record with txid from.
func newLogReader(s *store, at entry.Point, from uint64) *logReader {
	return &logReader{store: s, state: at.State(), index: at.Index, next: from}
}

// read returns the next records, about tailMessageBytes of them, of entries up to raft index limit; it may be empty.
func (r *logReader) read(limit uint64) (*controlpb.TailBatch, error) {
	out := &controlpb.TailBatch{FirstTxid: r.next}
	bytes := 0
	for r.index < limit && bytes < tailMessageBytes && len(out.Records) < tailMessageRecords {
		var log raft.Log
		e, err := r.store.read(r.index+1, &log)
		if err != nil {
			return nil, r.lost(err)
		}
		r.index++
		if e.Kind == 0 || r.state.Step(&e) != nil || e.Kind != entry.Batch || e.LastTxid() < r.next {
			continue
		}
		records := e.Records[r.next-e.FirstTxid:]
		for _, record := range records {
			bytes += len(record)
		}
		out.Records = append(out.Records, records...)
		r.next += uint64(len(records))
	}
	return out, nil
}

// lost adds the txid to an error of reading.
func (r *logReader) lost(err error) error {
	if errors.Is(err, raft.ErrLogNotFound) {
		if first, firstErr := r.store.begins(); firstErr == nil && r.index+1 < first {
			return fault.New(fault.Gap, "read log",
				"txid %d was cut off while it was read; start from the newest checkpoint", r.next)
		}
		return &fault.Error{Kind: fault.CorruptData, Op: "read log", Err: err,
			Reason: fmt.Sprintf("raft entry %d, txid %d or later, is missing", r.index+1, r.state.LastTxid+1)}
	}
	var e *fault.Error
	if errors.As(err, &e) {
		named := *e
		named.Reason = fmt.Sprintf("%s, txid %d is lost", e.Reason, max(r.state.LastTxid+1, 1))
		return &named
	}
	return err
}
