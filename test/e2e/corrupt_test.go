package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
)

// TestCorruptReplicas flips one byte of the stored data of one replica after
// the other. As long as a good one is left, readers get the right bytes and the
// log names the bad one; without any they get an error that says which chunk
// and node, and never wrong bytes.
func TestCorruptReplicas(t *testing.T) {
	system := start(t, cluster.Options{})
	content := bytesOf(5, 900_000)
	mustWW(t, system, "put", localFile(t, content), "/file")
	mustWW(t, system, "put", localFile(t, content), "/other")
	chunks, err := system.Client().Locate(t.Context(), "/file", 0, -1)
	require.NoError(t, err)
	require.Len(t, chunks, 1)
	id := chunks[0].ID.String()
	files := replicaFiles(t, system, id)
	require.Len(t, files, 3)

	for good := 2; good >= 1; good-- {
		chunks, err := system.Client().Locate(t.Context(), "/file", 0, -1)
		require.NoError(t, err)
		require.Len(t, chunks[0].Replicas, good+1)
		bad := chunks[0].Replicas[0]
		flipByte(t, fileOn(t, system, system.DatanodeAt(bad.Address), id))
		// Readers choose among replicas: read until one has met the bad one.
		// Corruption that nobody reads proves nothing.
		err = cluster.Poll(patient(t, time.Minute), func() error {
			sameBytes(t, content, []byte(mustWW(t, system, "get", "/file", "-")),
				fmt.Sprintf("with %d good replicas", good))
			return logged(system.Namenode, "bad replica", id, bad.NodeID)
		})
		require.NoError(t, err, "the log names chunk and node")
	}

	// Now the last one.
	chunks, err = system.Client().Locate(t.Context(), "/file", 0, -1)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 1)
	last := chunks[0].Replicas[0]
	flipByte(t, fileOn(t, system, system.DatanodeAt(last.Address), id))
	target := filepath.Join(t.TempDir(), "target")
	r := ww(t, system, "get", "/file", target)
	require.Equal(t, exitCorrupt, r.code, "stdout: %s\nstderr: %s", clip(r.stdout), r.stderr)
	require.Contains(t, r.stderr, id, "the message names the chunk")
	require.Contains(t, r.stderr, "/file", "the message names the file")
	require.Contains(t, r.stderr, last.NodeID, "the message names the node")
	require.NoFileExists(t, target, "no half file under the final name")
	left, err := os.ReadDir(filepath.Dir(target))
	require.NoError(t, err)
	require.Empty(t, left, "no half file under another name either")
	// cat may have written a verified prefix; never a wrong byte.
	cat := ww(t, system, "cat", "/file")
	require.Equal(t, exitCorrupt, cat.code)
	sameBytes(t, content[:min(len(cat.stdout), len(content))], []byte(cat.stdout), "what cat wrote before it failed")
	sameBytes(t, content, []byte(mustWW(t, system, "cat", "/other")), "another file")
}

// TestLastGoodReplicaGone: two replicas are damaged and the node of the third is
// dead. The answer is that the data is corrupt, with chunk and nodes, and as
// soon as the third is back the right bytes.
func TestLastGoodReplicaGone(t *testing.T) {
	system := start(t, cluster.Options{})
	content := bytesOf(8, 900_000)
	mustWW(t, system, "put", localFile(t, content), "/file")
	chunks, err := system.Client().Locate(t.Context(), "/file", 0, -1)
	require.NoError(t, err)
	replicas := chunks[0].Replicas
	require.Len(t, replicas, 3)
	id := chunks[0].ID.String()
	for _, bad := range replicas[:2] {
		flipByte(t, fileOn(t, system, system.DatanodeAt(bad.Address), id))
	}
	last := system.Datanodes[system.DatanodeAt(replicas[2].Address)]
	require.NoError(t, last.Kill())
	target := filepath.Join(t.TempDir(), "target")
	refused(t, system, call{arguments: []string{"get", "/file", target}}, exitCorrupt, id, "/file", replicas[0].NodeID)
	require.NoFileExists(t, target)

	require.NoError(t, system.Start(patient(t, cluster.StartTimeout)))
	sameBytes(t, content, []byte(mustWW(t, system, "cat", "/file")), "with the last good replica back")
}

