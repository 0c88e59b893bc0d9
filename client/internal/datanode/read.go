package datanode

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Range names the bytes of one replica that a read asks for.
type Range struct {
	ID       chunk.ID
	Minimum  chunk.Generation // an older replica refuses
	Offset   int64            // in the chunk
	Patience time.Duration    // how long the datanode may be silent
}

// Read fills p with the bytes of one replica from the range's offset on, and verifies every checksum block it reads. It
// returns how many bytes of p are verified, and the replica's visible length. Bytes of p beyond n may be scribbled
// over.
//
// n < len(p) without error means that the replica ends at Offset+n. Errors are *fault.Error with node, address and
// chunk; fault.CorruptData if a block does not match its checksum.
func (c *Client) Read(ctx context.Context, at wire.Hop, what Range,
	buffer []byte) (verified int, visible int64, err error) {
	const op = "read chunk"
	if err := c.Bandwidth.Wait(ctx, len(buffer)); err != nil {
		return 0, 0, Fault(lifetime.Ended(ctx, op, "", nil), op, at, what.ID.String())
	}
	began := c.Clock.Now()
	request := &wire.OpenRead{BodyVersion: wire.BodyVersion, ChunkID: what.ID[:], MinGeneration: uint64(what.Minimum),
		Offset: what.Offset, Length: int64(len(buffer))}
	answer := func(conn *Connection) (reusable bool, err error) {
		var reply wire.ReadReply
		if err := conn.Expect(wire.OpReadReply, &reply, time.Now().Add(what.Patience)); err != nil {
			return false, err
		}
		if reply.Status.Code != 0 {
			return true, reply.Status.Err(op, at.Address)
		}
		if err := checkReply(&reply, what.Offset, int64(len(buffer))); err != nil {
			return false, err
		}
		visible = reply.ReplicaLength
		blocks := blockReader{client: c, conn: conn, reply: &reply, what: what, p: buffer}
		verified, err = blocks.readAll()
		return err == nil, err
	}
	if err = c.exchange(ctx, at.Address, what.Patience, wire.OpOpenRead, request, answer); err != nil {
		return verified, visible, Fault(err, op, at, what.ID.String())
	}
	took := c.Clock.Now().Sub(began)
	c.Times.Note(took)
	c.Nodes.SlowReads.Note(at.Address, len(buffer), took)
	return verified, visible, nil
}

// checkReply refuses a reply that does not answer the request: its range must be the wanted one, rounded out to blocks
// and cut at the replica's end. A range that is answered in part begins where it should.
func checkReply(reply *wire.ReadReply, offset, length int64) error {
	if err := reply.Validate(); err != nil {
		return err
	}
	block := int64(reply.BlockBytes)
	if block != chunk.ChecksumBlockBytes {
		return fault.New(fault.Version, "read chunk",
			"the replica has checksum blocks of %d bytes, this client knows %d", block, chunk.ChecksumBlockBytes)
	}
	if reply.DataLength == 0 {
		if reply.ReplicaLength > offset && length > 0 {
			return fault.New(fault.Protocol, "read chunk", "no data at %d, but the replica has %d bytes", offset,
				reply.ReplicaLength)
		}
		return nil
	}
	end := min((offset+length+block-1)/block*block, reply.ReplicaLength)
	switch got := reply.DataOffset + reply.DataLength; {
	case reply.DataOffset != offset/block*block, got > end, got < end && got%block != 0, got <= offset && end > offset:
		return fault.New(fault.Protocol, "read chunk", "asked for %d+%d of %d bytes, got %d+%d", offset, length,
			reply.ReplicaLength, reply.DataOffset, reply.DataLength)
	}
	return nil
}

// blockReader reads the raw bytes behind a reply into p, whose first byte is the one at what.Offset of the chunk.
type blockReader struct {
	client *Client
	conn   *Connection
	reply  *wire.ReadReply
	what   Range
	p      []byte
}

// Read waits for bytes: each piece that comes, however small, gives the datanode another while.
func (r *blockReader) Read(p []byte) (int, error) {
	if err := r.conn.readBy(time.Now().Add(r.what.Patience)); err != nil {
		return 0, err
	}
	return r.conn.Packets.Read(p)
}

// readAll reads all blocks and returns how many bytes of p are good. Blocks that lie wholly in p go straight there, the
// ends go through a block of their own.
func (r *blockReader) readAll() (good int, err error) {
	const block = chunk.ChecksumBlockBytes
	end := r.reply.DataOffset + r.reply.DataLength
	for at := r.reply.DataOffset; at < end; {
		sums := r.reply.Sums[(at-r.reply.DataOffset)/block*8:]
		into := at - r.what.Offset // index in p of the block's first byte
		if into >= 0 && into+min(block, end-at) <= int64(len(r.p)) {
			// A run of blocks with few calls.
			run := min(end-at, (int64(len(r.p)) - into), readRunBytes)
			if at+run < end {
				run = run / block * block
			}
			piece := r.p[into : into+run]
			if _, err := io.ReadFull(r, piece); err != nil {
				return good, r.conn.Fault(err)
			}
			verified, err := verifyBlocks(piece, sums, at)
			good = int(into) + verified
			if err != nil {
				return good, err
			}
			at += run
			continue
		}
		size := min(block, end-at)
		if err := r.readEdge(sums, at, size, &good); err != nil {
			return good, err
		}
		at += size
	}
	return good, nil
}

// readEdge reads the block at an offset of the chunk, of which p holds only a part.
func (r *blockReader) readEdge(sums []byte, at, size int64, good *int) error {
	buffer := r.client.Buffers.Get(int(size))
	defer buffer.Release()
	edge := buffer.Bytes()
	if _, err := io.ReadFull(r, edge); err != nil {
		return r.conn.Fault(err)
	}
	if _, err := verifyBlocks(edge, sums, at); err != nil {
		return err
	}
	if offset := r.what.Offset; at < offset {
		edge = edge[min(offset-at, size):]
		at = offset
	}
	*good = int(at-r.what.Offset) + copy(r.p[at-r.what.Offset:], edge)
	return nil
}

// verifyBlocks checks the blocks in b, which begin at offset of the chunk, against their sums. It returns how many
// bytes, from the first, are good.
func verifyBlocks(b, sums []byte, offset int64) (good int, err error) {
	for good < len(b) {
		size := min(chunk.ChecksumBlockBytes, len(b)-good)
		got, want := xxh3.Hash(b[good:good+size]), binary.LittleEndian.Uint64(sums)
		if got != want {
			return good, fault.New(fault.CorruptData, "read chunk",
				"the block at %d of the chunk has checksum %016x, stored is %016x", offset+int64(good), got, want)
		}
		good += size
		sums = sums[8:]
	}
	return good, nil
}
