package client

import (
	"context"
	"errors"
	"slices"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// letGo has the namenode close a visible file that this client stops writing.
// It asks first whether the lease is still ours: recovery would end anyone's.
func (c *Client) letGo(ctx context.Context, file uint64, path string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	err := c.closeByRecovery(ctx, file, path)
	if err != nil {
		c.logger.Warn("file not closed: it stays open until its lease ends", "path", path, "err", err)
	}
	return err
}

func (c *Client) closeByRecovery(ctx context.Context, file uint64, path string) error {
	a, err := ask(ctx, c, call{op: "renew leases", path: path}, controlpb.NamenodeClient.RenewLeases, &controlpb.RenewLeasesRequest{ClientId: c.id[:]})
	if err != nil || !slices.Contains(a.GetFileIds(), file) {
		return err
	}
	_, err = c.RecoverLease(ctx, path)
	if errors.Is(err, fault.NotFound) { // removed meanwhile
		return nil
	}
	return err
}

// abandon drops a file that was never completed. It goes on for a short time
// after the operation's own context has ended: that is when it is needed most.
func (c *Client) abandon(ctx context.Context, file uint64, path string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, err := mutate(ctx, c, call{op: "abandon", path: path}, controlpb.NamenodeClient.Abandon, func(h *controlpb.MutationHeader) *controlpb.AbandonRequest {
		return &controlpb.AbandonRequest{Header: h, FileId: file}
	})
	if err != nil {
		c.logger.Warn("file not abandoned: the namenode drops it when its lease ends", "path", path, "err", err)
	}
	return err
}
