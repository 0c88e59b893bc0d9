package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	recoveryNodes = 4
	// recoveryStreams are the copies that the other nodes make at once at default settings: two each.
	recoveryStreams = 2 * (recoveryNodes - 1)
	recoveryLeast   = 64 << 20
	// recoveryFloorMost bounds the bytes of the floor, which takes as much disk.
	recoveryFloorMost = 4 << 30
	// recoveryRate of clients' operations per second, half of them stores; recoveryHealthy is for how long before.
	recoveryRate    = 40
	recoveryHealthy = 20 * time.Second
	storeBytes      = 64 << 10
	readBytes       = 256 << 10
)

// recovery kills one datanode of four that holds three replicas of everything, at default settings, and measures how
// soon it is missed, how fast everything is whole again beside raw copies of the same files on the same disk, and what
// clients notice meanwhile. All pages are dropped before either.
func recovery(ctx context.Context, run *runner) (err error) {
	total := run.options.RecoveryBytes
	if total == 0 {
		run.missing(Row{Name: "recovery of a killed datanode, to what disk and wires allow", Unit: "ratio", Goal: 0.7,
			Missing: "not asked for: make recovery"})
		return nil
	}
	system, err := run.start(ctx, "recovery", cluster.Options{Datanodes: recoveryNodes})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, system.close()) }()
	if err := system.Start(ctx); err != nil {
		return err
	}
	run.say("recovery: %d MiB are stored, three replicas", total>>20)
	stock := recoveryStock{system: system, fileBytes: min(total, 1<<30)}
	stock.files = max(total/stock.fileBytes, 1)
	if err := stock.store(ctx); err != nil {
		return err
	}
	lost, err := stock.lostWith(ctx, recoveryNodes-1)
	if err != nil {
		return err
	}

	run.say("recovery: raw copies of replicas")
	raw, err := run.rawCopies(ctx, system, lost)
	if err != nil {
		return err
	}
	run.say("recovery: clients of a healthy cluster, %s", recoveryHealthy)
	if err := stock.settle(ctx, run); err != nil {
		return err
	}
	healthy, err := stock.use(ctx, "/healthy", recoveryHealthy, &atomic.Bool{})
	if err != nil {
		return err
	}
	if _, err := system.clients[0].Remove(ctx, "/healthy", client.RemoveOptions{Recursive: true}); err != nil {
		return err
	}
	if err := stock.settle(ctx, run); err != nil {
		return err
	}

	run.say("recovery: a datanode is killed; %d MiB are to be copied", lost>>20)
	watched, err := stock.recover(ctx, recoveryNodes-1)
	if err != nil {
		return err
	}
	made := floor.Result{Bytes: lost, Duration: watched.copied}
	run.add(Row{Name: "a killed datanode is missed", Unit: "s", Goal: 10, Less: true}, watched.missed.Seconds(),
		"SIGKILL to the first chunk that counts as under-replicated; then a grace of %.0f s", watched.grace.Seconds())
	run.add(Row{Name: "recovery of a killed datanode, to what disk and wires allow", Unit: "ratio", Goal: 0.7,
		Floors: []float64{raw.Rate()}}, made.Rate()/raw.Rate(),
		"%s, %d MiB in %.1f s from the first copy to the last, under the clients' load, against %s of raw copies (%s)",
		mbs(made), lost>>20, watched.copied.Seconds(), mbs(raw), raw.How)
	for i, kind := range recoveryKinds() {
		before, after := healthy.Series[i].Latency, watched.clients.Series[i].Latency
		run.add(Row{Name: "p99 during recovery, times healthy: " + kind, Unit: "factor", Goal: 3, Less: true},
			float64(after.ValueAtQuantile(99))/float64(before.ValueAtQuantile(99)),
			"%.1f ms instead of %.1f (medians %.1f and %.1f), %d operations a second begin, %d were measured",
			float64(after.ValueAtQuantile(99))/1e3, float64(before.ValueAtQuantile(99))/1e3,
			float64(after.ValueAtQuantile(50))/1e3, float64(before.ValueAtQuantile(50))/1e3, recoveryRate,
			after.TotalCount())
	}
	return nil
}

