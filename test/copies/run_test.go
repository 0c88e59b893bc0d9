package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
)

// extent of a run: its load takes a time between the shortest and the longest, and ends with enough acknowledgements.
type extent struct {
	shortest, longest time.Duration
	acknowledgements  int
	least             int // acknowledgements that show anything
}

const (
	// repairGrace is the namenode's; settleTime is what the copies may take after it.
	repairGrace = 5 * time.Second
	settleTime  = 60 * time.Second
	// violationsMax of one run are told.
	violationsMax = 5
)

// TestCopies loads a cluster, harms its processes, and judges every acknowledgement. Unless it is told how often, it
// is one short run.
func TestCopies(t *testing.T) {
	seed := setting(t, "COPIES_SEED", uint64(time.Now().UnixNano()))
	runs := setting(t, "COPIES_RUNS", 0)
	if runs == 0 {
		t.Logf("repeat with COPIES_SEED=%d", seed)
		runOnce(t, seed, extent{shortest: 8 * time.Second, longest: time.Minute,
			acknowledgements: int(setting(t, "COPIES_ACKS", 150)), least: 20})
		return
	}
	long := extent{shortest: 80 * time.Second, longest: 170 * time.Second,
		acknowledgements: int(setting(t, "COPIES_ACKS", 1000))}
	long.least = long.acknowledgements
	for i := range runs {
		t.Run(fmt.Sprintf("seed %d", seed+i), func(t *testing.T) {
			t.Logf("repeat with COPIES_RUNS=1 COPIES_SEED=%d", seed+i)
			runOnce(t, seed+i, long)
		})
	}
}

// runOnce is one cluster's life.
func runOnce(t *testing.T, seed uint64, bounds extent) {
	system, all := startCluster(t, cluster.Options{Datanodes: 5, Disks: 2, ChunkSize: 256 << 10,
		RepairGrace: repairGrace})
	trouble := newChaos(system, seed)
	j := newJudge(all, judgeClient(t, system), trouble.healthy)
	log, err := os.Create(system.Path("clients.log"))
	require.NoError(t, err)
	defer log.Close()
	work := newLoad(system.Address(), seed, j, slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithTimeout(t.Context(), bounds.longest)
	defer cancel()
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- work.run(ctx) }()
	go func() { // ends the load when it has done enough, or too much harm was seen
		for pause(ctx, 100*time.Millisecond) {
			enough := time.Since(begun) > bounds.shortest && j.total() >= bounds.acknowledgements
			if enough || len(work.violations()) >= violationsMax {
				cancel()
			}
		}
	}()
	trouble.run(ctx)
	require.NoError(t, <-done)
	t.Logf("%d acknowledgements in %s: %v\n%v", j.total(), time.Since(begun).Round(time.Second), j, work)
	report := func() {
		if t.Failed() {
			story := strings.Join(trouble.story(), "\n")
			t.Logf("seed %d, what was done:\n%s", seed, story)
		}
	}
	defer report()
	for i, broken := range work.violations() {
		if i < violationsMax {
			t.Errorf("violation: %v", broken)
		}
	}
	require.NoError(t, trouble.failure())
	if !t.Failed() {
		require.GreaterOrEqual(t, j.total(), bounds.least, "too few acknowledgements")
	}
	require.LessOrEqual(t, 100*len(j.mu.unsure), j.total(), "too many acknowledgements could not be judged")
	settle(t, system, all, work)
}

// settle waits until the cluster says that all is well, and checks that it is.
func settle(t *testing.T, system *cluster.Cluster, all *disks, work *load) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	require.NoError(t, system.WaitReady(ctx))
	user := system.Client()
	require.NoError(t, work.verify(ctx, user))
	waiting, cancelWaiting := context.WithTimeout(ctx, repairGrace+settleTime)
	defer cancelWaiting()
	require.NoError(t, cluster.Poll(waiting, func() error {
		status, err := user.ClusterStatus(waiting)
		if err == nil && (status.UnderReplicatedChunks > 0 || status.MissingChunks > 0 || status.SafeMode) {
			err = fmt.Errorf("%d chunks are under-replicated, %d missing, safe mode: %v", status.UnderReplicatedChunks,
				status.MissingChunks, status.SafeMode)
		}
		return err
	}))
	require.NoError(t, confirmReports(ctx, user, all))
}

