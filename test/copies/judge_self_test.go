package copies

import (
	"bytes"
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
	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
)

// TestTheJudgeSeesWhatIsMissing spoils replicas behind the back of a cluster. A judge that finds nothing here finds
// nothing anywhere.
func TestTheJudgeSeesWhatIsMissing(t *testing.T) {
	system, all := startCluster(t, cluster.Options{Disks: 2})
	spoils := map[string]func(t *testing.T, r *replica){
		"lost":    lose,
		"rotten":  rot,
		"shorter": shorten,
		"stale":   age,
	}
	kinds := map[string]func(t *testing.T, user *client.Client, path string) acknowledgement{
		"packed": func(t *testing.T, user *client.Client, path string) acknowledgement {
			return put(t, user, path, 4000)
		},
		"files": func(t *testing.T, user *client.Client, path string) acknowledgement {
			return put(t, user, path, 300_000)
		},
		"open": flushed,
	}
	for kind, write := range kinds {
		for spoil, damage := range spoils {
			if kind != "appended" && spoil == "stale" {
				continue // it has no older generation, or the length of an open chunk tells
			}
			t.Run(kind+" "+spoil, func(t *testing.T) {
				user := system.Client()
				given := write(t, user, fmt.Sprintf("/%s-%s", kind, spoil))
				strict := newJudge(all, user, func(time.Time) []int { return []int{0, 1, 2, 3} })
				lenient := newJudge(all, user, func(time.Time) []int { return nil })
				holders := onlyHolders(t, all, user, given.path)
				strict.nodes = func(time.Time) []int { return holders }
				require.NoError(t, strict.accept(t.Context(), given))

				damage(t, newestReplica(t, all, user, given.path, holders[0]))
				require.NoError(t, lenient.accept(t.Context(), given), "two are enough if no node could take the third")
				require.ErrorContains(t, strict.accept(t.Context(), given), "could take a copy")

				damage(t, newestReplica(t, all, user, given.path, holders[1]))
				require.ErrorContains(t, lenient.accept(t.Context(), given), "is on 1 datanodes, 2 are promised")
				require.Equal(t, 2, lenient.total())
			})
		}
	}
}

// TestWhatCameLaterDoesNotCount: a copy that was made while the namenode did not answer is none that the
// acknowledgement could rely on.
func TestWhatCameLaterDoesNotCount(t *testing.T) {
	system, all := startCluster(t, cluster.Options{Disks: 2})
	user := system.Client()
	given := put(t, user, "/late", 300_000)
	j := newJudge(all, user, func(time.Time) []int { return nil })
	holders := onlyHolders(t, all, user, given.path)
	aside := map[string]string{}
	for _, node := range holders[:2] {
		path := newestReplica(t, all, user, given.path, node).path
		aside[path] = filepath.Join(t.TempDir(), filepath.Base(path))
		require.NoError(t, os.Rename(path, aside[path]))
	}
	before, err := all.list()
	require.NoError(t, err)
	for path, from := range aside {
		require.NoError(t, os.Rename(from, path))
	}
	require.NoError(t, j.accept(t.Context(), given))
	late := look{judge: j, given: given, before: before}
	ctx, cancel := context.WithTimeout(t.Context(), judgePatience)
	defer cancel()
	require.Contains(t, late.untilStable(ctx), "is on 1 datanodes")
}

// TestALostDiskExcusesNothingLater: what was on a disk when it was lost had been acknowledged rightly. An
// acknowledgement of a call that began later has to be on others.
func TestALostDiskExcusesNothingLater(t *testing.T) {
	system, all := startCluster(t, cluster.Options{Disks: 2})
	user := system.Client()
	given := put(t, user, "/lost", 100_000)
	holders := onlyHolders(t, all, user, given.path)
	j := newJudge(all, user, func(time.Time) []int { return holders })
	loseDisk := func(node int) {
		path := newestReplica(t, all, user, given.path, node).path
		for _, v := range all.nodes[node] {
			if strings.HasPrefix(path, v.directory+"/") {
				v.lose(time.Now())
			}
		}
	}
	loseDisk(holders[0])
	require.NoError(t, j.accept(t.Context(), given))
	given.begun = time.Now()
	require.ErrorContains(t, j.accept(t.Context(), given), "could take a copy")
	loseDisk(holders[1])
	require.ErrorContains(t, j.accept(t.Context(), given), "could take a copy", "one disk was lost meanwhile")
	given.begun = time.Now()
	require.ErrorContains(t, j.accept(t.Context(), given), "is on 1 datanodes, 2 are promised")
	given.from = given.length
	require.NoError(t, j.accept(t.Context(), given), "acknowledged before, and one copy is left")
	loseDisk(holders[2])
	given.begun = time.Now()
	require.ErrorContains(t, j.accept(t.Context(), given), "is on 0 datanodes")
}

