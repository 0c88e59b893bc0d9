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
func openRecords(c *connection, s *machine.RecordSession) *recordsLink {
	server := c.server
	ctx, cancel := context.WithTimeout(server.context, server.node.Limits.RecordsOpenTimeout())
	l := &recordsLink{connection: c, session: s, cancel: cancel}
	sink := server.records.Load()
	if sink == nil || *sink == nil {
		cancel()
		c.machine.OnRecordsOpened(s, fault.New(fault.Unavailable, "open records", "this datanode does not append records"), server.now())
		return l
	}
	o := RecordsOpen{Path: s.Open.Path, Writer: record.WriterID(s.Open.WriterID), ClientName: s.Open.ClientName, Peer: c.peer}
	server.goroutines.Go(func() {
		defer cancel()
		stream, err := (*sink).Open(ctx, o)
		if err == nil && stream == nil {
			err = fault.New(fault.Internal, "open records", "the sink gave no stream")
		}
		c.loop.post(&event{connection: c, deliver: func() { l.opened(stream, err) }})
	})
	return l
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

// append hands a record to the sink.
func (l *recordsLink) append(t *machine.RecordTask) {
	c := l.connection
	call := &recordCall{event: event{connection: c, deliver: func() { c.machine.OnRecordDone(t, c.server.now()) }}}
	r := Record{Sequence: t.Sequence, Sync: t.Flags&wire.FlagSync != 0, Size: t.Size, Pieces: make([][]byte, len(t.Pieces))}
	for i, b := range t.Pieces {
		r.Pieces[i] = b.Bytes()[wire.HeaderBytes:]
	}
	c.server.work.Add(1)
	l.stream.Append(r, func(offset int64, err error) {
		if call.answered.Swap(true) {
			return // a bug of the sink's must not become a buffer that two own
		}
		for _, b := range t.Pieces {
			b.Release()
		}
		t.Offset, t.Err = offset, err
		c.loop.post(&call.event)
		c.server.work.Done()
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