// TestTruncatedAndMissingReplicas removes and cuts stored files under a running
// datanode: readers go to another replica.
func TestTruncatedAndMissingReplicas(t *testing.T) {
	system := start(t, cluster.Options{})
	for name, damage := range map[string]func(file string) error{
		"cut":     func(file string) error { return os.Truncate(file, 8192+100) },
		"emptied": func(file string) error { return os.Truncate(file, 0) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			content := bytesOf(6, 900_000)
			mustWW(t, system, "put", localFile(t, content), "/"+name)
			chunks, err := system.Client().Locate(t.Context(), "/"+name, 0, -1)
			require.NoError(t, err)
			first := system.DatanodeAt(chunks[0].Replicas[0].Address)
			require.NoError(t, damage(fileOn(t, system, first, chunks[0].ID.String())))
			sameBytes(t, content, []byte(mustWW(t, system, "cat", "/"+name)), name)
		})
	}
}

// TestLostReplicaIsFoundOut: a datanode loses a replica right after it was sealed, and restarts. Its report shows that,
// and the replica is made good at once.
func TestLostReplicaIsFoundOut(t *testing.T) {
	system := start(t, cluster.Options{RepairGrace: time.Second})
	mustWW(t, system, "put", localFile(t, bytesOf(6, 900_000)), "/file")
	chunks, err := system.Client().Locate(t.Context(), "/file", 0, -1)
	require.NoError(t, err)
	loser := system.DatanodeAt(chunks[0].Replicas[0].Address)
	id := chunks[0].ID.String()
	file := fileOn(t, system, loser, id)
	require.NoError(t, system.Kill(system.Datanodes[loser]))
	require.NoError(t, os.Remove(file))
	require.NoError(t, system.Datanodes[loser].Start())
	require.NoError(t, cluster.Poll(patient(t, 20*time.Second), func() error {
		if files := replicaFiles(t, system, id); len(files) != 3 {
			return fmt.Errorf("there are %d replicas: %v", len(files), files)
		}
		return nil
	}))
}

// flipByte changes one bit in the middle of the data of a chunk file.
func flipByte(t *testing.T, name string) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	// Data is the last part of the file; 300,000 bytes before the end is data
	// in a chunk of 900,000.
	at := info.Size() - 300_000
	require.Positive(t, at)
	var b [1]byte
	_, err = file.ReadAt(b[:], at)
	require.NoError(t, err)
	b[0] ^= 0x10
	_, err = file.WriteAt(b[:], at)
	require.NoError(t, err)
}

// fileOn is the file of a chunk on one datanode.
func fileOn(t *testing.T, system *cluster.Cluster, datanode int, id string) string {
	t.Helper()
	files := filesOn(t, system, datanode, id)
	require.Len(t, files, 1)
	return files[0]
}

// filesOn lists the files of a chunk on one datanode that are not set aside.
func filesOn(t *testing.T, system *cluster.Cluster, datanode int, id string) []string {
	t.Helper()
	var out []string
	for _, disk := range system.Disks(datanode) {
		found, err := filepath.Glob(filepath.Join(disk, "chunks", "*", id+"_*"))
		require.NoError(t, err)
		out = append(out, found...)
	}
	return out
}

// logged looks for a line of a process's log that holds all the words.
func logged(process *cluster.Process, words ...string) error {
	b, err := os.ReadFile(process.Log)
	if err != nil {
		return err
	}
lines:
	for line := range strings.Lines(string(b)) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		return nil
	}
	return fmt.Errorf("log of %s: no line with %q", process.Name, words)
}
