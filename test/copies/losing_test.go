package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/test/loopdisk"
)

const (
	// losingNodes have two disks each; the second of each can be made to fail.
	losingNodes = 4
	loopBytes   = 1 << 30
	// stockFiles of stockBytes are there to be read, copied and verified all the time.
	stockFiles = 8
	stockBytes = 2 << 20
	// noticeMost is after how long a disk that nobody uses is known to be dead, also on a busy machine.
	noticeMost = 40 * time.Second
	// actsBefore and actsAfter are the acknowledgements before a fault, and those judged after it.
	actsBefore, actsAfter = 25, 60
)

// losing is a cluster that loses disks and nodes under a load.
type losing struct {
	*testing.T
	system  *cluster.Cluster
	all     *disks
	loops   []*loopdisk.Disk // by datanode; only the first one's unless all faults are tried
	trouble *chaos
	judge   *judge
	work    *load
	seen    int          // violations that were told
	mend    func() error // what a fault wants done when the load is over; nil: nothing
}

// TestDisksDieUnderLoad takes disks and nodes from a cluster that is stored to, appended to and read from. Nobody sees
// wrong bytes, every acknowledgement is on as many disks as it has to be, and after each fault everything acknowledged
// is read back and the cluster becomes healthy by itself, within the grace and the time of the copies. Without
// COPIES_DISKS only the first fault is tried.
func TestDisksDieUnderLoad(t *testing.T) {
	loopdisk.Need(t)
	l := startLosing(t)
	for i, fault := range []struct {
		name   string
		strike func(ctx context.Context, l *losing)
	}{
		{"a disk dies while it is written and read", func(ctx context.Context, l *losing) {
			l.strike(ctx, 0, l.loops[0].Die)
		}},
		{"its node restarts", func(_ context.Context, l *losing) {
			l.trouble.restart(0, 100*time.Millisecond)
		}},
		{"a disk becomes read-only during a repair", diskFailsDuringRepair},
		{"a disk dies during its scrub", diskDiesDuringScrub},
		{"a disk is full while files are appended to", diskFills},
		{"a disk is unmounted under those who use it", func(ctx context.Context, l *losing) {
			l.strikeUnnoticed(ctx, 3, l.loops[3].Detach) // files that are open can be written
		}},
		{"two of four nodes die, one after the other", twoNodesDie},
	} {
		if i > 0 && !allDisks() {
			t.Log("the other faults take minutes: make disks")
			return
		}
		ok := t.Run(fault.name, func(t *testing.T) {
			one := *l
			one.T = t
			one.under(func(ctx context.Context) { fault.strike(ctx, &one) })
			l.seen = one.seen
		})
		if !ok {
			return
		}
	}
}

// allDisks tells whether all faults are tried.
func allDisks() bool { return os.Getenv("COPIES_DISKS") != "" }

