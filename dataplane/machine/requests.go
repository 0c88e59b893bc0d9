package machine

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// request is one kind of request that opens a conversation.
type request struct {
	name  string
	serve func(m *Machine, payload []byte) error // a returned error refuses the connection
}

// requests maps an op to what serves it.
var requests = map[wire.Op]request{
	wire.OpOpenWrite: {"open write", (*Machine).serveOpenWrite},
	wire.OpOpenRead:  {"open read", (*Machine).serveOpenRead},
	wire.OpStat:      {"stat", query(func(o *wire.StatReplica) Query { return Query{Stat: o} })},
	wire.OpRecover:   {"recover", query(func(o *wire.RecoverReplica) Query { return Query{Recover: o} })},
	wire.OpCopy:      {"copy", query(func(o *wire.CopyRange) Query { return Query{Copy: o} })},
	wire.OpScrub:     {"scrub", query(func(o *wire.Scrub) Query { return Query{Scrub: o} })},
	wire.OpTrash:     {"trash", query(func(o *wire.Trash) Query { return Query{Trash: o} })},
	wire.OpDisks:     {"disks", query(func(o *wire.Disks) Query { return Query{Disks: o} })},

	wire.OpOpenRecords: {"open records", (*Machine).serveOpenRecords},
}

// serve acts on a whole request. The machine is idle.
func (m *Machine) serve(p *Packet) {
	m.alive, m.progress = p.Header.Flags&wire.FlagAlive != 0, 0
	err := requests[p.Header.Op].serve(m, p.Payload())
	m.recycle(p)
	if err != nil {
		m.Refuse(reasonProtocol, err)
	}
}

// serveOpenRead has the adapter answer. A range that makes no sense is answered
// like an unknown chunk: the connection stays usable.
func (m *Machine) serveOpenRead(payload []byte) error {
	var o wire.OpenRead
	if err := wire.DecodeBody(payload, &o); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		m.replyRead(err)
		return nil
	}
	m.phase = phaseReading
	m.emit(Effect{Kind: EffectRead, Read: o})
	return nil
}

// replyRead answers a read that sends no bytes.
func (m *Machine) replyRead(err error) {
	m.reply(wire.Header{Op: wire.OpReadReply}, &wire.ReadReply{BodyVersion: wire.BodyVersion,
		Status: wire.StatusOf(m.node.ID, "", err)})
}

// OnReadRefused tells that the read was not begun.
func (m *Machine) OnReadRefused(err error, now time.Duration) {
	m.now = now
	if m.phase != phaseReading {
		return
	}
	m.phase = phaseIdle
	m.replyRead(err)
	m.servePending()
}

// OnReadDone tells that the write side is free again. broken: the peer
// got less than it was promised, so the connection is of no more use.
func (m *Machine) OnReadDone(broken bool, why Reason, now time.Duration) {
	m.now, m.LastReceived = now, now
	if m.phase != phaseReading {
		return
	}
	if broken {
		m.countRefusal(why)
		m.close()
		return
	}
	m.phase = phaseIdle
	m.servePending()
}

// validated is a pointer to a body that can be checked.
type validated[B any] interface {
	*B
	Validate() error
}

// query serves a request with one answer, for which of makes the query that holds its body.
func query[B any, P validated[B]](of func(P) Query) func(*Machine, []byte) error {
	return func(m *Machine, payload []byte) error {
		body := P(new(B))
		return m.serveQuery(payload, body, of(body))
	}
}

// serveQuery decodes the body that a query holds and has the adapter answer it. A query that makes no sense is
// answered here: the connection stays usable.
func (m *Machine) serveQuery(payload []byte, body interface{ Validate() error }, query Query) error {
	if err := wire.DecodeBody(payload, body); err != nil {
		return err
	}
	if err := body.Validate(); err != nil {
		op, reply := query.Refusal(wire.StatusOf(m.node.ID, "", err))
		m.reply(wire.Header{Op: op}, reply)
		return nil
	}
	m.phase = phaseQuerying
	m.emit(Effect{Kind: EffectQuery, Query: query})
	return nil
}

// OnCopied brings the progress of the copy that is served: see wire.Alive.
func (m *Machine) OnCopied(progress uint64) {
	if m.phase == phaseQuerying {
		m.progress = progress
	}
}

// OnQueryDone brings the body that answers a query.
func (m *Machine) OnQueryDone(op wire.Op, body any, now time.Duration) {
	m.now, m.LastReceived = now, now
	if m.phase != phaseQuerying {
		return
	}
	m.phase = phaseIdle
	m.reply(wire.Header{Op: op}, body)
	m.servePending()
}

// RefuseNotReading ends a connection whose peer takes no replies.
func (m *Machine) RefuseNotReading(now time.Duration) {
	m.now = now
	if m.phase == phaseDead {
		return
	}
	m.countRefusal(ReasonNotReading)
	m.abort()
	m.close()
}

// close ends the connection without a word.
func (m *Machine) close() {
	m.dropReceived()
	m.phase = phaseLingering
	m.lingerUntil = m.now
	m.emit(Effect{Kind: EffectClose})
}
