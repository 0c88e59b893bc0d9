package dataplane

import (
	"context"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// RecordSink appends records to files for the clients of record sessions. Its
// implementation serialises the records of all sessions of one file.
type RecordSink interface {
	// Open joins a client to a file. It may block, on a goroutine of its own. ctx is for Open alone: it ends when
	// the client goes, after twice Limits.StepTimeout, or when the server stops. The server closes every stream
	// that it gets, also after ctx has ended.
	//
	// Errors go to the client. A *RedirectError names the datanode that appends to the file.
	Open(ctx context.Context, o RecordsOpen) (RecordStream, error)
}

// RecordsOpen is what a client says when it opens a record session.
type RecordsOpen struct {
	Path       string // absolute, valid UTF-8, otherwise unchecked
	Writer     record.WriterID
	ClientName string // for people; may be empty
	Peer       string // the client's host:port
}

// RecordStream takes the records of one session. Append and Close are called
// one at a time, on an event loop: they must never block.
type RecordStream interface {
	// Append takes one record over. done must be called exactly once, on any goroutine, also from within Append: with
	// the offset of the record's frame in its file once the record is flushed (Sync: synced), or with an error, which
	// ends the session: the client will send this record and all after it again, here or, after a *RedirectError,
	// elsewhere. The calls of done may come in any order; the client gets acks in the order of the records.
	//
	// The record's bytes belong to the stream until it calls done.
	Append(r Record, done func(offset int64, err error))
	// Close ends the session. Every done that is outstanding must still be
	// called soon: Server.Close waits for them. Called exactly once.
	Close()
}

// Record is one record of a session.
type Record struct {
	Sequence uint64   // of its writer, see record.Header
	Sync     bool     // wanted on disk at every replica before done
	Size     int      // payload bytes, 0..record.PayloadBytesMax
	Pieces   [][]byte // the payload, in order; all but the last have 1 MiB. Read only
}

// AppendPayload appends the whole payload to b and returns it.
func (r *Record) AppendPayload(b []byte) []byte {
	for _, p := range r.Pieces {
		b = append(b, p...)
	}
	return b
}

// RedirectError tells that another datanode appends to the file.
type RedirectError struct {
	NodeID  string
	Address string // host:port of its data server
	Err     error  // why; nil means fault.LeaseHeld
}

// Error says where to go.
func (e *RedirectError) Error() string {
	return "append record: node " + e.NodeID + " at " + e.Address + " appends to this file"
}

// Redirect is the datanode to go to.
func (e *RedirectError) Redirect() wire.Hop { return wire.Hop{NodeID: e.NodeID, Address: e.Address} }

// Unwrap is Err, or an error of kind fault.LeaseHeld.
func (e *RedirectError) Unwrap() error {
	if e.Err != nil {
		return e.Err
	}
	return &fault.Error{Kind: fault.LeaseHeld, Op: "append record", Node: e.NodeID, Address: e.Address}
}