func startLosing(t *testing.T) *losing {
	l := &losing{T: t}
	l.system, l.all = startOn(t, cluster.Options{Datanodes: losingNodes, Disks: 2, ChunkSize: 256 << 10,
		RepairGrace: repairGrace, Settings: map[string]any{
			"datanode.scrub_bandwidth": "1MiB",          // it takes a while
			"datanode.record_idle":     2 * time.Second, // a chunk that is open cannot be judged as healthy
		}}, func(system *cluster.Cluster) {
		for node := range losingNodes {
			if node > 0 && !allDisks() {
				break
			}
			loopdisk.New(t, system.Disks(node)[0], loopBytes) // as large: else it would get most of the load
			l.loops = append(l.loops, loopdisk.New(t, system.Disks(node)[1], loopBytes))
		}
	})
	seed := uint64(time.Now().UnixNano())
	l.trouble = newChaos(l.system, seed)
	l.judge = newJudge(l.all, judgeClient(t, l.system), l.trouble.healthy)
	log, err := os.Create(l.system.Path("clients.log"))
	require.NoError(t, err)
	t.Cleanup(func() { log.Close() })
	l.work = newLoad(l.system.Address(), seed, l.judge, slog.New(slog.NewTextHandler(log, nil)))
	l.work.workers = slices.DeleteFunc(l.work.workers, func(w worker) bool {
		writer, appends := w.(*appender)
		return appends && writer.idle > time.Second // the end of the load waits for it
	})
	readers := &reader{content: map[string][]byte{}, random: rand.New(rand.NewPCG(seed, 1))}
	for i := range stockFiles {
		content := noise(readers.random, stockBytes)
		path := fmt.Sprintf("/stock/%d", i)
		_, err := l.system.Client().Store(t.Context(), path, bytes.NewReader(content), stockBytes,
			client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
		require.NoError(t, err)
		readers.content[path] = content
	}
	l.work.workers = append(l.work.workers, readers)
	return l
}

// reader reads files that do not change.
type reader struct {
	content map[string][]byte
	random  *rand.Rand
}

func (r *reader) step(ctx context.Context, user *client.Client) error {
	path := fmt.Sprintf("/stock/%d", r.random.IntN(len(r.content)))
	return verifyAll(ctx, user, map[string][]byte{path: r.content[path]})
}

func (r *reader) leave(context.Context) error { return nil }

func (r *reader) verify(ctx context.Context, user *client.Client) error {
	return verifyAll(ctx, user, r.content)
}

// under runs a load around a fault, and then waits until all is well.
func (l *losing) under(fault func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(l.Context(), 4*time.Minute)
	defer cancel()
	working, leave := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- l.work.run(working) }()
	err := l.acts(ctx, actsBefore)
	if err == nil {
		fault(ctx)
		err = l.acts(ctx, actsAfter)
	}
	leave()
	err = errors.Join(err, <-done)
	if l.mend != nil {
		err = errors.Join(err, l.mend())
	}
	require.NoError(l, errors.Join(err, l.trouble.failure()))
	for _, broken := range l.work.violations()[l.seen:] {
		l.Errorf("violation: %v", broken)
	}
	l.seen = len(l.work.violations())
	began := time.Now()
	healing, cancelHealing := context.WithTimeout(ctx, repairGrace+settleTime)
	defer cancelHealing()
	require.NoError(l, cluster.Poll(healing, func() error { // a loss is not reported before it is noticed
		return confirmReports(healing, l.system.Client(), l.all)
	}))
	settle(l.T, l.system, l.all, l.work)
	whole := time.Since(began)
	require.NoError(l, l.fsck(ctx))
	l.Logf("%v; %v; whole %s after the load, healthy %s", l.judge, l.work, whole, time.Since(began))
}

// acts waits for so many acknowledgements more.
func (l *losing) acts(ctx context.Context, count int) error {
	wanted := l.judge.total() + count
	return cluster.Poll(ctx, func() error {
		if has := l.judge.total(); has < wanted && len(l.work.violations()) == l.seen {
			return fmt.Errorf("%d acknowledgements, %d are wanted", has, wanted)
		}
		return nil
	})
}

// fsck waits until ww fsck says that everything is healthy.
func (l *losing) fsck(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, repairGrace+settleTime)
	defer cancel()
	return cluster.Poll(ctx, func() error {
		out, err := exec.CommandContext(ctx, program, "--namenode", l.system.Address(), "fsck").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "Status: healthy") {
			err = errors.New("no verdict")
		}
		if err != nil {
			err = fmt.Errorf("ww fsck: %w\n%s", err, out)
		}
		return err
	})
}

// strike takes a disk of a datanode, and waits until that is noticed.
func (l *losing) strike(ctx context.Context, node int, fault func()) {
	l.strikeUnnoticed(ctx, node, func() {
		fault()
		l.all.nodes[node][1].lose(time.Now())
	})
}

