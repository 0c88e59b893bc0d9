package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
)

// TestNothingIsDeletedForWrongMetadata runs a namenode on an older copy of the log, and on an empty one, against
// datanodes that are full of chunks, with nearly no grace. No file goes, and with the right log all can be read.
func TestNothingIsDeletedForWrongMetadata(t *testing.T) {
	t.Parallel()
	system := start(t, cluster.Options{Settings: map[string]any{"namenode.unknown_replica_grace": "200ms"}})
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
	require.NoError(t, os.Rename(log, right))

	for name, wrong := range map[string]struct{ log, word string }{
		"an older log": {older, "seen"}, "an empty log, of another cluster": {t.TempDir(), "cluster"},
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
}

// stored lists the files of replicas on all disks.
func stored(t *testing.T, system *cluster.Cluster) (names []string) {
	for i := range system.Datanodes {
		for _, disk := range system.Disks(i) {
			found, err := filepath.Glob(filepath.Join(disk, "chunks", "*", "*"))
			require.NoError(t, err)
			names = append(names, found...)
		}
	}
	slices.Sort(names)
	return names
}
