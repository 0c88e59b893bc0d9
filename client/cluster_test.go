package client_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// gnet, which the real cluster uses, starts a pool that nothing can stop.
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
}

// cluster is a fake namenode and fake datanodes on loopback, and a client.
type cluster struct {
	*client.Client
	t        *testing.T
	namenode *fakeNamenode
	nodes    []*fakeDatanode
}

func newCluster(t *testing.T, datanodes int, adjust ...func(*client.Options)) *cluster {
	c := &cluster{t: t, namenode: startNamenode(t)}
	for i := range datanodes {
		d := startDatanode(t, fmt.Sprintf("dn%d", i))
		c.nodes = append(c.nodes, d)
		c.namenode.nodes = append(c.namenode.nodes, &controlpb.Replica{NodeId: d.id, Address: d.address})
	}
	c.namenode.recover = c.recoverChunk
	c.Client = c.dial(adjust...)
	return c
}

// recoverChunk is what lease recovery does on the datanodes.
func (c *cluster) recoverChunk(id []byte, generation uint64) int64 {
	key, err := chunk.IDFrom(id)
	require.NoError(c.t, err)
	length := -1
	for _, d := range c.nodes {
		if r, ok := d.replica(key); ok && (length < 0 || len(r.data) < length) {
			length = len(r.data)
		}
	}
	for _, d := range c.nodes {
		d.set(func() {
			if r := d.replicas[key]; r != nil {
				r.data, r.synced, r.generation, r.state = r.data[:length:length], length, generation, chunk.Sealed
			}
		})
	}
	return int64(max(length, 0))
}

func (c *cluster) dial(adjust ...func(*client.Options)) *client.Client {
	retry, err := client.RetryByName(client.RetryExponential, client.RetryLimits{Elapsed: 2 * time.Second,
		Initial: 2 * time.Millisecond, Maximum: 20 * time.Millisecond})
	require.NoError(c.t, err)
	o := client.Options{Namenodes: []string{c.namenode.address}, Retry: retry, PacketBytes: 64 << 10,
		WindowBytes: 256 << 10, DataTimeout: 3 * time.Second, DialTimeout: time.Second, CallTimeout: 3 * time.Second,
		FirstContact: time.Second}
	for _, f := range adjust {
		f(&o)
	}
	cl, err := client.Dial(c.t.Context(), o)
	require.NoError(c.t, err)
	c.t.Cleanup(func() {
		require.NoError(c.t, cl.Close())
		require.Zero(c.t, client.OutstandingBuffers(cl), "buffers leaked")
	})
	return cl
}

// pattern is content in which every 8 bytes tell their own offset and seed, so that bytes of another place or file
// never pass for right.
func pattern(seed uint64, size int) []byte {
	b := make([]byte, (size+7)/8*8)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], seed<<40|uint64(i))
	}
	return b[:size]
}

func (c *cluster) put(path string, content []byte, o client.CreateOptions) {
	c.t.Helper()
	_, err := c.Store(c.t.Context(), path, bytes.NewReader(content), int64(len(content)),
		client.StoreOptions{CreateOptions: o})
	require.NoError(c.t, err)
}

func (c *cluster) get(path string) []byte {
	c.t.Helper()
	r, err := c.Open(c.t.Context(), path)
	require.NoError(c.t, err)
	content, err := io.ReadAll(r)
	require.NoError(c.t, err)
	require.NoError(c.t, r.Close())
	return content
}

// same compares without printing megabytes.
func same(t *testing.T, want, got []byte) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	n := 0
	for n < min(len(want), len(got)) && want[n] == got[n] {
		n++
	}
	require.FailNow(t, "contents differ", "lengths %d and %d, first difference at %d", len(want), len(got), n)
}

// everywhere requires every live replica that the namenode counts to hold the file's bytes.
func (c *cluster) everywhere(path string, content []byte) {
	c.t.Helper()
	chunks, err := c.Locate(c.t.Context(), path, 0, 0)
	require.NoError(c.t, err)
	total := int64(0)
	for _, l := range chunks {
		require.NotEmpty(c.t, l.Replicas)
		for _, at := range l.Replicas {
			for _, d := range c.nodes {
				if d.id == at.NodeID {
					r, ok := d.replica(l.ID)
					require.True(c.t, ok, "node %s has no replica of chunk %d", d.id, l.Index)
					require.Equal(c.t, uint64(l.Generation), r.generation)
					require.Equal(c.t, chunk.Sealed, r.state)
					require.Equal(c.t, len(r.data), r.synced)
					same(c.t, content[l.Offset:l.Offset+l.Length], r.data)
				}
			}
		}
		total += l.Length
	}
	require.Equal(c.t, int64(len(content)), total)
}
