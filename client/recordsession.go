package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// recordFailure is why a record session ended, and who appends instead.
type recordFailure struct {
	err      error
	redirect wire.Hop // Address "" if nobody is named
}

func (f *recordFailure) Error() string { return f.err.Error() }
func (f *recordFailure) Unwrap() error { return f.err }

// recordSession is one connection to the datanode that appends.
type recordSession struct {
	appender *RecordAppender
	conn     *datanode.Connection
	at       wire.Hop
	window   int64
}

// openRecords asks a datanode to append to the file.
func (a *RecordAppender) openSession(at wire.Hop) (*recordSession, error) {
	client := a.client
	conn, err := client.datanodes.Pool.Dial(a.life, at.Address)
	if err != nil {
		return nil, datanode.Fault(err, opRecord, at, "")
	}
	stop := conn.Watch(a.life)
	deadline := time.Now().Add(client.options.DataTimeout)
	open := &wire.OpenRecords{BodyVersion: wire.BodyVersion, Path: a.path, WriterID: a.writer[:], WindowBytes: a.limit,
		ClientName: client.options.Name}
	var opened wire.RecordsOpened
	if err = conn.Request(wire.OpOpenRecords, open, deadline, nil); err == nil {
		err = conn.Expect(wire.OpRecordsOpened, &opened, deadline)
	}
	if err == nil {
		err = opened.Validate()
	}
	if err == nil && opened.Status.Code != 0 {
		err = &recordFailure{opened.Status.Err(opRecord, at.Address), opened.Redirect}
	}
	if !stop() && err == nil {
		err = a.life.Err()
	}
	if err == nil {
		err = conn.Fault(conn.Net.SetDeadline(time.Time{}))
	}
	if err != nil {
		client.datanodes.Pool.Discard(conn)
		var f *recordFailure
		if errors.As(err, &f) {
			return nil, err
		}
		return nil, datanode.Fault(err, opRecord, at, "")
	}
	return &recordSession{appender: a, conn: conn, at: at, window: opened.WindowBytes}, nil
}

// serve sends what is pending, in order, until the session fails or, with nil, the appender closes and everything is
// acknowledged.
func (s *recordSession) serve() error {
	appender := s.appender
	stop := s.conn.Watch(appender.life)
	failed := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { failed <- s.readAcks() })
	defer func() {
		stop()
		appender.client.datanodes.Pool.Discard(s.conn) // wakes the reader
		reader.Wait()
		appender.unsend()
	}()
	for {
		packets, finished := s.take()
		switch {
		case finished:
			return nil
		case len(packets) > 0:
			if _, err := packets.WriteTo(s.conn.Net); err != nil {
				// The datanode may have said why.
				select {
				case reason := <-failed:
					return reason
				case <-time.After(recordLastWords):
				}
				return datanode.Fault(s.conn.Fault(err), opRecord, s.at, "")
			}
			continue
		}
		select {
		case <-appender.wake:
		case err := <-failed:
			return err
		case <-appender.life.Done():
			return appender.life.Err()
		}
	}
}

// recordLastWords is how long a broken connection is listened to.
const recordLastWords = 200 * time.Millisecond

// take gathers records that may be sent now.
func (s *recordSession) take() (packets net.Buffers, finished bool) {
	appender := s.appender
	appender.mu.Lock()
	defer appender.mu.Unlock()
	if appender.mu.closing && len(appender.mu.pending) == 0 {
		return nil, true
	}
	bytes := 0
	for appender.mu.sent < len(appender.mu.pending) && bytes < recordWriteBytes {
		record := appender.mu.pending[appender.mu.sent]
		cost := wire.RecordCost(record.size)
		if appender.mu.sent > 0 && appender.mu.cost+cost > s.window {
			break
		}
		if appender.mu.sent == 0 {
			s.oweLocked(true)
		}
		appender.mu.sent++
		appender.mu.cost += cost
		packets = append(packets, record.packets)
		bytes += len(record.packets)
	}
	if len(packets) > 0 {
		_ = s.conn.Net.SetWriteDeadline(s.deadline()) // a dead socket shows at the write
	}
	return packets, false
}

// deadline is when the datanode is abandoned; at once when the appender ended.
func (s *recordSession) deadline() time.Time {
	if s.appender.life.Err() != nil {
		return datanode.LongAgo
	}
	return time.Now().Add(s.appender.client.options.DataTimeout)
}

// oweLocked sets the time until which the next ack is awaited.
func (s *recordSession) oweLocked(owed bool) {
	until := time.Time{}
	if owed || s.appender.life.Err() != nil {
		until = s.deadline()
	}
	_ = s.conn.Net.SetReadDeadline(until) // a dead socket shows at the read
}

// readAcks reads until the session fails.
func (s *recordSession) readAcks() error {
	for {
		var ack wire.RecordAck
		_, err := s.conn.Packets.Expect(wire.OpRecordAck, &ack)
		if err == nil {
			err = ack.Validate()
		}
		if err == nil {
			err = s.acked(&ack)
		}
		if err == nil && ack.Status.Code != 0 {
			return &recordFailure{ack.Status.Err(opRecord, s.at.Address), ack.Redirect}
		}
		if err != nil {
			return datanode.Fault(s.conn.Fault(err), opRecord, s.at, "")
		}
	}
}

// acked ends the records that an ack names.
func (s *recordSession) acked(ack *wire.RecordAck) error {
	appender := s.appender
	appender.mu.Lock()
	defer appender.mu.Unlock()
	count := len(ack.Offsets)
	if count == 0 {
		return nil
	}
	if count > appender.mu.sent || appender.mu.pending[count-1].sequence != ack.Sequence {
		return fault.New(fault.Protocol, opRecord, "%d records up to %d are acknowledged, %d were sent", count,
			ack.Sequence, appender.mu.sent)
	}
	for i, p := range appender.mu.pending[:count] {
		appender.mu.cost -= wire.RecordCost(p.size)
		appender.mu.bytes -= int64(p.size)
		p.offset, p.packets = ack.Offsets[i], nil
		close(p.done)
	}
	clear(appender.mu.pending[:count])
	appender.mu.pending = appender.mu.pending[count:]
	appender.mu.sent -= count
	appender.mu.acked += uint64(count)
	s.oweLocked(appender.mu.sent > 0)
	appender.roomLocked()
	appender.wakeUp()
	return nil
}

// unsend marks all pending records for sending again.
func (a *RecordAppender) unsend() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.sent, a.mu.cost = 0, 0
}

// progress is the number of records acknowledged.
func (a *RecordAppender) progress() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.acked
}

// idle reports whether there is nothing to send, and whether that stays so.
func (a *RecordAppender) idle() (idle, closing bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.mu.pending) == 0, a.mu.closing
}

// needed waits until a session is of use; false when the appender ended.
func (a *RecordAppender) needed(ctx context.Context) bool {
	for {
		idle, closing := a.idle()
		switch {
		case !idle:
			return true
		case closing:
			return false
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			return true // the next step finds out
		}
	}
}