// confirmReports holds the report, which says that all closed files have all their copies, against the disks.
func confirmReports(ctx context.Context, user *client.Client, all *disks) error {
	return walk(ctx, user, "/", func(info client.FileInfo) error {
		if info.Open {
			return nil // a lease that was left; its bytes were judged
		}
		return confirmReport(ctx, user, all, info.Path)
	})
}

// confirmReport holds the report, which says that a closed file has all its copies, against the disks.
func confirmReport(ctx context.Context, user *client.Client, all *disks, path string) error {
	located, err := user.Locate(ctx, path, 0, 0)
	if err != nil {
		return err
	}
	for _, at := range located {
		found, err := all.find(at.ID)
		if err != nil {
			return err
		}
		nodes := map[int]bool{}
		var seen []string
		for _, r := range found {
			seen = append(seen, r.String())
			if r.broken == "" && r.generation == at.Generation && int64(len(r.data)) == at.Length {
				nodes[r.node] = true
			}
		}
		if len(nodes) < replication {
			return fmt.Errorf("the report says that nothing is under-replicated; chunk %s of %s (generation %d, "+
				"%d bytes) is on %d datanodes, the namenode knows %v:\n%s", at.ID, path, at.Generation, at.Length,
				len(nodes), at.Replicas, strings.Join(seen, "\n"))
		}
	}
	return nil
}

// walk calls visit for every file below a directory.
func walk(ctx context.Context, user *client.Client, directory string, visit func(client.FileInfo) error) error {
	for info, err := range user.List(ctx, directory) {
		if err != nil {
			return err
		}
		if info.Directory {
			err = walk(ctx, user, info.Path, visit)
		} else {
			err = visit(info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startCluster runs a cluster for one test. Its state is kept if the test fails.
func startCluster(t *testing.T, options cluster.Options) (*cluster.Cluster, *disks) {
	t.Helper()
	return startOn(t, options, func(*cluster.Cluster) {})
}

// startOn is startCluster after mount has mounted what it wants below the cluster's directory, until the test ends.
func startOn(t *testing.T, options cluster.Options, mount func(*cluster.Cluster)) (*cluster.Cluster, *disks) {
	t.Helper()
	directory, err := os.MkdirTemp("", "ww-copies-state-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if !t.Failed() && os.Getenv("COPIES_KEEP") == "" {
			require.NoError(t, os.RemoveAll(directory))
			return
		}
		t.Log("state is kept in", directory)
	})
	options.Program, options.Directory = program, directory
	system, err := cluster.New(options)
	require.NoError(t, err)
	mount(system)
	t.Cleanup(func() {
		require.NoError(t, system.Close())
		refusePanics(t, system)
	})
	ctx, cancel := context.WithTimeout(t.Context(), cluster.StartTimeout)
	defer cancel()
	require.NoError(t, system.Start(ctx))
	return system, openDisks(system)
}

// refusePanics fails the test if a daemon panicked or raced, whatever else the test saw.
func refusePanics(t *testing.T, system *cluster.Cluster) {
	t.Helper()
	for _, p := range system.Processes() {
		text, err := os.ReadFile(p.Log)
		require.NoError(t, err)
		for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "invariant broken"} {
			if at := bytes.Index(text, []byte(sign)); at >= 0 {
				t.Errorf("%s: %s", filepath.Base(p.Log), text[at:min(len(text), at+4000)])
			}
		}
	}
}

// judgeClient is a client that gives up soon: its caller asks again.
func judgeClient(t *testing.T, system *cluster.Cluster) *client.Client {
	t.Helper()
	once, err := client.RetryByName(client.RetryNone, client.RetryLimits{})
	require.NoError(t, err)
	user, err := client.Dial(t.Context(), client.Options{Namenodes: []string{system.Address()}, Name: "judge",
		Retry: once})
	require.NoError(t, err)
	t.Cleanup(func() { user.Close() })
	return user
}

// readAll reads a file to its visible end.
func readAll(ctx context.Context, user *client.Client, path string) ([]byte, error) {
	file, err := user.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// verifyAll reads files back and compares their beginning with what was acknowledged.
func verifyAll(ctx context.Context, user *client.Client, contents map[string][]byte) error {
	var errs []error
	for path, want := range contents {
		got, err := readAll(ctx, user, path)
		if err != nil || len(got) < len(want) || !bytes.Equal(got[:len(want)], want) {
			errs = append(errs, lost(path, "%d bytes are acknowledged, %d were read; error: %v", len(want), len(got),
				err))
		}
	}
	return errors.Join(errs...)
}
