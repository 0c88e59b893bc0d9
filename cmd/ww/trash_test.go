package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What datanodes deleted is listed, comes back, records of packs too, and goes for good.
func TestAdminTrash(t *testing.T) {
	system := startWoods(t, 3)
	require.Empty(t, system.must("admin", "trash", "list"))
	deleted := func(sizes ...int) (list []map[string]any) {
		chunks := 0
		for _, size := range sizes {
			system.must("put", localFile(t, bytesOf(1, size)), "/lost")
			system.must("rm", "/lost")
			chunks += (size + chunkBytes - 1) / chunkBytes
		}
		require.Eventually(t, func() bool {
			list = objects(t, system.must("admin", "trash", "list", "--json"))
			return len(list) == 3*chunks
		}, time.Minute, 50*time.Millisecond)
		return list
	}
	list := deleted(2*chunkBytes+100, 5)
	for _, entry := range list {
		require.Equal(t, "sealed", entry["state"])
		deleted, err := time.Parse(time.RFC3339Nano, entry["deleted"].(string))
		require.NoError(t, err)
		until, err := time.Parse(time.RFC3339Nano, entry["until"].(string))
		require.NoError(t, err)
		require.Equal(t, time.Hour, until.Sub(deleted))
	}
	node, chunk := list[0]["name"].(string), list[0]["chunk"].(string)
	require.Len(t, objects(t, system.must("admin", "trash", "list", "--json", "--all", chunk)), 3)
	require.Len(t, objects(t, system.must("admin", "trash", "list", "--json", node)), 4)

	require.Contains(t, system.must("admin", "trash", "restore", node, chunk), "1 replica, ")
	require.Len(t, objects(t, system.must("admin", "trash", "list", "--json", "--all", chunk)), 2)
	require.Equal(t, exitNotFound, system.run("", "admin", "trash", "restore", node, chunk).code)
	require.Contains(t, system.must("admin", "trash", "restore", "--all"), "11 replicas, ")
	require.Empty(t, system.must("admin", "trash", "list"))
	for _, entry := range list { // they are served again, until the namenode has them deleted
		require.Equal(t, exitOK, system.run("", "admin", "scrub", entry["name"].(string)).code)
	}

	deleted(chunkBytes, 5)
	for _, args := range [][]string{{node}, {"--all"}} { // it asks first
		require.Equal(t, exitUsage, system.run("", append([]string{"admin", "trash", "empty"}, args...)...).code)
	}
	left := objects(t, system.must("admin", "trash", "list", "--json"))
	require.Len(t, left, 6)
	require.Contains(t, system.must("admin", "trash", "empty", node, left[0]["chunk"].(string)), "1 replica, ")
	require.Contains(t, system.must("admin", "trash", "empty", "--yes", node), "1 replica, ")
	require.Contains(t, system.must("admin", "trash", "empty", "--all", "--yes"), "4 replicas, ")
	require.Contains(t, system.must("admin", "trash", "restore", "--all"), "0 replicas, ")
	for _, wrong := range [][]string{{"restore"}, {"empty"}, {"restore", "--all", node},
		{"list", "--all", chunk, chunk}} {
		require.Equal(t, exitUsage, system.run("", append([]string{"admin", "trash"}, wrong...)...).code, wrong)
	}
	require.Equal(t, exitNotFound, system.run("", "admin", "trash", "empty", "--yes", "nobody").code)
}

// What rm removes comes back, in its last version, as long as it is not removed for good.
func TestUndelete(t *testing.T) {
	system := &woods{t: t, directory: t.TempDir(), expiry: time.Hour}
	running := system.start(3)
	t.Cleanup(func() { system.stop(running) })
	user := func(path string) string {
		return objects(t, system.must("undelete", "--list", "--json", path))[0]["trash_path"].(string)
	}
	for _, text := range []string{"one", "two"} {
		system.must("put", "-p", localFile(t, []byte(text)), "/a/b/c")
		removed := objects(t, system.must("rm", "--json", "/a/b/c"))[0]
		require.Equal(t, true, removed["trashed"])
		require.Equal(t, removed["trash_path"], user("/a/b/c"), "the newest is first")
	}
	require.Len(t, objects(t, system.must("undelete", "--list", "--json", "/a/b/c")), 2)
	require.Contains(t, system.must("ls", "/"), ".trash")
	system.must("rm", "-r", "/a")
	system.must("undelete", "/a/b/c")
	require.Equal(t, "two", system.must("cat", "/a/b/c"))
	require.Len(t, objects(t, system.must("undelete", "--list", "--json", "/a/b/c")), 1)
	require.Equal(t, exitExists, system.run("", "undelete", "/a/b/c").code)
	require.Equal(t, "two", system.must("cat", "/a/b/c"))

	// Removals of one minute are told apart, and each comes back as it was.
	system.must("rm", "-r", "/a")
	system.must("put", "-p", localFile(t, []byte("three")), "/a/b/d")
	system.must("rm", "-r", "/a")
	versions := objects(t, system.must("undelete", "--list", "--json", "/a"))
	require.NotEqual(t, versions[0]["trash_version"], versions[1]["trash_version"])
	require.Equal(t, exitNotFound, system.run("", "undelete", "--from", "20200101T0000Z", "/a").code)
	system.must("undelete", "--from", versions[1]["trash_version"].(string), "/a")
	require.Equal(t, "two", system.must("cat", "/a/b/c"))
	require.Equal(t, exitNotFound, system.run("", "cat", "/a/b/d").code)
	system.must("mv", "/a/b/c", "/c")
	system.must("rm", "-r", "/a")
	system.must("undelete", "/a/b/d")
	require.Equal(t, "three", system.must("cat", "/a/b/d"))
	system.must("mv", "/c", "/a/b/c")

	left := user("/a/b/c")
	require.Equal(t, "one", system.must("cat", left))
	require.Equal(t, exitNotFound, system.run("", "undelete", "--user", "somebody", "/a/b/c").code)
	system.must("rm", left)
	require.Equal(t, exitNotFound, system.run("", "undelete", "--list", "/a/b/c").code)
	require.Equal(t, false, objects(t, system.must("rm", "--skip-trash", "--json", "/a/b/c"))[0]["trashed"])
	require.Equal(t, exitNotFound, system.run("", "undelete", "/a/b/c").code)
	require.Equal(t, exitUsage, system.run("", "undelete", "--list", "/").code)
	system.must("rm", "-r", "/.trash")
	require.Equal(t, exitNotFound, system.run("", "ls", "/.trash").code)
}
