package client

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/internal/fault"
)

// Checksum returns "xxh3-" and 16 hexadecimal digits that are the same for
// files of the same content and chunk size. The datanodes compute it from the
// checksums that they store; no content travels. It is
//
//	xxh3-64 of: chunk size u64, file length u64,
//	            then for each chunk, in order: digest u64, length u64
//
// all little endian, where a chunk's digest is the datanode's: xxh3-64 over the
// xxh3-64 of each 64 KiB block, the last one perhaps partial, and the length.
// Errors: fault.NotFound,
// fault.IsDirectory, fault.LeaseHeld while the file is being written,
// fault.Unavailable.
func (c *Client) Checksum(ctx context.Context, path string) (string, error) {
	const op = "checksum"
	path, err := cleanPath(op, path)
	if err != nil {
		return "", err
	}
	life, cancel := c.scope(ctx)
	defer cancel()
	view, err := c.view(life, op, path)
	if err != nil {
		return "", err
	}
	info := view.info()
	if info.Open {
		return "", &fault.Error{Kind: fault.LeaseHeld, Op: op, Path: path, Reason: "the file is being written", Hint: "try again when it is closed"}
	}
	count := int((info.Length + info.ChunkSize - 1) / info.ChunkSize)
	sums := make([]byte, 16+16*count)
	binary.LittleEndian.PutUint64(sums, uint64(info.ChunkSize))
	binary.LittleEndian.PutUint64(sums[8:], uint64(info.Length))
	group, ctx := errgroup.WithContext(life)
	group.SetLimit(c.options.ParallelChunks)
	for i := range count {
		length := min(info.ChunkSize, info.Length-int64(i)*info.ChunkSize)
		group.Go(func() error {
			digest, err := view.digest(ctx, i, length)
			binary.LittleEndian.PutUint64(sums[16+16*i:], digest)
			binary.LittleEndian.PutUint64(sums[24+16*i:], uint64(length))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", withPath(err, path)
	}
	return fmt.Sprintf("xxh3-%016x", xxh3.Hash(sums)), nil
}

// digest asks the replicas of a chunk, one after another, for its digest.
func (v *fileView) digest(ctx context.Context, index int, length int64) (uint64, error) {
	l, err := v.chunk(ctx, index)
	if err != nil {
		return 0, err
	}
	var failures []*fault.Error
	for _, at := range v.client.nodes.order(l.Replicas) {
		reply, err := v.client.statReplica(ctx, at, l.ID, true)
		if err == nil && (reply.Length != length || reply.Generation != uint64(l.Generation)) {
			err = datanode(fault.New(fault.StaleGeneration, "stat replica", "it has %d bytes at generation %d, wanted %d at %d", reply.Length, reply.Generation, length, l.Generation),
				"stat replica", at, l.ID.String())
		}
		if err == nil {
			return reply.Digest, nil
		}
		if ctx.Err() != nil {
			return 0, contextFault(ctx, "checksum", v.path, nil)
		}
		failures = append(failures, v.judge(err, at, l, 0, 0))
	}
	return 0, noReplica(l, failures)
}
