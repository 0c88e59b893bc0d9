package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
)

// TestNothingIsDeletedForWrongMetadata runs a namenode on an older copy of the log, on one that ended in an earlier
// epoch, and on an empty one of another cluster, against datanodes that are full of chunks, with nearly no grace. No
// file goes, and with the right log all can be read. Even there nothing goes in safe mode, or before the grace is over.
func TestNothingIsDeletedForWrongMetadata(t *testing.T) {
	t.Parallel()
	const grace = "200ms"
	system := start(t, cluster.Options{RepairGrace: time.Hour,
		Settings: map[string]any{"namenode.unknown_replica_grace": grace}})
	log, content := system.Path("logserver"), bytesOf(9, 3_500_000)
	stop := func() {
		require.NoError(t, system.Namenode.Stop())
		require.NoError(t, system.LogServer.Stop())
	}
	begin := func() {
		require.NoError(t, system.LogServer.Start())
		require.NoError(t, system.Namenode.Start())
	}
	mustWW(t, system, "put", localFile(t, content), "/old")
	stop()
	older, right := scratch(t), filepath.Join(scratch(t), "logserver")
	require.NoError(t, os.CopyFS(older, os.DirFS(log)))
	begin()
	require.NoError(t, system.WaitReady(patient(t, time.Minute)))
	for i := range 5 {
		mustWW(t, system, "put", localFile(t, content), fmt.Sprintf("/new-%d", i))
	}
	pause(t.Context(), 3*time.Second) // a heartbeat tells the datanodes how far the log is
	before := stored(t, system)
	require.GreaterOrEqual(t, len(before), 6*4*3)
	stop()
	lower := scratch(t)
	require.NoError(t, os.CopyFS(lower, os.DirFS(log)))
	for range 2 { // each begins an epoch
		begin()
		require.NoError(t, system.WaitReady(patient(t, time.Minute)))
		stop()
	}
	require.NoError(t, os.Rename(log, right))

	for name, wrong := range map[string]struct{ log, word string }{
		"an older log": {older, "seen"}, "a lower epoch": {lower, "seen epoch"},
		"an empty log, of another cluster": {t.TempDir(), "cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.CopyFS(log, os.DirFS(wrong.log)))
			begin()
			for _, datanode := range system.Datanodes {
				require.NoError(t, cluster.Poll(patient(t, time.Minute), func() error {
					return logged(datanode, "do not belong together", wrong.word)
				}))
			}
			pause(t.Context(), 5*time.Second)
			require.Equal(t, before, stored(t, system))
			stop()
			require.NoError(t, os.RemoveAll(log))
		})
	}
	require.NoError(t, os.Rename(right, log))
	begin()
	require.NoError(t, system.WaitReady(patient(t, time.Minute)))
	require.NoError(t, cluster.Poll(patient(t, time.Minute), func() error {
		if r := ww(t, system, "cat", "/new-4"); r.stdout != string(content) {
			return fmt.Errorf("exit code %d, %d bytes: %s", r.code, len(r.stdout), r.stderr)
		}
		return nil
	}))
	require.Equal(t, before, stored(t, system))

	// What the right metadata does not know stays in safe mode, and as long as the grace; then it goes.
	absent := system.Datanodes[0]
	require.NoError(t, absent.Stop())
	mustWW(t, system, "rm", "/new-0", "/new-1", "/new-2", "/new-3")
	mustWW(t, system, "admin", "safemode", "enter")
	unknown := stored(t, system, 0)
	require.NoError(t, absent.Start())
	reported := func() error {
		status, err := system.Client().ClusterStatus(t.Context())
		if err != nil {
			return err
		}
		for _, node := range status.Nodes {
			if !node.Live {
				return fmt.Errorf("%s is not live", node.Address)
			}
		}
		return nil
	}
	require.NoError(t, cluster.Poll(patient(t, time.Minute), reported))
	pause(t.Context(), 3*time.Second)
	require.Equal(t, unknown, stored(t, system, 0), "it is in safe mode")

	restart := func(grace, other string) {
		file := system.Path("namenode.yaml")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(text), grace)
		require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte(grace), []byte(other)), 0o644))
		require.NoError(t, system.Namenode.Stop())
		require.NoError(t, system.Namenode.Start())
		require.NoError(t, system.WaitReady(patient(t, time.Minute)))
	}
	restart(grace, "201s")
	pause(t.Context(), 3*time.Second)
	require.Equal(t, unknown, stored(t, system, 0), "it has a grace")
	restart("201s", grace)
	require.NoError(t, cluster.Poll(patient(t, time.Minute), func() error {
		if len(stored(t, system, 0)) == len(unknown) {
			return errors.New("what no metadata knows is still there")
		}
		return nil
	}))
	require.Equal(t, string(content), mustWW(t, system, "cat", "/new-4"))
}

// stored lists the files of replicas on all disks, or on those of some datanodes.
func stored(t *testing.T, system *cluster.Cluster, datanodes ...int) (names []string) {
	for i := range system.Datanodes {
		if len(datanodes) > 0 && !slices.Contains(datanodes, i) {
			continue
		}
		for _, disk := range system.Disks(i) {
			found, err := filepath.Glob(filepath.Join(disk, "chunks", "*", "*"))
			require.NoError(t, err)
			names = append(names, found...)
		}
	}
	slices.Sort(names)
	return names
}
