package datanode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options configures a Client. All fields are needed.
type Options struct {
	DialTimeout time.Duration
	DataTimeout time.Duration // bounds how long a datanode may owe an answer
	// SilenceTimeout bounds how long a datanode that owes an answer to a request with wire.FlagAlive says nothing at
	// all, not even that it lives.
	SilenceTimeout time.Duration
	Bandwidth      *Bandwidth
	Buffers        *bufpool.Pool
	Nodes          *health.Nodes
	Times          *health.ReadTimes
	Clock          clock.Clock
}

// Client asks datanodes. Safe for concurrent use.
type Client struct {
	Options
	Pool *Pool
}

// New makes a client without connections.
func New(o Options) *Client {
	return &Client{Options: o, Pool: newPool(net.Dialer{Timeout: o.DialTimeout}, o.Clock)}
}

// Begin sends the first packet of a session, with perhaps more bytes behind it, and does not wait for the answer. ctx
// and deadline bound this call alone. The caller has to return the connection to Pool.
//
// A connection that was idle may have been closed by the datanode at any moment, which only sending can show: then
// another one is tried, until a new one fails. Nothing is sent twice to the datanode for it, because it reads nothing
// from a connection that it has closed.
func (c *Client) Begin(ctx context.Context, address string, deadline time.Time, op wire.Op, body any,
	more []byte) (*Connection, error) {
	for {
		conn, err := c.Pool.Get(ctx, address)
		if err != nil {
			return nil, err
		}
		stop := conn.Watch(ctx)
		err = conn.Request(op, body, deadline, more)
		if stop() && err == nil {
			return conn, nil
		}
		c.Pool.Discard(conn)
		switch {
		case conn.reused && ctx.Err() == nil:
			continue
		case err == nil:
			err = ctx.Err()
		}
		return nil, err
	}
}

// exchange sends a request to a datanode and calls answer to read what comes back. patience bounds how long connecting
// takes. A pooled connection that turns out to be closed is replaced, for as long as DialTimeout. answer says whether
// the connection is in order afterwards; it may run twice.
func (c *Client) exchange(ctx context.Context, address string, patience time.Duration, op wire.Op, body any,
	answer func(*Connection) (reusable bool, err error)) error {
	for began := time.Now(); ; {
		dialling, cancel := context.WithTimeout(ctx, patience)
		conn, err := c.Pool.Get(dialling, address)
		cancel()
		if err != nil {
			return err
		}
		stop := conn.Watch(ctx)
		var reusable bool
		if err = conn.Request(op, body, time.Now().Add(c.DataTimeout), nil); err == nil {
			reusable, err = answer(conn)
		}
		inTime := stop()
		if reusable && inTime {
			c.Pool.Put(conn)
			return err
		}
		c.Pool.Discard(conn)
		switch {
		case ctx.Err() != nil:
			return lifetime.Ended(ctx, "ask datanode", "", nil)
		case err != nil && conn.reused && errors.Is(err, fault.Unavailable) && !Silent(err) &&
			time.Since(began) < c.DialTimeout:
			continue
		}
		return err
	}
}

// Patience is how long a datanode that owes a reader something may be silent if no other can be asked: its disk may be
// busy. It is shorter than a writer's, which has to wait for the hops to find out among themselves who is late.
func (c *Client) Patience() time.Duration { return c.DataTimeout / 3 }

// ShortPatience is Patience while others can be asked.
func (c *Client) ShortPatience() time.Duration { return min(c.Patience(), shortPatience) }

// Stat asks one datanode about its replica. It may be silent for as long as patience.
func (c *Client) Stat(ctx context.Context, at wire.Hop, id chunk.ID, digest bool,
	patience time.Duration) (wire.StatReply, error) {
	const op = "stat replica"
	var reply wire.StatReply
	request := &wire.StatReplica{BodyVersion: wire.BodyVersion, ChunkID: id[:], WithDigest: digest}
	answer := func(conn *Connection) (reusable bool, err error) {
		reply = wire.StatReply{}
		if err := conn.Expect(wire.OpStatReply, &reply, time.Now().Add(patience)); err != nil {
			return false, err
		}
		return true, reply.Status.Err(op, at.Address)
	}
	err := c.exchange(ctx, at.Address, patience, wire.OpStat, request, answer)
	if err != nil {
		return wire.StatReply{}, Fault(err, op, at, id.String())
	}
	return reply, nil
}

