package client_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// TestWritersLearnThatMoreCopiesAreNeeded: namenode.write_copies_min is raised in the moment of a request that commits
// chunks, or gives one a new pipeline. They get more copies if there are nodes; else the writer waits, and says what is
// missing.
func TestWritersLearnThatMoreCopiesAreNeeded(t *testing.T) {
	t.Parallel()
	const chunkSize = 8 * blockBytes
	content := pattern(1, chunkSize+2*blockBytes)
	write := func(c *cluster) error {
		w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: chunkSize, Replication: 3})
		require.NoError(t, err)
		for at := 0; at < len(content) && err == nil; at += blockBytes {
			if _, err = w.Write(content[at : at+blockBytes]); err == nil {
				err = w.Sync(t.Context())
			}
			if at == 0 {
				c.nodes[2].stop() // a new pipeline, on two
				c.namenode.set(func() { c.namenode.down[c.nodes[2].id] = true })
			}
		}
		if closing := w.Close(); err == nil {
			err = closing
		}
		return err
	}
	for what, put := range map[string]func(c *cluster) error{
		"Complete": write, "AddChunks": write, "UpdatePipeline": write,
		"Complete, store": func(c *cluster) error {
			c.namenode.set(func() { c.namenode.down[c.nodes[2].id] = true })
			_, err := c.Store(t.Context(), "/f", bytes.NewReader(content), int64(len(content)), client.StoreOptions{
				CreateOptions: client.CreateOptions{ChunkSize: chunkSize, Replication: 3}})
			return err
		},
	} {
		for _, spare := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, a spare node: %v", what, spare), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, 4, func(o *client.Options) { o.LeaseRenewal = 20 * time.Millisecond })
				method, _, _ := strings.Cut(what, ",")
				c.namenode.set(func() {
					c.namenode.copiesMin = 2
					c.namenode.down[c.nodes[3].id] = true
					c.namenode.before = func(called string) error {
						if called == method && c.namenode.down[c.nodes[2].id] {
							c.namenode.copiesMin = 3
							c.namenode.down[c.nodes[3].id] = !spare
						}
						return nil
					}
				})
				err := put(c)
				if !spare {
					require.Error(t, err)
					require.Regexp(t, "3 copies are needed|but 2 datanodes are live", err.Error())
					require.NotErrorIs(t, err, fault.Invalid)
					return
				}
				require.NoError(t, err)
				same(t, content, c.get("/f"))
				c.everywhere("/f", content)
				chunks, err := c.Locate(t.Context(), "/f", 0, 0)
				require.NoError(t, err)
				for _, located := range chunks {
					require.Len(t, located.Replicas, 3)
				}
			})
		}
	}
}

// TestARefusedCommitIsNotWaitedOut: datanodes do not get copies of a chunk by waiting, so every refusal of a commit is
// answered at once, also of the commits that go with an allocation.
func TestARefusedCommitIsNotWaitedOut(t *testing.T) {
	t.Parallel()
	const chunkSize, chunks = 8 * blockBytes, 4
	c := newCluster(t, 3)
	c.namenode.set(func() {
		c.namenode.copiesMin = 2
		c.namenode.down[c.nodes[2].id] = true
	})
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: chunkSize, Replication: 3})
	require.NoError(t, err)
	content := pattern(1, chunks*chunkSize)
	refused := 0
	c.namenode.set(func() {
		c.namenode.before = func(called string) error {
			if called == "AddChunks" && len(c.namenode.files["/f"].chunks) > 1 { // with a commit
				refused++
				c.namenode.copiesMin, c.namenode.down[c.nodes[2].id] = 3, false
			}
			return nil
		}
	})
	began := time.Now()
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Less(t, time.Since(began), 3*time.Second, "%d requests", refused) // it took 4.1 s
	require.Positive(t, refused)
	c.everywhere("/f", content)
}
