package table

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// repair kills one datanode of four, with two replicas of everything, and counts what the others make good: large
// chunks against one raw copy of as many bytes, and small ones.
func repair(ctx context.Context, run *runner) (err error) {
	system, err := run.start(ctx, "repair", cluster.Options{Datanodes: 4, Replication: 2, DeadAfter: 3 * time.Second,
		RepairGrace: 10 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, system.close()) }()
	if err := system.Start(ctx); err != nil {
		return err
	}
	run.say("repair of large chunks")
	woods := system.clients[0]
	chunkSize := run.scale.fileBytes / 16
	o := client.StoreOptions{CreateOptions: client.CreateOptions{ChunkSize: chunkSize}}
	for i := range 2 { // half of it was on the lost node
		if _, err := woods.Store(ctx, fmt.Sprintf("/large-%d", i), workload.Source(uint64(i), 0),
			run.scale.fileBytes, o); err != nil {
			return err
		}
	}
	f, err := run.floorsOf(ctx, floor.Options{SizeBytes: run.scale.floorBytes, Hops: 1, Only: []string{floor.Pipeline}})
	if err != nil {
		return err
	}
	chunks, took, err := system.repaired(ctx, 3)
	if err != nil {
		return err
	}
	bare, made := f[floor.Pipeline], floor.Result{Bytes: chunks * chunkSize, Duration: took}
	run.add(Row{Name: "repair, to what disk and wires allow", Unit: "ratio", Goal: 0.7}, made.Rate()/bare.Rate(),
		"%s, %d chunks of %d MiB, from the first that is missed to the last that is whole, against %s of one raw copy",
		mbs(made), chunks, chunkSize>>20, mbs(bare))

	run.say("repair of small chunks")
	if err := system.Datanodes[3].Start(); err != nil {
		return err
	}
	if err := system.WaitReady(ctx); err != nil {
		return err
	}
	for i := range 2 {
		if _, err := woods.Remove(ctx, fmt.Sprintf("/large-%d", i), client.RemoveOptions{}); err != nil {
			return err
		}
	}
	var group errgroup.Group
	for w := range 16 {
		group.Go(func() error {
			for i := range min(run.scale.files, 4000) / 16 {
				_, err := system.clients[w%clients].Store(ctx, fmt.Sprintf("/small/%d-%d", w, i),
					workload.Source(uint64(w), uint64(i)), 4096,
					client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if chunks, took, err = system.repaired(ctx, 3); err != nil {
		return err
	}
	run.add(Row{Name: "repair of 4 KiB chunks", Unit: "/s"}, float64(chunks)/took.Seconds(),
		"%d chunks in %.1f s", chunks, took.Seconds())
	return nil
}

// repaired kills a datanode and counts the chunks that are missed for it, and the time from then until none is.
func (p *processes) repaired(ctx context.Context, datanode int) (chunks int64, took time.Duration, err error) {
	err = p.watchMissed(ctx, func(missed int64) bool { return missed == 0 }) // what was under way has to be done
	if err != nil {
		return 0, 0, err
	}
	if err := p.Datanodes[datanode].Kill(); err != nil {
		return 0, 0, err
	}
	var started time.Time
	err = p.watchMissed(ctx, func(missed int64) bool {
		if chunks == 0 {
			started = time.Now()
		}
		chunks = max(chunks, missed)
		return missed == 0 && chunks > 0
	})
	return chunks, time.Since(started), err
}

// watchMissed polls how many chunks lack a replica until done returns true.
func (p *processes) watchMissed(ctx context.Context, done func(missed int64) bool) error {
	return p.watch(ctx, func(status client.ClusterStatus) bool { return done(status.UnderReplicatedChunks) })
}

// watch polls the cluster's state until done returns true.
func (p *processes) watch(ctx context.Context, done func(status client.ClusterStatus) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		status, err := p.clients[0].ClusterStatus(ctx)
		if err != nil || done(status) {
			return err
		}
		if clock.Sleep(ctx, clock.Real{}, 10*time.Millisecond) != nil {
			return fault.New(fault.Internal, "watch chunks", "in vain: %d lack a replica", status.UnderReplicatedChunks)
		}
	}
}
