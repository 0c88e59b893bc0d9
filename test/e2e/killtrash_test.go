package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/trash"
)

// TestKillTrash ends the namenode in the middle of a removal to the trash and of an undelete, and a datanode in the
// middle of restoring and emptying what it deleted. Each tree is whole afterwards, at one place, and each deleted
// replica can still be had or was freed.
func TestKillTrash(t *testing.T) {
	rounds := roundsOfTrash(t)
	seed := setting(t, "E2E_SEED", uint64(time.Now().UnixNano()))
	t.Logf("repeat with E2E_ROUNDS=%d E2E_SEED=%d", rounds, seed)
	random := rand.New(rand.NewPCG(seed, 1))
	system := start(t, cluster.Options{Datanodes: 3, Settings: map[string]any{"namenode.trash_expiry": "1h",
		"datanode.trash_delay": "1h", "namenode.checkpoint_records": 50, "namenode.unknown_replica_grace": "3s"}})
	tree := newTree("/tree", seed)
	tree.store(t, system)
	for range rounds {
		ctx := patient(t, 2*time.Minute)
		killDuring(ctx, t, system, random, system.Namenode, func() error {
			_, err := system.Client().Remove(ctx, tree.path, client.RemoveOptions{Recursive: true, Trash: true})
			return err
		})
		_, err := system.Client().Stat(ctx, tree.path)
		require.ErrorIs(t, err, fault.NotFound)
		for found, err := range system.Client().ListDeleted(ctx, tree.path, client.UndeleteOptions{}) {
			require.NoError(t, err)
			tree.requireAt(ctx, t, system, found.TrashPath)
			break
		}
		killDuring(ctx, t, system, random, system.Namenode, func() error {
			_, err := system.Client().Undelete(ctx, tree.path, client.UndeleteOptions{})
			return err
		})
		tree.requireAt(ctx, t, system, tree.path)

		lost := newTree("/lost", random.Uint64())
		lost.store(t, system)
		mustWW(t, system, "rm", "-r", "--skip-trash", lost.path)
		deleted := 3 * lost.chunks()
		require.NoError(t, cluster.Poll(ctx, func() error {
			if found := len(trashed(t, system)); found != deleted {
				return fmt.Errorf("%d replicas are in the trash, %d were deleted", found, deleted)
			}
			return nil
		}))
		victim := system.Datanodes[random.IntN(3)]
		killDuring(ctx, t, system, random, victim, func() error {
			_ = ww(t, system, "admin", "trash", "restore", "--all") // it may name the datanode that is gone
			return nil
		})
		restored := deleted - len(trashed(t, system))
		require.NoError(t, cluster.Poll(ctx, func() error {
			if again := ww(t, system, "admin", "trash", "restore", "--all"); again.code != 0 {
				return fmt.Errorf("exit code %d: %s", again.code, again.stderr)
			}
			return nil
		}))
		require.Empty(t, trashed(t, system), "%d were restored before", restored)
		requireVerified(ctx, t, system, deleted+3*tree.chunks())

		// The namenode has them deleted again; then they are freed for good.
		require.NoError(t, cluster.Poll(ctx, func() error {
			if found := len(trashed(t, system)); found != deleted {
				return fmt.Errorf("%d of %d replicas are in the trash again", found, deleted)
			}
			return nil
		}))
		killDuring(ctx, t, system, random, victim, func() error {
			_ = ww(t, system, "admin", "trash", "empty", "--all", "--yes")
			return nil
		})
		require.NoError(t, cluster.Poll(ctx, func() error {
			if again := ww(t, system, "admin", "trash", "empty", "--all", "--yes"); again.code != 0 {
				return fmt.Errorf("exit code %d: %s", again.code, again.stderr)
			}
			return nil
		}))
		require.Empty(t, trashed(t, system))
		requireVerified(ctx, t, system, 3*tree.chunks())
		tree.requireAt(ctx, t, system, tree.path)
	}
}

// roundsOfTrash are a tenth of the crash suite's.
func roundsOfTrash(t *testing.T) int {
	t.Helper()
	t.Parallel()
	if os.Getenv("E2E_ROUNDS") == "" {
		t.Skip("takes minutes: make kill; TestKill has a short run of it")
	}
	return int(max(1, setting(t, "E2E_ROUNDS", 1)/10))
}

