package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/client"
)

// slowFoundWithin is how long the cluster has to find the slow datanode under load.
const slowFoundWithin = 90 * time.Second

// slow compares the latency of small files in a healthy cluster of four datanodes with that of the same cluster when
// one is slow: while nobody knows it, and when it has been found. Each round has a cluster of its own, since a datanode
// that was slow is avoided for a while.
func slow(ctx context.Context, run *runner) error {
	defer func(seconds float64) { run.scale.seconds = seconds }(run.scale.seconds)
	run.scale.seconds = max(run.scale.seconds, 1) // in a shorter phase nothing may come to its end
	return run.rounds("a slow datanode", func(number int) error { return run.slowRound(ctx, number) })
}

func (r *runner) slowRound(ctx context.Context, number int) (err error) {
	system, err := r.start(ctx, fmt.Sprintf("slow-%d", number), cluster.Options{Datanodes: 4})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, system.close()) }()
	if err := system.Start(ctx); err != nil {
		return err
	}
	measure := func() (map[string]report.Result, error) {
		return r.runOn(ctx, system, "small", workload.Options{Workers: 8, SizeBytes: 4096},
			"small/create", "small/read")
	}
	healthy, err := measure()
	if err != nil {
		return err
	}
	began, stop := time.Now(), system.Datanodes[3].SlowDown()
	defer func() { err = errors.Join(err, stop()) }()
	unknown, err := measure()
	if err != nil {
		return err
	}
	slowed, found := unknown, false
	for !found && err == nil && time.Since(began) < slowFoundWithin && !r.options.Short {
		if found, err = system.namesSlow(ctx); !found && err == nil {
			slowed, err = measure()
		}
	}
	took := time.Since(began)
	if found && err == nil {
		slowed, err = measure()
	}
	if err != nil {
		return err
	}
	const name = "p99 of 4 KiB files with one slow datanode of four, times healthy: "
	p99 := func(results map[string]report.Result, kind string) float64 {
		return float64(results["small/"+kind].Latency.P99Ns) / 1e6
	}
	for _, kind := range []string{"create", "read"} {
		before := p99(healthy, kind)
		r.add(Row{Name: name + kind, Unit: "factor", Goal: 2, Less: true}, p99(slowed, kind)/before,
			"%.1f ms instead of %.1f; it stands still for %s of %s; found: %t, after %.0f s", p99(slowed, kind), before,
			cluster.SlowStopped, cluster.SlowStopped+cluster.SlowRuns, found, took.Seconds())
		r.add(Row{Name: name + kind + ", before it is found", Unit: "factor"}, p99(unknown, kind)/before, "%.1f ms",
			p99(unknown, kind))
	}
	return nil
}

// namesSlow tells whether the namenode calls a datanode slow.
func (p *processes) namesSlow(ctx context.Context) (bool, error) {
	status, err := p.clients[0].ClusterStatus(ctx)
	return slices.ContainsFunc(status.Nodes, func(n client.NodeStatus) bool { return n.SlowReason != "" }), err
}
