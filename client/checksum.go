package client

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/internal/fault"
)

// Checksum returns "xxh3-" and 16 hexadecimal digits that are the same for files of the same content and chunk size.
// The datanodes compute it from the checksums that they store; no content travels. It is
//
//	xxh3-64 of: chunk size u64, file length u64,
//	            then for each chunk, in order: digest u64, length u64
//
// all little endian, where a chunk's digest is the datanode's: xxh3-64 over the xxh3-64 of each 64 KiB block, the last
// one perhaps partial, and the length. Errors: fault.NotFound, fault.IsDirectory, fault.LeaseHeld while the file is
// being written, fault.Unavailable.
func (c *Client) Checksum(ctx context.Context, path string) (string, error) {
	what := clean("checksum", &path)
	life, cancel := c.life.Scope(ctx)
	defer cancel()
	file, err := c.views.Open(life, what)
	if err != nil {
		return "", err
	}
	info := fileInfo(path, file.Info())
	if info.Open {
		return "", &fault.Error{Kind: fault.LeaseHeld, Op: what.Op, Path: path, Reason: "the file is being written",
			Hint: "try again when it is closed"}
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
			digest, err := file.Digest(ctx, i, length)
			binary.LittleEndian.PutUint64(sums[16+16*i:], digest)
			binary.LittleEndian.PutUint64(sums[24+16*i:], uint64(length))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", fault.WithPath(err, path)
	}
	return fmt.Sprintf("xxh3-%016x", xxh3.Hash(sums)), nil
}
