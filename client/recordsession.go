package client

import (
	"errors"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/dataplane/wire"
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
	owedBy   time.Time // when the next ack must have come; zero: none is owed. The queue's lock guards it
}

// openRecordSession asks a datanode to append to the file.
func openRecordSession(appender *RecordAppender, at wire.Hop) (*recordSession, error) {
	client := appender.client
	conn, err := client.datanodes.Pool.Dial(appender.life, at.Address)
	if err != nil {
		return nil, datanode.Fault(err, opRecord, at, "")
	}
	stop := conn.Watch(appender.life)
	deadline := time.Now().Add(client.options.DataTimeout)
	open := &wire.OpenRecords{BodyVersion: wire.BodyVersion, Path: appender.path, WriterID: appender.writer[:],
		WindowBytes: appender.queue.limit, ClientName: client.options.Name}
	var opened wire.RecordsOpened
	if err = conn.Request(wire.OpOpenRecords, open, deadline, nil); err == nil {
		err = conn.ExpectAlive(wire.OpRecordsOpened, &opened, client.datanodes.SilenceTimeout, deadline, nil)
	}
	if err == nil {
		err = opened.Validate()
	}
	if err == nil && opened.Status.Code != 0 {
		err = &recordFailure{opened.Status.Err(opRecord, at.Address), opened.Redirect}
	}
	if !stop() && err == nil {
		err = appender.life.Err()
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
	return &recordSession{appender: appender, conn: conn, at: at, window: opened.WindowBytes}, nil
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
		appender.queue.unsend()
	}()
	for {
		packets, finished := appender.queue.gather(s.window, func() { s.expectAck(true) })
		switch {
		case finished:
			return nil
		case len(packets) > 0:
			// A dead socket shows at the write.
			_ = s.conn.Net.SetWriteDeadline(s.deadline(appender.client.options.DataTimeout))
			if _, err := packets.WriteTo(s.conn.Net); err != nil {
				// The datanode may have said why.
				select {
				case reason := <-failed:
					return reason
				case <-time.After(recordReasonWait):
				}
				return datanode.Fault(s.conn.Fault(err), opRecord, s.at, "")
			}
			continue
		}
		select {
		case <-appender.queue.wake:
		case err := <-failed:
			return err
		case <-appender.life.Done():
			return appender.life.Err()
		}
	}
}

// deadline is when the datanode is abandoned; at once when the appender ended.
func (s *recordSession) deadline(patience time.Duration) time.Time {
	if s.appender.life.Err() != nil {
		return datanode.LongAgo
	}
	return time.Now().Add(patience)
}

// expectAck sets the time until which the next ack is awaited. The queue is locked meanwhile, so that what was sent
// last decides.
func (s *recordSession) expectAck(owed bool) {
	s.owedBy = time.Time{}
	if owed {
		s.owedBy = s.deadline(s.appender.client.options.DataTimeout)
	}
	s.expectAlive()
}

// expectAlive gives the datanode another while to say something. The queue is locked meanwhile.
func (s *recordSession) expectAlive() {
	until := s.deadline(s.appender.client.datanodes.SilenceTimeout)
	if s.owedBy.Before(until) && s.appender.life.Err() == nil {
		until = s.owedBy // also if nothing is owed
	}
	_ = s.conn.Net.SetReadDeadline(until) // a dead socket shows at the read
}

// alive is called when the datanode says that it lives.
func (s *recordSession) alive(wire.Alive) error {
	s.appender.queue.mu.Lock()
	defer s.appender.queue.mu.Unlock()
	s.expectAlive()
	return nil
}

// readAcks reads until the session fails.
func (s *recordSession) readAcks() error {
	for {
		var ack wire.RecordAck
		_, err := s.conn.Packets.ExpectAlive(wire.OpRecordAck, &ack, s.alive)
		if err == nil {
			err = ack.Validate()
		}
		if err == nil {
			err = s.appender.queue.acknowledge(&ack, s.expectAck)
		}
		if err == nil && ack.Status.Code != 0 {
			return &recordFailure{ack.Status.Err(opRecord, s.at.Address), ack.Redirect}
		}
		if err != nil {
			return datanode.Fault(s.conn.Fault(err), opRecord, s.at, "")
		}
	}
}
