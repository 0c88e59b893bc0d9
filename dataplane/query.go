package dataplane

import (
	"context"

	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
)

// startQuery has a disk worker answer a stat or a recovery step, or the copier a
// copy.
func startQuery(c *connection, q machine.Query) {
	s := c.server
	if q.Copy != nil {
		startCopy(c, q.Copy)
		return
	}
	var id chunk.ID
	var op wire.Op
	var answer func() any
	if q.Stat != nil {
		id, _ = chunk.IDFrom(q.Stat.ChunkID)
		op, answer = wire.OpStatReply, func() any { return answerStat(s.store, s.node.ID, id, q.Stat.WithDigest) }
	} else {
		id, _ = chunk.IDFrom(q.Recover.ChunkID)
		op, answer = wire.OpRecovered, func() any { return answerRecover(s.store, s.node.ID, id, q.Recover) }
	}
	s.work.Add(1)
	err := s.store.Do(id, func() {
		defer s.work.Done()
		body := answer()
		c.loop.post(&event{connection: c, deliver: func() { c.machine.OnQueryDone(op, body, s.now()) }})
	})
	if err != nil {
		s.work.Done()
		status := wire.StatusOf(s.node.ID, id.String(), err)
		if q.Stat != nil {
			c.machine.OnQueryDone(op, &wire.StatReply{BodyVersion: wire.BodyVersion, Status: status}, s.now())
		} else {
			c.machine.OnQueryDone(op, &wire.RecoverReply{BodyVersion: wire.BodyVersion, Status: status}, s.now())
		}
	}
}

// answerStat runs on a disk worker.
func answerStat(store *disk.Store, nodeID string, id chunk.ID, withDigest bool) *wire.StatReply {
	reply := &wire.StatReply{BodyVersion: wire.BodyVersion}
	replica, err := store.Stat(id)
	if err == nil && withDigest {
		reply.Digest, err = store.Digest(id)
	}
	reply.Status = wire.StatusOf(nodeID, id.String(), err)
	reply.Generation, reply.Length, reply.State = uint64(replica.Generation), replica.Length, uint8(replica.State)
	return reply
}

// answerRecover runs on a disk worker.
func answerRecover(store *disk.Store, nodeID string, id chunk.ID, r *wire.RecoverReplica) *wire.RecoverReply {
	reply := &wire.RecoverReply{BodyVersion: wire.BodyVersion}
	var err error
	switch r.Phase {
	case wire.RecoverBegin:
		var found chunk.Replica
		found, reply.Restarted, err = store.BeginRecovery(id, chunk.Generation(r.Generation))
		reply.Generation, reply.Length, reply.State = uint64(found.Generation), found.Length, uint8(found.State)
	case wire.RecoverFinish:
		err = store.FinishRecovery(id, chunk.Generation(r.Generation), r.Length)
		reply.Generation, reply.Length, reply.State = r.Generation, r.Length, uint8(chunk.Sealed)
	}
	reply.Status = wire.StatusOf(nodeID, id.String(), err)
	return reply
}

// startCopy serves an OpCopy. When the connection closes, the copy is given up.
func startCopy(c *connection, o *wire.CopyRange) {
	s := c.server
	ctx, cancel := context.WithCancel(s.context)
	c.cancelQuery = cancel
	s.goroutines.Go(func() {
		defer cancel()
		reply := &wire.CopyReply{BodyVersion: wire.BodyVersion}
		var err error
		reply.Length, err = s.Copy(ctx, *o)
		reply.Status = wire.StatusOf(s.node.ID, idText(o.ChunkID), err)
		if err != nil {
			s.logger.Warn("copy failed", "chunk", idText(o.ChunkID), "gen", o.Generation, "err", err)
		}
		c.loop.post(&event{connection: c, deliver: func() { c.machine.OnQueryDone(wire.OpCopyReply, reply, s.now()) }})
	})
}

func idText(b []byte) string {
	id, err := chunk.IDFrom(b)
	if err != nil {
		return ""
	}
	return id.String()
}
