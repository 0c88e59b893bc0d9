package dataplane

import (
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
)

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
		conn.loop.post(&event{connection: conn,
			deliver: func() { conn.machine.OnQueryDone(wire.OpScrubReply, reply, server.now()) }})
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
