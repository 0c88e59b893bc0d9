package dataplane

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// request is one kind of request that opens a conversation.
type request struct {
	name  string
	serve func(m *machine, payload []byte) error // a returned error refuses the connection
}

// requests maps an op to what serves it.
var requests = map[wire.Op]request{
	wire.OpOpenWrite: {"open write", (*machine).serveOpenWrite},
	wire.OpOpenRead:  {"open read", (*machine).serveOpenRead},
	wire.OpStat:      {"stat", (*machine).serveStat},
	wire.OpRecover:   {"recover", (*machine).serveRecover},
	wire.OpCopy:      {"copy", (*machine).serveCopy},

	wire.OpOpenRecords: {"open records", (*machine).serveOpenRecords},
}

// serve acts on a whole request. The machine is idle.
func (m *machine) serve(p *packet) {
	err := requests[p.header.Op].serve(m, p.payload())
	m.recycle(p)
	if err != nil {
		m.refuse(reasonProtocol, err)
	}
}

// serveOpenRead lets a sender answer. A range that makes no sense is answered
// like an unknown chunk: the connection stays usable.
func (m *machine) serveOpenRead(payload []byte) error {
	var o wire.OpenRead
	if err := wire.DecodeBody(payload, &o); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		m.replyRead(err)
		return nil
	}
	m.phase = phaseReading
	m.emit(effect{kind: effectRead, read: o})
	return nil
}

// replyRead answers a read that sends no bytes.
func (m *machine) replyRead(err error) {
	m.reply(wire.Header{Op: wire.OpReadReply}, &wire.ReadReply{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(m.node.id, "", err)})
}

// onReadRefused tells that no sender took the read.
func (m *machine) onReadRefused(err error, now time.Duration) {
	m.now = now
	if m.phase != phaseReading {
		return
	}
	m.phase = phaseIdle
	m.replyRead(err)
	m.servePending()
}

// onReadDone tells that the sender gave the write side back. broken: the peer
// got less than it was promised, so the connection is of no more use.
func (m *machine) onReadDone(broken bool, why reason, now time.Duration) {
	m.now, m.lastReceived = now, now
	if m.phase != phaseReading {
		return
	}
	if broken {
		m.count(why)
		m.dropReceived()
		m.phase = phaseLingering
		m.lingerUntil = now
		m.emit(effect{kind: effectClose})
		return
	}
	m.phase = phaseIdle
	m.servePending()
}

func (m *machine) serveStat(payload []byte) error {
	o := new(wire.StatReplica)
	if err := wire.DecodeBody(payload, o); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		m.reply(wire.Header{Op: wire.OpStatReply}, &wire.StatReply{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(m.node.id, "", err)})
		return nil
	}
	m.phase = phaseQuerying
	m.emit(effect{kind: effectQuery, query: query{stat: o}})
	return nil
}

func (m *machine) serveRecover(payload []byte) error {
	o := new(wire.RecoverReplica)
	if err := wire.DecodeBody(payload, o); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		m.reply(wire.Header{Op: wire.OpRecovered}, &wire.RecoverReply{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(m.node.id, "", err)})
		return nil
	}
	m.phase = phaseQuerying
	m.emit(effect{kind: effectQuery, query: query{recover: o}})
	return nil
}

func (m *machine) serveCopy(payload []byte) error {
	o := new(wire.CopyRange)
	if err := wire.DecodeBody(payload, o); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		m.reply(wire.Header{Op: wire.OpCopyReply}, &wire.CopyReply{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(m.node.id, "", err)})
		return nil
	}
	m.phase = phaseQuerying
	m.emit(effect{kind: effectQuery, query: query{copy: o}})
	return nil
}

// onQueryDone brings the body that answers a stat, recovery or copy.
func (m *machine) onQueryDone(op wire.Op, body any, now time.Duration) {
	m.now, m.lastReceived = now, now
	if m.phase != phaseQuerying {
		return
	}
	m.phase = phaseIdle
	m.reply(wire.Header{Op: op}, body)
	m.servePending()
}

// refuseNotReading ends a connection whose peer takes no replies.
func (m *machine) refuseNotReading(now time.Duration) {
	m.now = now
	if m.phase == phaseDead {
		return
	}
	m.count(reasonNotReading)
	switch m.phase {
	case phaseWriting:
		m.abortSession()
	case phaseRecording:
		m.abortRecords()
	case phaseReading:
		m.emit(effect{kind: effectCancelRead})
	}
	m.dropReceived()
	m.phase = phaseLingering
	m.lingerUntil = now
	m.emit(effect{kind: effectClose})
}
