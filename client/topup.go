package client

import (
	"context"
	"errors"
	"slices"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// The namenode refuses a commit of a chunk that is on fewer nodes than it needs: namenode.write_copies_min was raised
// since the chunk's pipeline was made. Then the chunk gets more copies, and the request is sent again.

// addChunks is namenode.AddChunks with copies as they are needed. In the allocation commits are replaced.
func (c *Client) addChunks(ctx context.Context, what namenode.Call, a namenode.Allocation,
	options pipeline.StreamOptions) (chunks []namenode.Chunk, err error) {
	err = c.withCopies(ctx, a.Commits, options, func() error {
		chunks, err = c.namenode.AddChunks(ctx, what, a)
		return err
	})
	return chunks, err
}

// complete is namenode.Complete with copies as they are needed. hold keeps the lease, which is dropped for the request:
// from there on the namenode may say that we hold none because we are done.
func (c *Client) complete(ctx context.Context, commits []*controlpb.ChunkCommit, options pipeline.StreamOptions,
	hold func()) (info *controlpb.FileInfo, err error) {
	err = c.withCopies(ctx, commits, options, func() error {
		c.leases.Drop(options.File)
		info, err = c.namenode.Complete(ctx, options.File, options.Path, commits)
		if errors.Is(err, fault.TooFewNodes) {
			hold()
		}
		return err
	})
	c.leases.Drop(options.File)
	return info, err
}

// withCopies sends a request with commits, once more for each that is refused at most.
func (c *Client) withCopies(ctx context.Context, commits []*controlpb.ChunkCommit, options pipeline.StreamOptions,
	request func() error) error {
	for left := len(commits); ; left-- {
		err := request()
		var refusal *fault.Error
		if !errors.Is(err, fault.TooFewNodes) || !errors.As(err, &refusal) || left == 0 {
			return err
		}
		at := slices.IndexFunc(commits, func(commit *controlpb.ChunkCommit) bool {
			id, _ := chunk.IDFrom(commit.GetChunkId())
			return id.String() == refusal.Chunk
		})
		if at < 0 {
			return err
		}
		stream := c.pipelines.ResealStream(ctx, commits[at], err, options)
		if err := stream.AwaitSeal(ctx); err != nil {
			return stream.Kill(err)
		}
		commits[at] = stream.Commit()
	}
}
