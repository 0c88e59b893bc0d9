package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
)

// diskStates are the states of a datanode's disks in the list, by the base names of their directories.
func diskStates(t *testing.T, system *cluster.Cluster, node string) map[string]string {
	t.Helper()
	states := map[string]string{}
	for line := range strings.Lines(mustWW(t, system, "admin", "disk", "list", "--json", node)) {
		var disk struct{ Directory, State string }
		require.NoError(t, json.Unmarshal([]byte(line), &disk))
		if disk.Directory != "" {
			states[filepath.Base(disk.Directory)] = disk.State
		}
	}
	return states
}

// TestDisksAreChangedWhileADatanodeRuns adds a disk, loses one and replaces it, without a restart; then one with the
// same flags heeds all that.
func TestDisksAreChangedWhileADatanodeRuns(t *testing.T) {
	t.Parallel()
	system := start(t, cluster.Options{Datanodes: 2, Disks: 2, RepairGrace: time.Second,
		Settings: map[string]any{"datanode.reserve": "1MiB"}})
	node := fmt.Sprintf("127.0.0.1:%d", system.DataPorts[0])
	bad := system.Disks(0)[1]
	added, next := system.Path("added"), system.Path("next")
	r := ww(t, system, "admin", "disk", "add", node, added)
	require.NotZero(t, r.code)
	require.Contains(t, r.stderr, "does not exist")
	for _, directory := range []string{added, next} {
		require.NoError(t, os.Mkdir(directory, 0o755))
	}
	for range 2 {
		require.Contains(t, mustWW(t, system, "admin", "disk", "add", node, added), added+": healthy")
	}
	content := bytesOf(3, 3<<20)
	source := filepath.Join(scratch(t), "source")
	require.NoError(t, os.WriteFile(source, content, 0o644))
	for i := range 12 {
		mustWW(t, system, "put", "--replication", "2", source, fmt.Sprintf("/file-%d", i))
	}
	stored, err := filepath.Glob(filepath.Join(added, "chunks", "*", "*.chunk"))
	require.NoError(t, err)
	require.NotEmpty(t, stored, "new replicas go to the added disk")

	require.NotZero(t, ww(t, system, "admin", "disk", "replace", node, bad, next).code, "it works")
	require.NoError(t, os.Rename(filepath.Join(bad, "chunks"), filepath.Join(bad, "gone")))
	require.NoError(t, cluster.Poll(patient(t, 30*time.Second), func() error {
		if r = ww(t, system, "admin", "disk", "replace", node, bad, next); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	}))
	names := []string{filepath.Base(system.Disks(0)[0]), "added", "next"}
	requireDisks := func() {
		t.Helper()
		require.NoError(t, cluster.Poll(patient(t, 30*time.Second), func() error { // the next heartbeat tells
			states := diskStates(t, system, node)
			healthy := !slices.ContainsFunc(names, func(name string) bool { return states[name] != "healthy" })
			if len(states) != len(names) || !healthy {
				return fmt.Errorf("%v are healthy, but listed is %v", names, states)
			}
			return nil
		}))
	}
	requireDisks()
	require.NoError(t, cluster.Poll(patient(t, time.Minute), func() error {
		if r := ww(t, system, "fsck", "/"); r.code != 0 {
			return errors.New(r.stdout)
		}
		return nil
	}), "what was on the bad disk is copied")
	require.NoError(t, os.Rename(filepath.Join(bad, "gone"), filepath.Join(bad, "chunks")))
	require.NoError(t, system.Datanodes[0].Kill())
	require.NoError(t, system.Datanodes[0].Start())
	require.NoError(t, system.WaitReady(patient(t, time.Minute)))
	requireDisks()
	requireFiles := func() {
		t.Helper()
		for i := range 12 {
			sameBytes(t, content, []byte(mustWW(t, system, "cat", fmt.Sprintf("/file-%d", i))), "a file")
		}
	}
	requireFiles()

	// One that works drains: nobody else but the disks beside it can take what is on it.
	require.Contains(t, mustWW(t, system, "admin", "disk", "remove", node, added), added+": draining")
	require.Contains(t, mustWW(t, system, "admin", "disk", "remove", "--cancel", node, added), added+": healthy")
	require.Contains(t, mustWW(t, system, "admin", "disk", "remove", "--wait", "--timeout", "1m", node, added),
		added+": removed")
	names = names[:len(names)-1]
	names[1] = "next"
	requireDisks()
	mustWW(t, system, "fsck", "/")
	require.NoError(t, os.RemoveAll(added))
	requireFiles()
}
