package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/record"
	"github.com/whispering-woods/ww/test/loopdisk"
)

// What one hung datanode of four may cost an operation under way, at default settings, and what a busy machine adds.
const (
	hungReadMost  = 2 * time.Second
	hungWriteMost = 5 * time.Second
	busyMargin    = 2 * time.Second
)

// TestAHungDatanodeHoldsNobodyUp: SIGSTOP stops a datanode, and the kernel goes on taking connections and bytes for it.
// Every operation moves on in time, wherever the datanode stands.
func TestAHungDatanodeHoldsNobodyUp(t *testing.T) {
	system := start(t, cluster.Options{})
	h := &hungCluster{t: t, Cluster: system, ctx: patient(t, 10*time.Minute)}
	content := bytesOf(1, 6<<20)
	local := localFile(t, content)
	for place := range 3 {
		path := fmt.Sprintf("/read-%d", place)
		mustWW(t, system, "put", local, path)
		h.within(fmt.Sprintf("cat, replica %d", place), hungReadMost, h.holder(path, place), func() {
			sameBytes(t, content, []byte(mustWW(t, system, "cat", path)), "cat")
		})
		h.within(fmt.Sprintf("flush and sync, replica %d", place), hungWriteMost, nil, h.write(place))
		path = fmt.Sprintf("/append-%d", place)
		mustWW(t, system, "put", localFile(t, content[:1<<19]), path)
		h.within(fmt.Sprintf("append, replica %d", place), hungWriteMost, h.holder(path, place), func() {
			mustWW(t, system, "append", localFile(t, content[1<<19:1<<20]), path)
		})
		sameBytes(t, content[:1<<20], []byte(mustWW(t, system, "cat", path)), "append")
		h.within(fmt.Sprintf("cp, replica %d of the source", place), hungWriteMost, h.holder("/read-0", place), func() {
			mustWW(t, system, "cp", "/read-0", fmt.Sprintf("/copy-%d", place))
		})
		sameBytes(t, content, []byte(mustWW(t, system, "cat", fmt.Sprintf("/copy-%d", place))), "cp")
		h.within(fmt.Sprintf("truncate, replica %d", place), hungWriteMost, h.holder(path, place), func() {
			mustWW(t, system, "truncate", "-s", "700000", path)
		})
		sameBytes(t, content[:700000], []byte(mustWW(t, system, "cat", path)), "truncate")
	}
	for i, node := range system.Datanodes {
		path := fmt.Sprintf("/put-%d", i)
		h.within("put, "+node.Name, hungWriteMost, node, func() { mustWW(t, system, "put", local, path) })
		sameBytes(t, content, []byte(mustWW(t, system, "cat", path)), "put")
		h.within("small files, "+node.Name, hungWriteMost, node, h.smallFiles(fmt.Sprintf("/small-%d", i)))
	}
}

// hungCluster pauses a datanode while an operation runs.
type hungCluster struct {
	*cluster.Cluster
	t   *testing.T
	ctx context.Context
}

// within runs an operation while a node hangs; nil: the operation pauses one itself.
func (h *hungCluster) within(what string, most time.Duration, node *cluster.Process, operation func()) {
	h.t.Helper()
	if node != nil {
		require.NoError(h.t, node.Pause())
	}
	began := time.Now()
	operation()
	took := time.Since(began)
	h.t.Logf("%s: %v", what, took.Round(10*time.Millisecond))
	for _, p := range h.Datanodes {
		require.NoError(h.t, p.Resume())
	}
	if underRace() {
		most *= 2
	}
	require.Less(h.t, took, most+busyMargin, what)
	require.NoError(h.t, h.WaitReady(h.ctx))
}

// holder is the datanode with a replica of the file's last chunk.
func (h *hungCluster) holder(path string, place int) *cluster.Process {
	h.t.Helper()
	chunks, err := h.Client().Locate(h.ctx, path, 0, 0)
	require.NoError(h.t, err)
	replicas := chunks[len(chunks)-1].Replicas
	slices.SortFunc(replicas, func(a, b client.Replica) int {
		return h.DatanodeAt(a.Address) - h.DatanodeAt(b.Address)
	})
	require.Greater(h.t, len(replicas), place)
	return h.Datanodes[h.DatanodeAt(replicas[place].Address)]
}

// dial makes a client that remembers nothing of the nodes.
func (h *hungCluster) dial() *client.Client {
	user, err := client.Dial(h.ctx, client.Options{Namenodes: []string{h.Address()}})
	require.NoError(h.t, err)
	return user
}

// write pauses a datanode below an open pipeline.
func (h *hungCluster) write(place int) func() {
	return func() {
		user, path := h.dial(), fmt.Sprintf("/open-%d", place)
		content := bytesOf(uint64(place), 3<<19)
		w, err := user.Create(h.ctx, path, client.CreateOptions{})
		require.NoError(h.t, err)
		_, err = w.Write(content[:1<<19])
		require.NoError(h.t, err)
		require.NoError(h.t, w.Flush(h.ctx))
		require.NoError(h.t, h.holder(path, place).Pause())
		_, err = w.Write(content[1<<19:])
		require.NoError(h.t, err)
		require.NoError(h.t, w.Sync(h.ctx))
		require.NoError(h.t, w.Close())
		got, err := readAll(h.ctx, user, path)
		require.NoError(h.t, err)
		sameBytes(h.t, content, got, path)
		require.NoError(h.t, user.Close())
	}
}

