package dataplane

import (
	"context"

	"github.com/whispering-woods/ww/dataplane/copier"
	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// startQuery has a disk worker answer a stat or a recovery step, the copier a copy, and a goroutine what an operator
// asks.
func startQuery(conn *connection, query machine.Query) {
	server := conn.server
	conn.copied = nil
	if query.Copy != nil {
		startCopy(conn, query.Copy)
		return
	}
	if query.Scrub != nil {
		startScrub(conn, query.Scrub)
		return
	}
	if query.Trash != nil {
		startTrash(conn, query.Trash)
		return
	}
	if query.Disks != nil {
		startDisks(conn, query.Disks)
		return
	}
	var id chunk.ID
	var op wire.Op
	var answer func() any
	if query.Stat != nil {
		id, _ = chunk.IDFrom(query.Stat.ChunkID)
		op, answer = wire.OpStatReply, func() any {
			return answerStat(server.store, server.node.ID, id, query.Stat.WithDigest)
		}
	} else {
		id, _ = chunk.IDFrom(query.Recover.ChunkID)
		op, answer = wire.OpRecovered, func() any {
			return answerRecover(server.store, server.node.ID, id, query.Recover)
		}
	}
	if err := server.onWorker(id, func() { conn.answer(op, answer()) }); err != nil {
		op, body := query.Refusal(wire.StatusOf(server.node.ID, id.String(), err))
		conn.machine.OnQueryDone(op, body, server.now())
	}
}

// onWorker has a chunk's disk worker run f; Close waits for it. Errors: those of disk.Store.Do.
func (s *Server) onWorker(id chunk.ID, f func()) error {
	s.work.Add(1)
	err := s.store.Do(id, func() {
		defer s.work.Done()
		f()
	})
	if err != nil {
		s.work.Done()
	}
	return err
}

// answer has the loop tell the machine what came of a query. Any goroutine.
func (c *connection) answer(op wire.Op, body any) {
	c.loop.post(&event{connection: c, deliver: func() { c.machine.OnQueryDone(op, body, c.server.now()) }})
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
func startCopy(conn *connection, order *wire.CopyRange) {
	server := conn.server
	ctx, cancel := context.WithCancel(server.context)
	progress := new(copier.Progress)
	conn.cancelQuery, conn.copied = cancel, progress
	server.goroutines.Go(func() {
		defer cancel()
		result, err := server.copy(ctx, copier.Order{CopyRange: *order}, progress)
		reply := &wire.CopyReply{BodyVersion: wire.BodyVersion, Length: result.Length,
			Status: wire.StatusOf(server.node.ID, idText(order.ChunkID), err)}
		if err != nil {
			server.logger.Warn("copy failed", "chunk", idText(order.ChunkID), "gen", order.Generation, "err", err)
		}
		conn.answer(wire.OpCopyReply, reply)
	})
}

// startScrub serves an OpScrub. One replica is read whole, on a goroutine: disk workers have writers to serve.
func startScrub(conn *connection, order *wire.Scrub) {
	server := conn.server
	server.goroutines.Go(func() {
		reply := &wire.ScrubReply{BodyVersion: wire.BodyVersion}
		if len(order.ChunkID) > 0 {
			id, _ := chunk.IDFrom(order.ChunkID)
			reply.Status = wire.StatusOf(server.node.ID, id.String(), server.store.ScrubReplica(id))
		} else {
			reply.Volumes = scrubVolumes(server, order.Begin)
		}
		conn.answer(wire.OpScrubReply, reply)
	})
}

// scrubVolumes tells how far the scrub of every volume is, and begins a pass if it shall.
func scrubVolumes(server *Server, begin bool) []wire.ScrubVolume {
	var wanted map[string]uint64
	if begin {
		wanted = server.store.Scrub()
	}
	var list []wire.ScrubVolume
	for _, v := range server.store.Volumes() {
		if v.Healthy {
			list = append(list, wire.ScrubVolume{VolumeID: v.ID, Passes: v.Scrub.Passes, Wanted: wanted[v.ID],
				Percent: v.Scrub.Percent, Replicas: v.Scrub.Replicas, Bytes: v.Scrub.Bytes, Bad: v.Scrub.Bad})
		}
	}
	return list
}

// startTrash serves an OpTrash on a goroutine: it may take long, and a disk that hangs shall hold up nothing else.
func startTrash(conn *connection, order *wire.Trash) {
	server := conn.server
	server.goroutines.Go(func() {
		reply := &wire.TrashReply{BodyVersion: wire.BodyVersion}
		id, _ := chunk.IDFrom(order.ChunkID)
		generation := chunk.Generation(order.Generation)
		var err error
		switch order.Action {
		case wire.TrashList:
			reply.Entries = trashEntries(server.store.Trash(id, order.Number, wire.TrashListMax))
		case wire.TrashRestore:
			err = server.store.Restore(id, generation, order.Number)
		case wire.TrashEmpty:
			err = server.store.EmptyTrash(id, generation, order.Number)
		}
		if order.Action != wire.TrashList {
			server.logger.Info("an operator asked for the trash", "restore", order.Action == wire.TrashRestore,
				"chunk", id, "gen", generation, "err", err)
		}
		reply.Status = wire.StatusOf(server.node.ID, idText(order.ChunkID), err)
		conn.answer(wire.OpTrashReply, reply)
	})
}

func trashEntries(list []disk.Trashed) []wire.TrashEntry {
	entries := make([]wire.TrashEntry, 0, len(list))
	for _, t := range list {
		entries = append(entries, wire.TrashEntry{ChunkID: t.ID[:], Generation: uint64(t.Generation), Length: t.Length,
			State: uint8(t.State), VolumeID: t.VolumeID, DeletedNanos: t.Deleted.UnixNano(),
			UntilNanos: t.Until.UnixNano(), Number: t.Number})
	}
	return entries
}

// startDisks serves an OpDisks on a goroutine: it waits for disks.
func startDisks(conn *connection, order *wire.Disks) {
	server := conn.server
	server.goroutines.Go(func() {
		reply := &wire.DisksReply{BodyVersion: wire.BodyVersion}
		var volume datanode.VolumeState
		var err error
		switch order.Action {
		case wire.DiskAdd:
			volume, err = server.store.AddDisk(order.Directory)
		case wire.DiskRemove:
			volume, err = server.store.RemoveDisk(order.Disk)
		case wire.DiskKeep:
			volume, err = server.store.KeepDisk(order.Disk)
		case wire.DiskReplace:
			volume, err = server.store.ReplaceDisk(order.Disk, order.Directory)
		}
		reply.VolumeID, reply.Directory, reply.State = volume.ID, volume.Directory, volume.Health.String()
		reply.Replicas = volume.Replicas
		if order.Action == wire.DiskRemove && volume.Health != datanode.VolumeDraining {
			reply.State, reply.Note = "removed", volume.Error
		}
		server.logger.Info("an operator changes the disks", "action", order.Action, "disk", order.Disk,
			"directory", order.Directory, "err", err)
		reply.Status = wire.StatusOf(server.node.ID, "", err)
		conn.answer(wire.OpDisksReply, reply)
	})
}

func idText(b []byte) string {
	id, err := chunk.IDFrom(b)
	if err != nil {
		return ""
	}
	return id.String()
}