// Copy has the datanode at to pull a replica. It returns when the replica is whole there, or with an error that is
// Stalled when it has waited for its disk, which took no byte, for as long as patience, 0 for ever. While it tells no
// progress, because it waits for something else or its release tells none, it need only live.
func (c *Client) Copy(ctx context.Context, to wire.Hop, order *wire.CopyRange, patience time.Duration) error {
	const op = "copy replica"
	answer := func(conn *Connection) (reusable bool, err error) {
		var reply wire.CopyReply
		var progress uint64
		var moved time.Time
		heard := func(said wire.Alive) error {
			now := time.Now()
			if said.Progress == 0 || said.Progress != progress {
				progress, moved = said.Progress, now
			}
			if patience > 0 && now.Sub(moved) >= patience {
				return &fault.Error{Kind: fault.Unavailable, Op: op, Err: errStalled,
					Reason: fmt.Sprintf("its copy has not moved for %s", patience)}
			}
			return nil
		}
		deadline := time.Now().Add(c.DataTimeout + time.Duration(order.Length/copyRateLeast)*time.Second)
		if err := conn.ExpectAlive(wire.OpCopyReply, &reply, c.SilenceTimeout, deadline, heard); err != nil {
			return false, err
		}
		if err := reply.Validate(); err != nil {
			return false, err
		}
		if err := reply.Status.Err(op, to.Address); err != nil {
			return true, err
		}
		if reply.Length < order.Length {
			return true, fault.New(fault.Protocol, op, "%d bytes were copied, %d are wanted", reply.Length,
				order.Length)
		}
		return true, nil
	}
	return c.exchange(ctx, to.Address, c.DialTimeout, wire.OpCopy, order, answer)
}

// Scrub has a datanode verify the replica of a chunk, of so many bytes, or tell how far the scrub of all of them is;
// the zero id means all.
func (c *Client) Scrub(ctx context.Context, at wire.Hop, id chunk.ID, length int64,
	begin bool) (reply wire.ScrubReply, err error) {
	const op = "scrub"
	request, chunkID := &wire.Scrub{BodyVersion: wire.BodyVersion, Begin: begin}, ""
	if !id.IsZero() {
		request.ChunkID, chunkID = id[:], id.String()
	}
	patience := c.DataTimeout + time.Duration(length/copyRateLeast)*time.Second
	answer := func(conn *Connection) (reusable bool, err error) {
		reply = wire.ScrubReply{}
		if err := conn.Expect(wire.OpScrubReply, &reply, time.Now().Add(patience)); err != nil {
			return false, err
		}
		return true, reply.Status.Err(op, at.Address)
	}
	if err := c.exchange(ctx, at.Address, c.DialTimeout, wire.OpScrub, request, answer); err != nil {
		return wire.ScrubReply{}, Fault(err, op, at, chunkID)
	}
	return reply, nil
}

// Disks has a datanode change its disks.
func (c *Client) Disks(ctx context.Context, at wire.Hop, request *wire.Disks) (reply wire.DisksReply, err error) {
	answer := func(conn *Connection) (reusable bool, err error) {
		reply = wire.DisksReply{}
		if err := conn.Expect(wire.OpDisksReply, &reply, time.Now().Add(disksTimeout)); err != nil {
			return false, err
		}
		return true, reply.Status.Err("change disks", at.Address)
	}
	if err := c.exchange(ctx, at.Address, c.DialTimeout, wire.OpDisks, request, answer); err != nil {
		return wire.DisksReply{}, Fault(err, "change disks", at, "")
	}
	return reply, nil
}

// Trash asks a datanode about its trash, or has it restore or forget one replica of it.
func (c *Client) Trash(ctx context.Context, at wire.Hop, request *wire.Trash) (reply wire.TrashReply, err error) {
	const op = "trash"
	chunkID := ""
	if id, err := chunk.IDFrom(request.ChunkID); err == nil {
		chunkID = id.String()
	}
	answer := func(conn *Connection) (reusable bool, err error) {
		reply = wire.TrashReply{}
		if err := conn.Expect(wire.OpTrashReply, &reply, time.Now().Add(c.DataTimeout)); err != nil {
			return false, err
		}
		return true, reply.Status.Err(op, at.Address)
	}
	if err := c.exchange(ctx, at.Address, c.DialTimeout, wire.OpTrash, request, answer); err != nil {
		return wire.TrashReply{}, Fault(err, op, at, chunkID)
	}
	return reply, nil
}
