package client

import (
	"context"
	"errors"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// statReplica asks one datanode about its replica.
func (c *Client) statReplica(ctx context.Context, at Replica, id chunk.ID, digest bool) (wire.StatReply, error) {
	var reply wire.StatReply
	err := c.exchange(ctx, at, wire.OpStat, &wire.StatReplica{BodyVersion: wire.BodyVersion, ChunkID: id[:], WithDigest: digest}, func(conn *connection) (reusable bool, err error) {
		reply = wire.StatReply{}
		if err := conn.expect(wire.OpStatReply, &reply, c.readDeadline()); err != nil {
			return false, err
		}
		return true, reply.Status.Err("stat replica", at.Address)
	})
	if err != nil {
		return wire.StatReply{}, datanode(err, "stat replica", at, id.String())
	}
	return reply, nil
}

// exchange sends a request to a datanode and lets answer read what comes back.
// A pooled connection that turns out to be closed is replaced once. answer says
// whether the connection is in order afterwards; it may run twice.
func (c *Client) exchange(ctx context.Context, at Replica, op wire.Op, body any, answer func(*connection) (reusable bool, err error)) error {
	for began := time.Now(); ; {
		conn, err := c.pool.get(ctx, at.Address)
		if err != nil {
			return err
		}
		stop := conn.watch(ctx)
		var reusable bool
		if err = conn.request(op, body, time.Now().Add(c.options.DataTimeout), nil); err == nil {
			reusable, err = answer(conn)
		}
		inTime := stop()
		if reusable && inTime {
			c.pool.put(conn)
			return err
		}
		c.pool.discard(conn)
		switch {
		case ctx.Err() != nil:
			return contextFault(ctx, "ask datanode", "", nil)
		case err != nil && conn.reused && errors.Is(err, fault.Unavailable) && time.Since(began) < c.options.DialTimeout:
			continue
		}
		return err
	}
}

// readDeadline is when a datanode that owes a reader something is given up for
// the next one. It is shorter than a writer's, which has to wait for the hops
// to find out among themselves who hangs.
func (c *Client) readDeadline() time.Time { return time.Now().Add(c.options.DataTimeout / 3) }
