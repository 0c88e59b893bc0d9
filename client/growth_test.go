package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
)

// startShort begins a file on two of three nodes; the third one has come since, and the writer knows.
func startShort(t *testing.T) (c *cluster, w *client.FileWriter) {
	c = newCluster(t, 3, func(o *client.Options) { o.LeaseRenewal, o.CallTimeout = time.Hour, time.Minute })
	c.namenode.set(func() { c.namenode.copiesMin = 2; c.namenode.down[c.nodes[2].id] = true })
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	c.namenode.set(func() { clear(c.namenode.down) })
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	client.MayGrow(w, chunks[0].ID)
	return c, w
}

// TestASilentNamenodeDoesNotHoldUpAPipelineThatGrows: nothing is broken, so nobody waits long for its answer.
func TestASilentNamenodeDoesNotHoldUpAPipelineThatGrows(t *testing.T) {
	t.Parallel()
	c, w := startShort(t)
	answer, asked := make(chan struct{}), make(chan struct{})
	release, ask := sync.OnceFunc(func() { close(answer) }), sync.OnceFunc(func() { close(asked) })
	defer release()
	c.namenode.set(func() {
		c.namenode.before = func(method string) error {
			if method == "RecoverPipeline" {
				ask()
				<-answer // with its lock: it answers nobody
			}
			return nil
		}
	})
	_, err := w.Write(make([]byte, 1000))
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, w.Sync(t.Context()))
	require.Less(t, time.Since(began), 30*time.Second, "it is waited for as long as a call may take")
	select {
	case <-asked:
	default:
		require.Fail(t, "the namenode was not asked")
	}
	release()
	require.NoError(t, w.Close())
}

// TestACallWithLittleTimeLetsNobodyJoin: a copy that its deadline ends would be lost. The next call with time does.
func TestACallWithLittleTimeLetsNobodyJoin(t *testing.T) {
	t.Parallel()
	c, w := startShort(t)
	soon, cancel := context.WithTimeout(t.Context(), client.GrowTimeLeast-time.Second)
	defer cancel()
	_, err := w.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, w.Sync(soon))
	require.Zero(t, c.namenode.count("RecoverPipeline"))
	_, err = w.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, w.Sync(t.Context()))
	require.Equal(t, 1, c.namenode.count("UpdatePipeline"))
	require.NoError(t, w.Close())
	c.everywhere("/f", make([]byte, 3000))
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 3)
}

// TestASlowNodeIsKeptBesideFullOnes: the other nodes have no room for a chunk in the place of one on a slow node.
func TestASlowNodeIsKeptBesideFullOnes(t *testing.T) {
	c := newCluster(t, 4)
	content := make([]byte, blockBytes)
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(t, err)
	client.MarkSlow(c.Client, c.nodes[1].id)
	c.namenode.set(func() { c.namenode.room = 1 })
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	c.everywhere("/f", content)
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 3)
	require.Contains(t, chunks[0].Replicas, client.Replica{NodeID: c.nodes[1].id, Address: c.nodes[1].address})
}
