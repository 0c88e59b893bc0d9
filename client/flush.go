package client

import (
	"context"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// Flush returns when everything written before the call is in the page cache of
// every datanode of the pipeline and visible to new readers. If only ctx ended,
// the writer stays usable; ctx does not bound the wait for another call's turn.
func (w *FileWriter) Flush(ctx context.Context) error { return w.push(ctx, "flush", 0) }

// Sync returns when everything written before the call is fdatasync'd on every
// datanode of the pipeline. If only ctx ended, the writer stays usable; ctx does
// not bound the wait for another call's turn.
func (w *FileWriter) Sync(ctx context.Context) error { return w.push(ctx, "sync", wire.FlagSync) }

// BeginFlush sends everything written before the call and does not wait for the
// acks: Pending.Wait does, with the promise of Flush. So one goroutine can have
// many records under way, each with an answer of its own; a record's way through
// the pipeline then costs it no time. BeginFlush blocks while the pipeline's
// window is full. It is a whole Flush where a chunk begins or ends and where the
// pipeline has to be put up again.
//
// A pipeline that breaks meanwhile is put up again by the next call that has
// something to send or to wait for, not before.
func (w *FileWriter) BeginFlush(ctx context.Context) (Pending, error) {
	return w.begin(ctx, "flush", 0)
}

// BeginSync is to Sync what BeginFlush is to Flush. Datanodes sync once for what
// is under way together.
func (w *FileWriter) BeginSync(ctx context.Context) (Pending, error) {
	return w.begin(ctx, "sync", wire.FlagSync)
}

// Pending is a Flush or Sync that was begun. It holds memory only, and nothing is
// lost if nobody waits for it. The zero Pending is done.
type Pending struct {
	writer  *FileWriter
	op      string
	flags   wire.Flags
	session *session // that carries the bytes
	seqno   uint64   // whose ack covers them
}

// Wait returns when everything that was written before the Pending's begin is
// where Flush or Sync promises. If only ctx ended, Wait can be called again; the
// writer stays usable. As with Flush, ctx does not bound the wait for another
// call's turn. Any goroutine may call it, and the Pendings of a writer in any
// order.
func (p Pending) Wait(ctx context.Context) error {
	if p.writer == nil || p.session.acknowledged(ctx, p.seqno) {
		return nil
	}
	return p.writer.pushAll(ctx, p.op, p.flags)
}

func (w *FileWriter) begin(ctx context.Context, op string, flags wire.Flags) (Pending, error) {
	s, seqno, err := w.sendQuickly(ctx, op, flags)
	if err != nil {
		return Pending{}, err
	}
	if s != nil {
		return Pending{writer: w, op: op, flags: flags, session: s, seqno: seqno}, nil
	}
	return Pending{}, w.pushAll(ctx, op, flags)
}

func (w *FileWriter) push(ctx context.Context, op string, flags wire.Flags) error {
	p, err := w.begin(ctx, op, flags)
	if err != nil {
		return err
	}
	return p.Wait(ctx)
}

// pushAll sends what is not sent and waits until everything is acknowledged,
// whatever has to be done for that. It holds mu meanwhile.
func (w *FileWriter) pushAll(ctx context.Context, op string, flags wire.Flags) error {
	if ctx.Err() != nil && w.life.Err() == nil {
		return contextFault(ctx, op, w.path, nil) // another call may hold mu for long
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed && w.failed() == nil {
		return nil // Close came since: every datanode has everything
	}
	if err := w.pushable(ctx, op); err != nil {
		return err
	}
	ctx, cancel := w.within(ctx)
	defer cancel()
	return w.final(ctx, func() error {
		if w.packet != nil || (flags != 0 && w.unsynced && w.current != nil) {
			if err := w.sendPacket(ctx, flags); err != nil {
				return err
			}
		}
		if err := w.settle(ctx, 0); err != nil {
			return err
		}
		if w.current == nil {
			return nil
		}
		return w.current.flushed(ctx)
	}())
}

// pushable tells whether a Flush or Sync can begin. Called with mu held.
func (w *FileWriter) pushable(ctx context.Context, op string) error {
	if err := w.usable(op); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return contextFault(ctx, op, w.path, nil)
	}
	return nil
}

// sendQuickly is the beginning of a Flush or Sync in the common case, a record
// in a chunk whose pipeline stands: one packet, or none if others took the bytes
// along. Everything written is safe when the session has the ack of seqno, for
// which nobody has to hold mu. nil: it is not that case, or something failed on
// the way, and pushAll has to go on.
func (w *FileWriter) sendQuickly(ctx context.Context, op string, flags wire.Flags) (of *session, seqno uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.pushable(ctx, op); err != nil {
		return nil, 0, err
	}
	s := w.current
	if s == nil || s.session == nil || len(s.backlog) > 0 || len(w.behind) > 0 {
		return nil, 0, nil
	}
	if w.packet == nil && flags != 0 && w.unsynced {
		w.packet = w.client.newPacket(s.length, 0)
	}
	if w.packet == nil {
		return s.session, s.session.lastSent(), nil
	}
	if w.packet.end() == w.info.ChunkSize {
		return nil, 0, nil
	}
	w.packet.flags = flags
	seqno, ok := s.sendInSession(ctx, w.packet)
	if seqno == 0 {
		return nil, 0, nil
	}
	w.packet, w.unsynced = nil, flags == 0
	w.allocateAhead(s)
	if !ok {
		return nil, 0, nil
	}
	return s.session, seqno, nil
}
