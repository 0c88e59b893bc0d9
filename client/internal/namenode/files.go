package namenode

import (
	"context"
	"errors"
	"slices"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// Complete commits the last chunks of a file and closes it. Error: fault.TooFewNodes at once, about a chunk that is on
// too few nodes to be committed.
func (c *Client) Complete(ctx context.Context, file uint64, path string,
	commits []*controlpb.ChunkCommit) (*controlpb.FileInfo, error) {
	answer, err := Mutate(ctx, c, Call{Op: "complete", Path: path,
		Impatient: []fault.Kind{fault.TooFewNodes}}, controlpb.NamenodeClient.Complete,
		&controlpb.CompleteRequest{Header: &controlpb.MutationHeader{}, FileId: file, Commits: commits})
	return answer.GetInfo(), err
}

// Abandon drops a file that was never completed. It goes on for a short time after ctx has ended: that is when it is
// needed most. A failure is logged too.
func (c *Client) Abandon(ctx context.Context, file uint64, path string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, err := Mutate(ctx, c, Call{Op: "abandon", Path: path}, controlpb.NamenodeClient.Abandon,
		&controlpb.AbandonRequest{Header: &controlpb.MutationHeader{}, FileId: file})
	if err != nil {
		c.options.Logger.Warn("file not abandoned: the namenode drops it when its lease ends", "path", path, "err", err)
	}
	return err
}

// CloseUnfinished has the namenode close a visible file that this client stops writing, at what its replicas hold. It
// goes on for a short time after ctx has ended. A failure is logged too.
func (c *Client) CloseUnfinished(ctx context.Context, file uint64, path string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	err := c.closeByRecovery(ctx, file, path)
	if err != nil {
		c.options.Logger.Warn("file not closed: it stays open until its lease ends", "path", path, "err", err)
	}
	return err
}

// closeByRecovery asks first whether the lease is still ours: recovery would end anyone's.
func (c *Client) closeByRecovery(ctx context.Context, file uint64, path string) error {
	held, err := c.RenewLeases(ctx, path)
	if err != nil || !slices.Contains(held, file) {
		return err
	}
	_, err = c.RecoverLease(ctx, Call{Op: "recover lease", Path: path})
	if errors.Is(err, fault.NotFound) { // removed meanwhile
		return nil
	}
	return err
}

// RenewLeases renews all leases of this client and returns the ids of the files. path is for the error; it may be
// empty.
func (c *Client) RenewLeases(ctx context.Context, path string) ([]uint64, error) {
	answer, err := c.renewLeases(ctx, path)
	return answer.GetFileIds(), err
}

func (c *Client) renewLeases(ctx context.Context, path string) (*controlpb.RenewLeasesResponse, error) {
	return Ask(ctx, c, Call{Op: "renew leases", Path: path}, controlpb.NamenodeClient.RenewLeases,
		&controlpb.RenewLeasesRequest{ClientId: c.options.ID[:]})
}

// RecoverLease ends the lease of a file, whoever holds it; closed is false while that still runs.
func (c *Client) RecoverLease(ctx context.Context, what Call) (closed bool, err error) {
	answer, err := Mutate(ctx, c, what, controlpb.NamenodeClient.RecoverLease,
		&controlpb.RecoverLeaseRequest{Header: &controlpb.MutationHeader{}, Path: what.Path})
	return answer.GetClosed(), err
}