// put stores a file.
func put(t *testing.T, user *client.Client, path string, size int) acknowledgement {
	content := bytes.Repeat([]byte(path), size/len(path))
	_, err := user.Store(t.Context(), path, bytes.NewReader(content), int64(len(content)), client.StoreOptions{
		CreateOptions: client.CreateOptions{ChunkSize: 128 << 10}})
	require.NoError(t, err)
	return acknowledgement{what: "put", path: path, pieces: []piece{{0, content}}, length: int64(len(content)),
		begun: time.Now()}
}

// appended puts a file and appends to it, so that its chunk is at its second generation. The writer has to be closed.
func appended(t *testing.T, user *client.Client, path string) (acknowledgement, *client.FileWriter) {
	given := put(t, user, path, 5000)
	writer, err := user.Append(t.Context(), path, client.AppendOptions{})
	require.NoError(t, err)
	_, err = writer.Write([]byte("and more"))
	require.NoError(t, err)
	given.pieces[0].data = append(given.pieces[0].data, "and more"...)
	given.length = int64(len(given.pieces[0].data))
	return given, writer
}

// flushed leaves the chunk of an append open.
func flushed(t *testing.T, user *client.Client, path string) acknowledgement {
	given, writer := appended(t, user, path)
	given.length = -1
	t.Cleanup(func() { _ = writer.Abort() })
	require.NoError(t, writer.Flush(t.Context()))
	return given
}

// onlyHolders lists the datanodes that hold the last chunk of a file.
func onlyHolders(t *testing.T, all *disks, user *client.Client, path string) []int {
	var nodes []int
	for node := range all.nodes {
		if newestReplica(t, all, user, path, node) != nil {
			nodes = append(nodes, node)
		}
	}
	require.Len(t, nodes, replication)
	return nodes
}

// newestReplica finds the replica of a file's last chunk on a datanode; nil if there is none.
func newestReplica(t *testing.T, all *disks, user *client.Client, path string, node int) *replica {
	located, err := user.Locate(t.Context(), path, 0, 0)
	require.NoError(t, err)
	found, err := all.find(located[len(located)-1].ID)
	require.NoError(t, err)
	for _, r := range found {
		if r.node == node && r.broken == "" {
			return r
		}
	}
	return nil
}

func lose(t *testing.T, r *replica) {
	if strings.HasSuffix(r.path, ".pack") {
		shorten(t, r)
		return
	}
	require.NoError(t, os.Remove(r.path))
}

// rot changes the last byte that the replica holds.
func rot(t *testing.T, r *replica) {
	content, err := os.ReadFile(r.path)
	require.NoError(t, err)
	at := bytes.LastIndex(content, r.data[max(0, len(r.data)-64):])
	require.Positive(t, at)
	content[at] ^= 1
	require.NoError(t, os.WriteFile(r.path, content, 0o644))
}

// shorten cuts what the replica holds in half, with all that is behind it.
func shorten(t *testing.T, r *replica) {
	content, err := os.ReadFile(r.path)
	require.NoError(t, err)
	at := bytes.LastIndex(content, r.data[len(r.data)/2:])
	require.Positive(t, at)
	require.NoError(t, os.Truncate(r.path, int64(at)))
}

// age renames a replica to the generation before.
func age(t *testing.T, r *replica) {
	name, ok := chunkfile.ParseName(filepath.Base(r.path))
	require.True(t, ok)
	require.Greater(t, name.Generation, chunk.Generation(1))
	name.Generation--
	require.NoError(t, os.Rename(r.path, filepath.Join(filepath.Dir(r.path), name.String())))
}
