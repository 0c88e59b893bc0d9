package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/loopdisk"
)

// busyText is what is said of a machine.
var busyText = regexp.MustCompile(`cpu \d+%  waits for disks \d+%  network |busy \d+%`)

// smallCluster is one of datanodes whose only disks are small file systems.
func smallCluster(t *testing.T, datanodes int, chunkSize int64, small ...int) *cluster.Cluster {
	t.Helper()
	loopdisk.Need(t)
	system, err := cluster.New(cluster.Options{Program: program, Directory: scratch(t), Datanodes: datanodes,
		ChunkSize: chunkSize, Settings: map[string]any{"datanode.reserve": "4MiB"}})
	require.NoError(t, err)
	for _, i := range small {
		mount := system.Disks(i)[0]
		require.NoError(t, os.MkdirAll(mount, 0o755))
		loopdisk.Command(t, "mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount)
		t.Cleanup(func() { _ = exec.Command("umount", "-l", mount).Run() })
	}
	t.Cleanup(func() {
		if t.Failed() {
			var text strings.Builder
			system.LogTail(&text, 25)
			t.Log("last lines of the daemons' logs:\n" + text.String())
		}
		require.NoError(t, system.Close())
		refusePanics(t, system)
	})
	require.NoError(t, system.Start(patient(t, cluster.StartTimeout)))
	return system
}

// fill leaves no room on the disk of a datanode.
func fill(t *testing.T, system *cluster.Cluster, datanode int) {
	t.Helper()
	f, err := os.Create(filepath.Join(system.Disks(datanode)[0], "ballast"))
	require.NoError(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
}

// TestSmallFileNeedsLittleRoom: no disk has room for a whole chunk, and a file that needs less is stored. One that
// needs more, or that nobody knows the size of, is refused with the room that there is, and the setting that keeps it.
func TestSmallFileNeedsLittleRoom(t *testing.T) {
	system := smallCluster(t, 3, 64<<20, 0, 1, 2)
	local := filepath.Join(t.TempDir(), "four")
	require.NoError(t, os.WriteFile(local, []byte("four"), 0o600))
	mustWW(t, system, "put", local, "/four")
	require.Equal(t, "four", mustWW(t, system, "cat", "/four"))
	content := bytesOf(1, 3<<20)
	require.NoError(t, os.WriteFile(local, content, 0o600))
	mustWW(t, system, "put", local, "/more")
	sameBytes(t, content, []byte(mustWW(t, system, "cat", "/more")), "/more")

	require.NoError(t, cluster.Poll(patient(t, time.Minute), func() error { // the machine has something to do
		for _, verb := range [][]string{{"admin", "report"}, {"admin", "disk", "list"}} {
			if text := mustWW(t, system, verb...); !busyText.MatchString(text) {
				return fmt.Errorf("ww %v does not tell how busy the machine is:\n%s", verb, text)
			}
		}
		return nil
	}))
	require.NoError(t, os.Truncate(local, 30<<20))
	for _, source := range []string{local, "-"} {
		refused(t, system, call{arguments: []string{"put", source, "/too-much"}, stdin: []byte("a line")}, 1,
			"datanode.reserve", "bytes on its emptiest disk")
	}
}

// TestDiskFillsDuringWrite: a writer goes on with another node when the disk of one is full, and is told of the nodes
// and disks when no other has room.
func TestDiskFillsDuringWrite(t *testing.T) {
	t.Parallel()
	system := smallCluster(t, 4, 8<<20, 0, 1, 2, 3)
	ctx := patient(t, 2*time.Minute)
	writer, err := system.Client().Create(ctx, "/file", client.CreateOptions{Replication: 3})
	require.NoError(t, err)
	content := bytesOf(2, 6<<20)
	begin, rest := content[:1<<20], content[1<<20:]
	_, err = writer.Write(begin)
	require.NoError(t, err)
	require.NoError(t, writer.Sync(ctx))
	status, err := system.Client().Locate(ctx, "/file", 0, 1)
	require.NoError(t, err)
	first := system.DatanodeAt(status[0].Replicas[0].Address)
	fill(t, system, first)
	_, err = writer.Write(rest)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	sameBytes(t, content, []byte(mustWW(t, system, "cat", "/file")), "/file")
	copies := 0
	for i := range system.Datanodes {
		found, err := filepath.Glob(filepath.Join(system.Disks(i)[0], "chunks", "*", "*.chunk"))
		require.NoError(t, err)
		copies += len(found)
	}
	require.Equal(t, 3, copies, "the fourth node took the place")

	writer, err = system.Client().Create(ctx, "/other", client.CreateOptions{Replication: 3})
	require.NoError(t, err)
	_, err = writer.Write(begin)
	require.NoError(t, err)
	require.NoError(t, writer.Sync(ctx))
	for i := range system.Datanodes {
		if i != first {
			fill(t, system, i)
		}
	}
	_, err = writer.Write(rest)
	err = errors.Join(err, writer.Close())
	require.ErrorIs(t, err, fault.NoSpace)
	require.Contains(t, err.Error(), "the disk is full")
	require.NotContains(t, err.Error(), "/chunks/", "people know disks by their directories")
	require.True(t, bytes.HasPrefix(content, []byte(mustWW(t, system, "cat", "/other"))), "what was synced is there")
}
