package table

import (
	"context"
	"errors"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/internal/clock"
)

// A slow datanode stands still for slowStopped, and then runs for slowRuns, again and again: everything takes it
// some ten times as long. Unlike slowing a disk, that needs no privileges.
const (
	slowStopped = 45 * time.Millisecond
	slowRuns    = 5 * time.Millisecond
)

// slow compares the latency of small files in a healthy cluster of four datanodes
// with that of the same cluster when one is slow.
func slow(ctx context.Context, run *runner) (err error) {
	system, err := run.start(ctx, "slow", cluster.Options{Datanodes: 4})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, system.close()) }()
	if err := system.Start(ctx); err != nil {
		return err
	}
	return run.rounds("a slow datanode", func(int) error {
		measure := func() (map[string]report.Result, error) {
			return run.runOn(ctx, system, "small", workload.Options{Workers: 8, SizeBytes: 4096},
				"small/create", "small/read")
		}
		healthy, err := measure()
		if err != nil {
			return err
		}
		stop := system.slowDown(3)
		slowed, err := measure()
		if err := errors.Join(err, stop()); err != nil {
			return err
		}
		for _, kind := range []string{"create", "read"} {
			before, after := healthy["small/"+kind].Latency.P99Ns, slowed["small/"+kind].Latency.P99Ns
			run.add(Row{Name: "p99 of 4 KiB files with one slow datanode of four, times healthy: " + kind,
				Unit: "factor", Goal: 2, Less: true},
				float64(after)/float64(before), "%.1f ms instead of %.1f; it stands still for %s of %s",
				float64(after)/1e6, float64(before)/1e6, slowStopped, slowStopped+slowRuns)
		}
		return nil
	})
}

// slowDown makes a datanode slow until stop is called.
func (p *processes) slowDown(datanode int) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		node := p.Datanodes[datanode]
		for {
			err := node.Pause()
			_ = clock.Sleep(ctx, clock.Real{}, slowStopped) // it resumes in any case
			if err = errors.Join(err, node.Resume()); err != nil || clock.Sleep(ctx, clock.Real{}, slowRuns) != nil {
				done <- err
				return
			}
		}
	}()
	return func() error {
		cancel()
		return <-done
	}
}