// strikeUnnoticed is strike with a fault after which the disk takes what is written until it is noticed.
func (l *losing) strikeUnnoticed(ctx context.Context, node int, fault func()) {
	volume := l.all.nodes[node][1]
	l.trouble.during(&l.trouble.mu.datanodes[node], func() error {
		volume.lose(time.Now().Add(noticeMost)) // what is acknowledged while it fails may still be on it
		fault()
		return nil
	})
	defer func() {
		if now := time.Now(); volume.lostAt().After(now) {
			volume.lose(now)
		}
	}()
	struck := time.Now()
	l.status(ctx, func(now client.ClusterStatus) bool {
		for _, n := range now.Nodes {
			for _, v := range n.Volumes {
				if v.Directory == l.loops[node].Mount {
					return v.State == "failed" || v.State == "read-only" || v.State == "missing"
				}
			}
		}
		return false
	})
	l.Logf("the disk is out of service after %s", time.Since(struck))
	require.Less(l, time.Since(struck), noticeMost)
}

// status waits until the cluster's is as wanted.
func (l *losing) status(ctx context.Context, wanted func(client.ClusterStatus) bool) {
	l.Helper()
	require.NoError(l, cluster.Poll(ctx, func() error {
		status, err := l.system.Client().ClusterStatus(ctx)
		if err == nil && !wanted(status) {
			err = fmt.Errorf("%d chunks have too few copies, %d copies are made", status.UnderReplicatedChunks,
				status.CopiesRunning)
		}
		return err
	}))
}

func diskFailsDuringRepair(ctx context.Context, l *losing) {
	l.trouble.during(&l.trouble.mu.datanodes[3], func() error {
		err := l.system.Datanodes[3].Kill()
		l.status(ctx, func(now client.ClusterStatus) bool {
			return now.UnderReplicatedChunks > stockFiles && now.CopiesRunning > 0
		})
		l.strike(ctx, 1, l.loops[1].MakeReadOnly)
		return errors.Join(err, l.system.Datanodes[3].Start())
	})
}

func diskDiesDuringScrub(ctx context.Context, l *losing) {
	address := fmt.Sprintf("127.0.0.1:%d", l.system.DataPorts[2])
	_, err := l.system.Client().BeginScrub(ctx, address)
	require.NoError(l, err)
	require.NoError(l, cluster.Poll(ctx, func() error {
		found, err := l.system.Client().ScrubProgress(ctx, address)
		if err != nil {
			return err
		}
		for _, one := range found {
			if one.Percent > 0 { // of a pass under way
				return nil
			}
		}
		return errors.New("nothing is scrubbed")
	}))
	l.strike(ctx, 2, l.loops[2].Die)
}

// diskFills leaves no room on a disk, and frees it when the appenders have met that.
func diskFills(ctx context.Context, l *losing) {
	l.trouble.during(&l.trouble.mu.datanodes[3], func() error {
		path := filepath.Join(l.loops[3].Mount, "ballast")
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		defer file.Close()
		for piece := make([]byte, 1<<20); err == nil; {
			if _, err = file.Write(piece); err != nil && len(piece) > 4096 {
				piece, err = piece[:len(piece)/2], nil
			}
		}
		require.ErrorIs(l, err, syscall.ENOSPC)
		return errors.Join(l.acts(ctx, actsAfter), os.Remove(path))
	})
}

// twoNodesDie: the second one when the first one's replicas have been copied. Two copies are left of everything, which
// is enough to go on, and not enough to be healthy. Then both come back.
func twoNodesDie(ctx context.Context, l *losing) {
	for node := range 2 {
		l.trouble.takeAway(node)
		require.NoError(l, l.system.Datanodes[node].Kill())
		if node == 0 {
			l.status(ctx, func(now client.ClusterStatus) bool { return now.UnderReplicatedChunks > stockFiles })
			l.status(ctx, func(now client.ClusterStatus) bool { return now.UnderReplicatedChunks == 0 })
		}
	}
	l.mend = func() error {
		err := l.work.verify(ctx, l.system.Client())
		for node := range 2 {
			l.trouble.during(&l.trouble.mu.datanodes[node], l.system.Datanodes[node].Start)
		}
		return err
	}
}
