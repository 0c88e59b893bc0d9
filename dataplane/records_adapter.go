package dataplane

import (
	"context"
	"sync/atomic"

	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// recordsLink ties a record session to its stream of the sink. Only the
// connection's loop touches it, but for the goroutine that opens.
type recordsLink struct {
	connection *connection
	session    *machine.RecordSession
	stream     RecordStream       // nil until it is open
	cancel     context.CancelFunc // ends the open
	closed     bool
}

// recordCall waits for the sink's answer to one record.
type recordCall struct {
	event    event
	answered atomic.Bool
}

// openRecords asks the sink on a goroutine of its own.
func openRecords(conn *connection, session *machine.RecordSession) *recordsLink {
	server := conn.server
	ctx, cancel := context.WithTimeout(server.context, server.node.Limits.RecordsOpenTimeout())
	link := &recordsLink{connection: conn, session: session, cancel: cancel}
	sink := server.records.Load()
	if sink == nil || *sink == nil {
		cancel()
		conn.machine.OnRecordsOpened(session, fault.New(fault.Unavailable, "open records",
			"this datanode does not append records"), server.now())
		return link
	}
	o := RecordsOpen{Path: session.Open.Path, Writer: record.WriterID(session.Open.WriterID),
		ClientName: session.Open.ClientName, Peer: conn.peer}
	server.goroutines.Go(func() {
		defer cancel()
		stream, err := (*sink).Open(ctx, o)
		if err == nil && stream == nil {
			err = fault.New(fault.Internal, "open records", "the sink gave no stream")
		}
		conn.loop.post(&event{connection: conn, deliver: func() { link.opened(stream, err) }})
	})
	return link
}

func (l *recordsLink) opened(stream RecordStream, err error) {
	if err == nil {
		l.stream = stream
		if l.closed { // the client went meanwhile
			stream.Close()
			return
		}
	}
	l.connection.machine.OnRecordsOpened(l.session, err, l.connection.server.now())
}

// append passes a record on to the sink.
func (l *recordsLink) append(task *machine.RecordTask) {
	conn := l.connection
	deliver := func() { conn.machine.OnRecordDone(task, conn.server.now()) }
	call := &recordCall{event: event{connection: conn, deliver: deliver}}
	r := Record{Sequence: task.Sequence, Sync: task.Flags&wire.FlagSync != 0, Size: task.Size,
		Pieces: make([][]byte, len(task.Pieces))}
	for i, b := range task.Pieces {
		r.Pieces[i] = b.Bytes()[wire.HeaderBytes:]
	}
	conn.server.work.Add(1)
	l.stream.Append(r, func(offset int64, err error) {
		if call.answered.Swap(true) {
			return // a bug of the sink's must not become a buffer that two own
		}
		for _, b := range task.Pieces {
			b.Release()
		}
		task.Offset, task.Err = offset, err
		conn.loop.post(&call.event)
		conn.server.work.Done()
	})
}

// close ends the session; the sink still answers for what it has.
func (l *recordsLink) close() {
	l.closed = true
	l.cancel()
	if l.stream != nil {
		l.stream.Close()
	}
}