// smallFiles are stored by one client, which meets the hung node at most once.
func (h *hungCluster) smallFiles(prefix string) func() {
	return func() {
		user := h.dial()
		for i := range 20 {
			w, err := user.Create(h.ctx, fmt.Sprintf("%s-%d", prefix, i), client.CreateOptions{})
			require.NoError(h.t, err)
			_, err = w.Write(bytesOf(uint64(i), 4<<10))
			require.NoError(h.t, err)
			require.NoError(h.t, w.Close())
		}
		require.NoError(h.t, user.Close())
	}
}

// TestAHungDatanodeDelaysRecords: a node of the pipeline hangs, and then the datanode that appends, whose lease is
// taken over when the namenode has not heard of it for three seconds.
func TestAHungDatanodeDelaysRecords(t *testing.T) {
	system := start(t, cluster.Options{})
	h := &hungCluster{t: t, Cluster: system, ctx: patient(t, 5*time.Minute)}
	user := h.dial()
	defer func() { require.NoError(t, user.Close()) }()
	appender, err := user.OpenRecords(h.ctx, "/records", client.RecordOptions{Create: true, Sync: true})
	require.NoError(t, err)
	add := func() {
		_, err := appender.Append(h.ctx, []byte("a record"))
		require.NoError(t, err)
	}
	add()
	leader := func() *cluster.Process {
		info, err := user.Stat(h.ctx, "/records")
		require.NoError(t, err)
		_, address, ok := record.ParseHolder(info.LeaseHolder)
		require.True(t, ok, info.LeaseHolder)
		return system.Datanodes[system.DatanodeAt(address)]
	}
	other := h.holder("/records", 0)
	if other == leader() {
		other = h.holder("/records", 1)
	}
	h.within("record append, another node", hungWriteMost, other, add)
	h.within("record append, the node that appends", hungWriteMost, leader(), add)
	require.NoError(t, appender.Close())
}

// TestAHungDiskHoldsNobodyUp: the datanode lives, and says so, but nothing that it writes comes to an end. It is found
// by its times, which are compared with those of the others.
func TestAHungDiskHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	d := startDisks(t, 1)
	h := &hungCluster{t: t, Cluster: d.Cluster, ctx: patient(t, 5*time.Minute)}
	user := h.dial()
	defer func() { require.NoError(t, user.Close()) }()
	content := bytesOf(7, 1<<20)
	onDisk := func(path string) bool {
		chunks, err := user.Locate(h.ctx, path, 0, 0)
		require.NoError(t, err)
		return slices.ContainsFunc(chunks[len(chunks)-1].Replicas, func(r client.Replica) bool {
			return h.DatanodeAt(r.Address) == 0
		})
	}
	var open *client.FileWriter
	openPath := ""
	for i := 0; open == nil; i++ {
		path := fmt.Sprintf("/open-%d", i)
		w, err := user.Create(h.ctx, path, client.CreateOptions{})
		require.NoError(t, err)
		_, err = w.Write(content[:1000])
		require.NoError(t, err)
		require.NoError(t, w.Flush(h.ctx))
		if onDisk(path) {
			open, openPath = w, path
		} else {
			require.NoError(t, w.Close())
		}
	}
	closed := ""
	for i := 0; closed == ""; i++ {
		path := fmt.Sprintf("/closed-%d", i)
		mustWW(t, d.Cluster, "put", localFile(t, content[:100_000]), path)
		if onDisk(path) {
			closed = path
		}
	}
	slowSync(h, open, openPath, d.loops[0])
	thaw := d.loops[0].Hang()
	h.within("sync, one disk hangs", hungWriteMost, nil, func() {
		_, err := open.Write(content[2000:200_000])
		require.NoError(t, err)
		require.NoError(t, open.Sync(h.ctx))
	})
	require.NoError(t, open.Close())
	h.within("append, one disk hangs", hungWriteMost, nil, func() {
		mustWW(t, d.Cluster, "append", localFile(t, content[100_000:200_000]), closed)
	})
	h.within("put, one disk hangs", hungWriteMost, nil, func() {
		mustWW(t, d.Cluster, "put", localFile(t, content), "/put")
	})
	h.within("cat, one disk hangs", hungReadMost, nil, func() {
		sameBytes(t, content, []byte(mustWW(t, d.Cluster, "cat", "/put")), "/put")
		sameBytes(t, content[:200_000], []byte(mustWW(t, d.Cluster, "cat", closed)), closed)
	})
	thaw()
}

// slowSync: a disk that takes longer than a node may be silent is waited for.
func slowSync(h *hungCluster, w *client.FileWriter, path string, disk *loopdisk.Disk) {
	t := h.t
	before, err := h.Client().Locate(h.ctx, path, 0, 0)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 1000))
	require.NoError(t, err)
	timer := time.AfterFunc(2500*time.Millisecond, disk.Hang())
	defer timer.Stop()
	began := time.Now()
	require.NoError(t, w.Sync(h.ctx))
	require.Greater(t, time.Since(began), 2*time.Second, "the disk did not hang")
	after, err := h.Client().Locate(h.ctx, path, 0, 0)
	require.NoError(t, err)
	require.Equal(t, before[0].Generation, after[0].Generation, "the pipeline was replaced")
}