// rawCopies copies replicas of as many bytes as will be lost, up to a bound.
func (r *runner) rawCopies(ctx context.Context, system *processes, lost int64) (_ floor.Result, err error) {
	var sources []string
	for node := range recoveryNodes - 1 {
		found, err := filepath.Glob(filepath.Join(system.Disks(node)[0], "chunks", "*", "*.chunk"))
		if err != nil {
			return floor.Result{}, err
		}
		sources = append(sources, found...)
	}
	size := int64(0)
	for i, path := range sources {
		info, err := os.Stat(path)
		if err != nil {
			return floor.Result{}, err
		}
		if size += info.Size(); size >= min(lost, recoveryFloorMost) {
			sources = sources[:i+1]
			break
		}
	}
	directory, err := os.MkdirTemp(r.directory, "copies-")
	if err != nil {
		return floor.Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	if err := (&recoveryStock{system: system}).settle(ctx, r); err != nil {
		return floor.Result{}, err
	}
	return floor.Copies(ctx, directory, sources, recoveryStreams)
}

// recoveryStock is the files that are there, in a cluster.
type recoveryStock struct {
	system           *processes
	files, fileBytes int64
}

func (s *recoveryStock) path(file int64) string { return fmt.Sprintf("/stock/%d", file) }

func (s *recoveryStock) store(ctx context.Context) error {
	group, storing := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for i := range s.files {
		group.Go(func() error {
			_, err := s.system.clients[i%clients].Store(storing, s.path(i), workload.Source(uint64(i), 0), s.fileBytes,
				client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.system.watchMissed(ctx, func(missed int64) bool { return missed == 0 })
}

// lostWith are the bytes of the files' replicas on a datanode.
func (s *recoveryStock) lostWith(ctx context.Context, datanode int) (lost int64, err error) {
	for i := range s.files {
		located, err := s.system.clients[0].Locate(ctx, s.path(i), 0, 0)
		if err != nil {
			return 0, err
		}
		for _, chunk := range located {
			for _, replica := range chunk.Replicas {
				if s.system.DatanodeAt(replica.Address) == datanode {
					lost += chunk.Length
				}
			}
		}
	}
	if lost == 0 {
		return 0, fault.New(fault.Internal, "measure recovery", "the datanode to kill has no replica")
	}
	return lost, nil
}

// settle waits for a quiet disk, and drops all pages of replicas.
func (s *recoveryStock) settle(ctx context.Context, run *runner) error {
	if _, err := floor.Settle(ctx, run.directory, run.scale.settle); err != nil {
		return err
	}
	for node := range recoveryNodes {
		if err := workload.DropPages(s.system.Disks(node)); err != nil {
			return err
		}
	}
	return nil
}

func recoveryKinds() []string {
	return []string{fmt.Sprintf("stores of %d KiB", storeBytes>>10), fmt.Sprintf("reads of %d KiB", readBytes>>10)}
}

// use is the load of clients until it is over or the time is: stores of small files in turn with reads of ranges of the
// large ones, at a fixed rate. An operation that fails is an error.
func (s *recoveryStock) use(ctx context.Context, folder string, most time.Duration, over *atomic.Bool) (load.Outcome,
	error) {
	const workers = 32
	buffers := make([][]byte, workers)
	for i := range buffers {
		buffers[i] = make([]byte, readBytes)
	}
	outcome, err := load.Run(ctx, load.Plan{Workers: workers, Rate: recoveryRate, Duration: most}, recoveryKinds(),
		func(ctx context.Context, worker int, number int64) (load.Done, error) {
			if over.Load() {
				return load.Done{}, load.ErrExhausted
			}
			woods := s.system.clients[worker%clients]
			if number%2 == 0 {
				_, err := woods.Store(ctx, fmt.Sprintf("%s/%d", folder, number), workload.Source(1, uint64(number)),
					storeBytes, client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
				return load.Done{Kind: 0, Bytes: storeBytes}, err
			}
			file, err := woods.Open(ctx, s.path(number/2%s.files))
			if err != nil {
				return load.Done{}, err
			}
			at := number * 7919 * readBytes % (s.fileBytes - readBytes + 1) // a prime: far from the last one
			_, err = file.ReadAt(buffers[worker], at)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return load.Done{Kind: 1, Bytes: readBytes}, errors.Join(err, file.Close())
		})
	if err == nil && outcome.Failures.Count > 0 {
		err = fault.New(fault.Internal, "use the cluster", "%d operations failed, the first: %s",
			outcome.Failures.Count, outcome.Failures.First)
	}
	return outcome, err
}

// recovered is what a recovery took.
type recovered struct {
	missed  time.Duration // from the kill to the first chunk that is missed
	grace   time.Duration // from then to the first copy
	copied  time.Duration // from then until nothing is missed
	clients load.Outcome  // while it copied
}

// recover kills a datanode and watches.
func (s *recoveryStock) recover(ctx context.Context, datanode int) (recovered, error) {
	var watched recovered
	begun := time.Now()
	if err := s.system.Datanodes[datanode].Kill(); err != nil {
		return recovered{}, err
	}
	if err := s.system.watchMissed(ctx, func(missed int64) bool { return missed > 0 }); err != nil {
		return recovered{}, err
	}
	watched.missed = time.Since(begun)
	err := s.system.watch(ctx, func(status client.ClusterStatus) bool { return status.CopiesRunning > 0 })
	if err != nil {
		return recovered{}, err
	}
	began := time.Now()
	watched.grace = began.Sub(begun) - watched.missed
	var over atomic.Bool
	used := make(chan error, 1)
	go func() {
		var err error
		watched.clients, err = s.use(ctx, "/meanwhile", time.Hour, &over)
		used <- err
	}()
	err = s.system.watchMissed(ctx, func(missed int64) bool { return missed == 0 })
	watched.copied = time.Since(began)
	over.Store(true)
	return watched, errors.Join(err, <-used)
}
