package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// namespace lists everything below the root, with lengths.
func namespace(ctx context.Context, t *testing.T, user *client.Client) []string {
	t.Helper()
	var out []string
	var walk func(dir string)
	walk = func(dir string) {
		for e, err := range user.List(ctx, dir) {
			require.NoError(t, err)
			out = append(out, fmt.Sprintf("%s %d %d %v", e.Path, e.FileID, e.Length, e.Modified))
			if e.Directory {
				walk(e.Path)
			}
		}
	}
	walk("/")
	return out
}

// checkpointFiles are those in the log server's directory, the oldest first.
func checkpointFiles(t *testing.T, system *cluster.Cluster) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(system.Path("logserver"), "checkpoints", "*.checkpoint"))
	require.NoError(t, err)
	return files
}

// damage changes a byte in the middle of a file.
func damage(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(file, b, 0o644))
}

// TestCheckpointsAndSIGKILL: changes and checkpoints, then SIGKILL of namenode
// and log server, is the same namespace after a restart; also with a damaged
// newest checkpoint. With both damaged and the log cut nothing is served: a clear
// error is, and no empty namespace.
func TestCheckpointsAndSIGKILL(t *testing.T) {
	t.Parallel()
	system := start(t, cluster.Options{})
	ctx := patient(t, 3*time.Minute)
	cl := system.Client()
	step := func(number int) {
		t.Helper()
		// More entries than the log server leaves between two places where it can cut.
		require.NoError(t, cl.Mkdir(ctx, fmt.Sprintf("/many-%d", number), client.MkdirOptions{}))
		for i := range 300 {
			require.NoError(t, cl.Mkdir(ctx, fmt.Sprintf("/many-%d/%d", number, i), client.MkdirOptions{}))
		}
		for i := range 40 {
			name := fmt.Sprintf("/%d/%d/file", number, i)
			_, err := cl.Store(ctx, name, strings.NewReader(name), int64(len(name)),
				client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
			require.NoError(t, err)
		}
		if number > 0 {
			_, err := cl.Remove(ctx, fmt.Sprintf("/%d/7", number-1), client.RemoveOptions{Recursive: true})
			require.NoError(t, err)
			require.NoError(t, cl.Rename(ctx, fmt.Sprintf("/%d/8/file", number-1), fmt.Sprintf("/%d/moved", number),
				client.RenameOptions{}))
		}
	}
	for n := range 4 {
		step(n)
		if n == 3 {
			break // the tail behind the last one
		}
		taken, err := cl.Checkpoint(ctx)
		require.NoError(t, err)
		status, err := cl.ClusterStatus(ctx)
		require.NoError(t, err)
		require.Equal(t, taken.Txid, status.Checkpoint.Txid)
		require.LessOrEqual(t, taken.Txid, status.Txid)
	}
	require.Len(t, checkpointFiles(t, system), 2)
	before := namespace(ctx, t, cl)
	require.Greater(t, len(before), 200)

	restart := func() {
		t.Helper()
		require.NoError(t, system.Kill(system.Namenode, system.LogServer))
		require.NoError(t, system.Start(ctx))
	}
	restart()
	require.Equal(t, before, namespace(ctx, t, cl))
	status, err := cl.ClusterStatus(ctx)
	require.NoError(t, err)
	require.NotZero(t, status.Checkpoint.Txid)
	require.Less(t, status.Checkpoint.RecordsSince, status.Txid)
	b, err := readAll(ctx, cl, "/3/moved")
	require.NoError(t, err)
	require.Equal(t, "/2/8/file", string(b))

	require.NoError(t, system.Kill(system.Namenode, system.LogServer))
	damage(t, checkpointFiles(t, system)[1])
	require.NoError(t, system.Start(ctx))
	require.Equal(t, before, namespace(ctx, t, cl))
	log, err := os.ReadFile(system.Namenode.Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "a checkpoint is damaged; the one before it is taken")

	require.NoError(t, system.Kill(system.Namenode, system.LogServer))
	for _, file := range checkpointFiles(t, system) {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		b[len(b)-100] ^= 1
		require.NoError(t, os.WriteFile(file, b, 0o644))
	}
	require.NoError(t, system.LogServer.Start())
	require.NoError(t, system.Namenode.Start())
	ended, how := system.Namenode.Ended()
	select {
	case <-ended:
	case <-ctx.Done():
		require.FailNow(t, "the namenode should end")
	}
	require.Error(t, how())
	log, err = os.ReadFile(system.Namenode.Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "no checkpoint can be read that the log goes on behind")
	asked, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = cl.Stat(asked, "/3/moved")
	require.Error(t, err)
	require.NotErrorIs(t, err, fault.NotFound, "nobody says that a file is gone")
}
