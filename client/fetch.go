package client

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/view"
	"github.com/whispering-woods/ww/internal/fault"
)

// Fetch copies a whole file to target, several pieces at once, every byte verified. Of a file being written it copies
// what was visible when it began; the result's Length is what was copied. target is written from several goroutines,
// each byte once unless an error ends it. Errors: those of Open and FileReader.ReadAt, those of the target (as the
// cause).
func (c *Client) Fetch(ctx context.Context, path string, target io.WriterAt, options FetchOptions) (FileInfo, error) {
	what := clean("fetch", &path)
	life, cancel := c.life.Scope(ctx)
	defer cancel()
	file, err := c.views.Open(life, what)
	if err != nil {
		return FileInfo{}, err
	}
	length, err := file.Extend(life, false)
	if err != nil {
		return FileInfo{}, err
	}
	size := file.Info().GetChunkSize()
	group, ctx := errgroup.WithContext(life)
	group.SetLimit(c.options.ParallelChunks)
	for at := int64(0); at < length && ctx.Err() == nil; {
		// A unit ends at a chunk's border or at a multiple of its size in it.
		inChunk := at % size
		n := min(fetchUnitBytes-inChunk%fetchUnitBytes, size-inChunk, length-at)
		unit := fetchUnit{client: c, view: file, chunk: int(at / size), inChunk: inChunk, offset: at, length: n,
			target: target, progress: options.Progress}
		group.Go(func() error { return unit.run(ctx) })
		at += n
	}
	if err := group.Wait(); err != nil {
		return FileInfo{}, err
	}
	if life.Err() != nil {
		return FileInfo{}, lifetime.Ended(life, what.Op, path, nil)
	}
	info := fileInfo(path, file.Info())
	info.Length = length
	return info, nil
}

// fetchUnit is a range of one chunk on its way to the target.
type fetchUnit struct {
	client   *Client
	view     *view.View
	chunk    int
	inChunk  int64 // offset in the chunk
	offset   int64 // offset in the file
	length   int64
	target   io.WriterAt
	progress func(int64)
}

func (u fetchUnit) run(ctx context.Context) error {
	buffer := u.client.buffers.Get(int(min(u.length, segmentBytes)))
	defer buffer.Release()
	for done := int64(0); done < u.length; {
		piece := buffer.Bytes()[:min(u.length-done, segmentBytes)]
		if err := u.view.Read(ctx, u.chunk, u.inChunk+done, piece); err != nil {
			return err
		}
		if n, err := u.target.WriteAt(piece, u.offset+done); err != nil || n < len(piece) {
			if err == nil {
				err = io.ErrShortWrite
			}
			return &fault.Error{Kind: fault.Disk, Op: "write target", Path: u.view.Path(),
				Reason: "the target cannot be written", Err: err}
		}
		done += int64(len(piece))
		if u.progress != nil {
			u.progress(int64(len(piece)))
		}
	}
	return nil
}
