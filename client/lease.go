package client

import (
	"context"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// leaseKeeper renews the leases of all files that the client writes, with one
// call for all, and keeps their write sessions alive. Its two goroutines run only
// while at least one is open. Safe for
// concurrent use.
type leaseKeeper struct {
	client *Client
	mu     struct {
		sync.Mutex
		// holders: who to tell that a file's lease is lost. round is the number
		// of renewals begun when the file was added.
		holders map[uint64]leaseHolder
		rounds  uint64
		stop    context.CancelFunc // of the running goroutine; nil: none
	}
}

type leaseHolder struct {
	round uint64
	lost  func(error)
	beat  func() // keeps an idle write session alive; nil: there is none
}

func newLeaseKeeper(c *Client) *leaseKeeper {
	k := &leaseKeeper{client: c}
	k.mu.holders = make(map[uint64]leaseHolder)
	return k
}

// add keeps the lease of a file until drop. lost is called, once and from
// another goroutine, when the namenode says that the client no longer holds it;
// beat every Options.KeepAlive.
func (k *leaseKeeper) add(file uint64, lost func(error), beat func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.holders[file] = leaseHolder{k.mu.rounds, lost, beat}
	if k.mu.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(k.client.ctx)
	if k.client.start(func() { k.run(ctx) }) && k.client.start(func() { k.beat(ctx) }) {
		k.mu.stop = cancel
	} else {
		cancel()
	}
}

// drop ends the renewal for a file.
func (k *leaseKeeper) drop(file uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.mu.holders, file)
	if len(k.mu.holders) == 0 && k.mu.stop != nil {
		k.mu.stop()
		k.mu.stop = nil
	}
}

// run renews until its context ends.
func (k *leaseKeeper) run(ctx context.Context) {
	c := k.client
	for clock.Sleep(ctx, c.clock, c.options.LeaseRenewal) == nil {
		k.mu.Lock()
		k.mu.rounds++
		round := k.mu.rounds
		k.mu.Unlock()
		a, err := ask(ctx, c, call{op: "renew leases"}, controlpb.NamenodeClient.RenewLeases, &controlpb.RenewLeasesRequest{ClientId: c.id[:]})
		if err != nil {
			if ctx.Err() == nil {
				c.logger.Warn("leases not renewed", "err", err)
			}
			continue
		}
		k.compare(a.GetFileIds(), round)
	}
}

// beat keeps idle write sessions alive until its context ends. It is not the
// goroutine that renews: that one waits for a namenode that restarts.
func (k *leaseKeeper) beat(ctx context.Context) {
	for clock.Sleep(ctx, k.client.clock, k.client.options.KeepAlive) == nil {
		k.mu.Lock()
		var all []func()
		for _, holder := range k.mu.holders {
			if holder.beat != nil {
				all = append(all, holder.beat)
			}
		}
		k.mu.Unlock()
		for _, f := range all {
			f()
		}
	}
}

// compare tells the holders that the namenode did not name. Files added after
// the renewal began are left for the next one.
func (k *leaseKeeper) compare(held []uint64, round uint64) {
	still := make(map[uint64]bool, len(held))
	for _, file := range held {
		still[file] = true
	}
	var lost []leaseHolder
	k.mu.Lock()
	for file, holder := range k.mu.holders {
		if !still[file] && holder.round < round {
			lost = append(lost, holder)
			delete(k.mu.holders, file)
		}
	}
	if len(k.mu.holders) == 0 && k.mu.stop != nil {
		k.mu.stop()
		k.mu.stop = nil
	}
	k.mu.Unlock()
	for _, holder := range lost {
		holder.lost(fault.New(fault.LeaseLost, "renew lease", "the namenode gave the file's lease to another client, or ended it"))
	}
}