// TestKillExpiry ends the namenode again and again while it deletes what was in the trash for long enough. What is over
// cannot be had, not even in part; all else stays.
func TestKillExpiry(t *testing.T) {
	roundsOfTrash(t)
	seed := setting(t, "E2E_SEED", uint64(time.Now().UnixNano()))
	t.Logf("repeat with E2E_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	system := start(t, cluster.Options{Datanodes: 3, Settings: map[string]any{"namenode.trash_expiry": "1m",
		"namenode.checkpoint_records": 500}})
	user, wanted, ctx := system.Client(), newTree("/wanted", seed), patient(t, 6*time.Minute)
	wanted.store(t, system)
	var group errgroup.Group
	for worker := range 16 {
		group.Go(func() error {
			for i := range 500 {
				name := fmt.Sprintf("/gone/%d/%d", worker, i)
				file, err := user.Create(ctx, name, client.CreateOptions{Parents: true})
				if err == nil {
					err = file.Close()
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	removed, err := user.Remove(ctx, "/gone", client.RemoveOptions{Recursive: true, Trash: true})
	require.NoError(t, err)
	gone := func(path string) error {
		_, err := user.Stat(ctx, path)
		if err == nil {
			return fmt.Errorf("%s is there", path)
		}
		require.ErrorIs(t, err, fault.NotFound)
		return nil
	}
	require.NoError(t, cluster.Poll(ctx, func() error { return gone(removed.TrashPath) }))
	kills := 0
	for gone(trash.ExpiredPath) != nil {
		pause(ctx, time.Duration(random.IntN(700))*time.Millisecond) // the randomness is the point
		require.NoError(t, system.Namenode.Kill())
		require.NoError(t, system.Start(ctx))
		kills++
		_, err := user.Undelete(ctx, "/gone", client.UndeleteOptions{})
		require.ErrorIs(t, err, fault.NotFound)
		require.NoError(t, gone("/gone"))
	}
	require.Positive(t, kills)
	t.Logf("%d kills", kills)
	wanted.requireAt(ctx, t, system, wanted.path)
	summary, err := user.Summary(ctx, "/")
	require.NoError(t, err)
	require.EqualValues(t, len(wanted.files), summary.Files)
}

// killDuring kills a process at a random moment of a change, and starts it again while the change goes on.
func killDuring(ctx context.Context, t *testing.T, system *cluster.Cluster, random *rand.Rand, victim *cluster.Process,
	change func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- change() }()
	pause(ctx, time.Duration(random.IntN(30_000))*time.Microsecond) // the randomness is the point
	require.NoError(t, victim.Kill())
	require.NoError(t, system.Start(ctx))
	require.NoError(t, <-done)
}

// trashed lists the deleted replicas that datanodes still have.
func trashed(t *testing.T, system *cluster.Cluster) (lines []string) {
	t.Helper()
	for line := range strings.Lines(mustWW(t, system, "admin", "trash", "list", "--json")) {
		lines = append(lines, line)
	}
	return lines
}

// requireVerified waits until the datanodes have so many replicas, and has them compare all with their checksums.
func requireVerified(ctx context.Context, t *testing.T, system *cluster.Cluster, replicas int) {
	t.Helper()
	var status client.ClusterStatus
	require.NoError(t, cluster.Poll(ctx, func() (err error) {
		if status, err = system.Client().ClusterStatus(ctx); err != nil {
			return err
		}
		found := 0
		for _, node := range status.Nodes {
			for _, disk := range node.Volumes {
				found += int(disk.Replicas)
			}
		}
		if found != replicas {
			return fmt.Errorf("the datanodes have %d replicas, not %d", found, replicas)
		}
		return nil
	}))
	for _, node := range status.Nodes {
		mustWW(t, system, "admin", "scrub", node.NodeID)
	}
}

// knownTree is a tree of files, small ones and one of several chunks.
type knownTree struct {
	path  string
	files map[string][]byte
}

func newTree(path string, seed uint64) *knownTree {
	tree := &knownTree{path: path, files: map[string][]byte{"/big": bytesOf(seed, 2_500_000)}}
	for i := range 12 {
		tree.files[fmt.Sprintf("/%d/%d", i%3, i)] = bytesOf(seed+uint64(i), 100+i*3000)
	}
	return tree
}

func (k *knownTree) chunks() (count int) {
	for _, content := range k.files {
		count += (len(content) + 1<<20 - 1) / (1 << 20)
	}
	return count
}

func (k *knownTree) store(t *testing.T, system *cluster.Cluster) {
	t.Helper()
	for name, content := range k.files {
		mustWW(t, system, "put", "-p", localFile(t, content), k.path+name)
	}
}

// requireAt reads all files at a path, and finds no others there.
func (k *knownTree) requireAt(ctx context.Context, t *testing.T, system *cluster.Cluster, path string) {
	t.Helper()
	summary, err := system.Client().Summary(ctx, path)
	require.NoError(t, err)
	require.EqualValues(t, len(k.files), summary.Files)
	for name, content := range k.files {
		got, err := readAll(ctx, system.Client(), path+name)
		require.NoError(t, err)
		sameBytes(t, content, got, path+name)
	}
}
