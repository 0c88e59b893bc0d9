package client

import (
	"context"
	"net"
	"sync"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// PendingRecord is a record on its way.
type PendingRecord struct {
	sequence uint64
	size     int    // payload bytes
	packets  []byte // as sent; nil once done
	done     chan struct{}
	offset   int64
	err      error
}

// Done is closed when the record is acknowledged, or failed for good.
func (p *PendingRecord) Done() <-chan struct{} { return p.done }

// Wait returns the offset of the record's frame in the file, for Client.ReadRecords. If ctx ends first the record may
// still be appended.
func (p *PendingRecord) Wait(ctx context.Context) (int64, error) {
	select {
	case <-p.done:
		return p.offset, p.err
	default:
	}
	select {
	case <-p.done:
		return p.offset, p.err
	case <-ctx.Done():
		return 0, lifetime.Ended(ctx, opRecord, "", nil)
	}
}

// recordQueue holds the records of one RecordAppender until they are acknowledged. Callers add, the session that there
// is at the moment sends and acknowledges. Safe for concurrent use.
type recordQueue struct {
	path  string
	flags wire.Flags
	limit int64         // of bytes
	wake  chan struct{} // capacity 1: something to send, or the end
	mu    struct {
		sync.Mutex
		sequence uint64           // of the last record
		pending  []*PendingRecord // not acknowledged, in order of sequence
		sent     int              // pending[:sent] are sent in this session
		cost     int64            // window cost of pending[:sent]
		bytes    int64            // payload of pending
		acked    uint64           // number of records acknowledged
		room     chan struct{}    // closed and replaced when pending shrinks
		closing  bool
		err      error // why nothing can be appended any more
	}
}

func newRecordQueue(path string, flags wire.Flags, limit int64) *recordQueue {
	q := &recordQueue{path: path, flags: flags, limit: limit, wake: make(chan struct{}, 1)}
	q.mu.room = make(chan struct{})
	return q
}

// add adds a record, or returns a channel to wait on for room.
func (q *recordQueue) add(payload []byte) (_ *PendingRecord, room <-chan struct{}, _ error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.mu.err != nil:
		return nil, nil, q.mu.err
	case q.mu.closing:
		return nil, nil, &fault.Error{Kind: fault.Closed, Op: opRecord, Path: q.path, Reason: "the appender is closed"}
	case len(q.mu.pending) > 0 && (q.mu.bytes+int64(len(payload)) > q.limit || len(q.mu.pending) >= recordsPendingMax):
		return nil, q.mu.room, nil
	}
	p := &PendingRecord{sequence: q.mu.sequence + 1, size: len(payload), done: make(chan struct{})}
	var err error
	if p.packets, err = wire.AppendRecord(nil, p.sequence, q.flags, payload); err != nil {
		return nil, nil, fault.WithPath(err, q.path)
	}
	q.mu.sequence++
	q.mu.pending = append(q.mu.pending, p)
	q.mu.bytes += int64(p.size)
	q.wakeUp()
	return p, nil, nil
}

func (q *recordQueue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close says that nothing more will be added.
func (q *recordQueue) close() {
	q.mu.Lock()
	q.mu.closing = true
	q.mu.Unlock()
	q.wakeUp()
}

// gather returns the packets of records that fit a session's window, at most about recordWriteBytes, and notes them as
// sent. first is called with the queue locked before the first of them if no ack was owed. finished: nothing is left
// and nothing will be added.
func (q *recordQueue) gather(window int64, first func()) (packets net.Buffers, finished bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closing && len(q.mu.pending) == 0 {
		return nil, true
	}
	for bytes := 0; q.mu.sent < len(q.mu.pending) && bytes < recordWriteBytes; {
		next := q.mu.pending[q.mu.sent]
		cost := wire.RecordCost(next.size)
		if q.mu.sent > 0 && q.mu.cost+cost > window {
			break
		}
		if q.mu.sent == 0 {
			first()
		}
		q.mu.sent++
		q.mu.cost += cost
		packets = append(packets, next.packets)
		bytes += len(next.packets)
	}
	return packets, false
}

// acknowledge ends the records that an ack names. after is called with the queue locked, with whether more acks are
// owed.
func (q *recordQueue) acknowledge(ack *wire.RecordAck, after func(owed bool)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	count := len(ack.Offsets)
	if count == 0 {
		return nil
	}
	if count > q.mu.sent || q.mu.pending[count-1].sequence != ack.Sequence {
		return fault.New(fault.Protocol, opRecord, "%d records up to %d are acknowledged, %d were sent", count,
			ack.Sequence, q.mu.sent)
	}
	for i, p := range q.mu.pending[:count] {
		q.mu.cost -= wire.RecordCost(p.size)
		q.mu.bytes -= int64(p.size)
		p.offset, p.packets = ack.Offsets[i], nil
		close(p.done)
	}
	clear(q.mu.pending[:count])
	q.mu.pending = q.mu.pending[count:]
	q.mu.sent -= count
	q.mu.acked += uint64(count)
	after(q.mu.sent > 0)
	q.roomLocked()
	q.wakeUp()
	return nil
}

// unsend marks all pending records for sending in another session.
func (q *recordQueue) unsend() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.sent, q.mu.cost = 0, 0
}

// acknowledged is the number of records acknowledged.
func (q *recordQueue) acknowledged() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.acked
}

// idle reports whether there is nothing to send, and whether that stays so.
func (q *recordQueue) idle() (idle, closing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mu.pending) == 0, q.mu.closing
}

// await waits until there is something to send; false: there never will be. It also returns when ctx ends.
func (q *recordQueue) await(ctx context.Context) bool {
	for {
		idle, closing := q.idle()
		switch {
		case !idle:
			return true
		case closing:
			return false
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return true // the next step finds out
		}
	}
}

// fail ends all records that are not acknowledged.
func (q *recordQueue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.err = fault.WithPath(err, q.path)
	for _, p := range q.mu.pending {
		p.err, p.packets = q.mu.err, nil
		close(p.done)
	}
	q.mu.pending, q.mu.sent, q.mu.cost, q.mu.bytes = nil, 0, 0, 0
	q.roomLocked()
}

// failure is why nothing can be appended any more; nil: nothing failed.
func (q *recordQueue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.err
}

func (q *recordQueue) roomLocked() {
	close(q.mu.room)
	q.mu.room = make(chan struct{})
}
