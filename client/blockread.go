package client

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// readReplica fills p with the bytes of one replica from offset on, and
// verifies every checksum block it reads. It returns how many bytes of p are
// verified, and the replica's visible length. Bytes of p beyond n may be
// scribbled over.
//
// n < len(p) without error means that the replica ends at offset+n. Errors are
// *fault.Error with node, address and chunk; fault.CorruptData if a block does
// not match its checksum.
func (c *Client) readReplica(ctx context.Context, at Replica, id chunk.ID, minimum chunk.Generation, offset int64, p []byte) (n int, visible int64, err error) {
	if err := c.allow(ctx, len(p)); err != nil {
		return 0, 0, datanode(contextFault(ctx, "read chunk", "", nil), "read chunk", at, id.String())
	}
	began := c.clock.Now()
	request := &wire.OpenRead{BodyVersion: wire.BodyVersion, ChunkID: id[:], MinGeneration: uint64(minimum), Offset: offset, Length: int64(len(p))}
	err = c.exchange(ctx, at, wire.OpOpenRead, request, func(conn *connection) (reusable bool, err error) {
		var reply wire.ReadReply
		if err := conn.expect(wire.OpReadReply, &reply, c.readDeadline()); err != nil {
			return false, err
		}
		if reply.Status.Code != 0 {
			return true, reply.Status.Err("read chunk", at.Address)
		}
		if err := checkReply(&reply, offset, int64(len(p))); err != nil {
			return false, err
		}
		visible = reply.ReplicaLength
		n, err = c.takeBlocks(conn, &reply, offset, p)
		return err == nil, err
	})
	if err != nil {
		return n, visible, datanode(err, "read chunk", at, id.String())
	}
	took := c.clock.Now().Sub(began)
	c.times.add(took)
	c.nodes.read(at.Address, len(p), took)
	return n, visible, nil
}

// checkReply refuses a reply that does not answer the request: its range must
// be the wanted one, rounded out to blocks and cut at the replica's end. A
// range that is answered in part begins where it should.
func checkReply(r *wire.ReadReply, offset, length int64) error {
	if err := r.Validate(); err != nil {
		return err
	}
	block := int64(r.BlockBytes)
	if block != chunk.ChecksumBlockBytes {
		return fault.New(fault.Version, "read chunk", "the replica has checksum blocks of %d bytes, this client knows %d", block, chunk.ChecksumBlockBytes)
	}
	if r.DataLength == 0 {
		if r.ReplicaLength > offset && length > 0 {
			return fault.New(fault.Protocol, "read chunk", "no data at %d, but the replica has %d bytes", offset, r.ReplicaLength)
		}
		return nil
	}
	end := min((offset+length+block-1)/block*block, r.ReplicaLength)
	switch got := r.DataOffset + r.DataLength; {
	case r.DataOffset != offset/block*block, got > end, got < end && got%block != 0, got <= offset && end > offset:
		return fault.New(fault.Protocol, "read chunk", "asked for %d+%d of %d bytes, got %d+%d", offset, length, r.ReplicaLength, r.DataOffset, r.DataLength)
	}
	return nil
}

// takeBlocks reads the raw bytes behind a reply. Blocks that lie wholly in p go
// straight there, the ends go through a block of their own.
func (c *Client) takeBlocks(conn *connection, r *wire.ReadReply, offset int64, p []byte) (n int, err error) {
	const block = chunk.ChecksumBlockBytes
	end := r.DataOffset + r.DataLength
	for at := r.DataOffset; at < end; {
		if err := conn.net.SetReadDeadline(c.readDeadline()); err != nil {
			return n, conn.fault(err)
		}
		sums := r.Sums[(at-r.DataOffset)/block*8:]
		into := at - offset // index in p of the block's first byte
		if into >= 0 && into+min(block, end-at) <= int64(len(p)) {
			// A run of blocks with one deadline and few calls.
			run := min(end-at, (int64(len(p)) - into), readRunBytes)
			if at+run < end {
				run = run / block * block
			}
			piece := p[into : into+run]
			if _, err := io.ReadFull(conn.packets, piece); err != nil {
				return n, conn.fault(err)
			}
			good, err := verifyBlocks(piece, sums, at)
			n = int(into) + good
			if err != nil {
				return n, err
			}
			at += run
			continue
		}
		size := min(block, end-at)
		if n, err = c.takeEdge(conn, sums, offset, at, size, p, n); err != nil {
			return n, err
		}
		at += size
	}
	return n, nil
}

// takeEdge reads a block that p holds only a part of.
func (c *Client) takeEdge(conn *connection, sums []byte, offset, at, size int64, p []byte, n int) (int, error) {
	edge := c.buffers.Get(int(size))
	defer edge.Release()
	b := edge.Bytes()
	if _, err := io.ReadFull(conn.packets, b); err != nil {
		return n, conn.fault(err)
	}
	if _, err := verifyBlocks(b, sums, at); err != nil {
		return n, err
	}
	if at < offset {
		b = b[min(offset-at, size):]
		at = offset
	}
	return int(at-offset) + copy(p[at-offset:], b), nil
}

// verifyBlocks checks the blocks in b, which begin at offset of the chunk,
// against their sums. It returns how many bytes, from the first, are good.
func verifyBlocks(b, sums []byte, offset int64) (good int, err error) {
	for good < len(b) {
		size := min(chunk.ChecksumBlockBytes, len(b)-good)
		got, want := xxh3.Hash(b[good:good+size]), binary.LittleEndian.Uint64(sums)
		if got != want {
			return good, fault.New(fault.CorruptData, "read chunk", "the block at %d of the chunk has checksum %016x, stored is %016x", offset+int64(good), got, want)
		}
		good += size
		sums = sums[8:]
	}
	return good, nil
}
