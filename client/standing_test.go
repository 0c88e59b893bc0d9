package client_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
)

// TestANamenodeThatStandsStillOnlyHoldsWritersUp: it answers nobody for longer than a call may take, as one that is
// paused, or whose disk hangs. Stores and appends go on when it does, and what they sent twice has happened once.
func TestANamenodeThatStandsStillOnlyHoldsWritersUp(t *testing.T) {
	t.Parallel()
	const chunkSize = 8 * blockBytes
	content := pattern(1, 5*chunkSize/2)
	for _, method := range []string{"Create", "AddChunks", "Complete", "Append"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			const callTimeout = 200 * time.Millisecond
			c := newCluster(t, 3, func(o *client.Options) { o.CallTimeout = callTimeout })
			stood := false
			c.namenode.set(func() {
				c.namenode.before = func(called string) error {
					if called == method && !stood {
						stood = true
						goesOn := make(chan struct{})
						time.AfterFunc(5*callTimeout, func() { close(goesOn) })
						<-goesOn // nobody else gets in meanwhile
					}
					return nil
				}
			})
			c.put("/f", content, client.CreateOptions{ChunkSize: chunkSize, Replication: 3})
			w, err := c.Append(t.Context(), "/f", client.AppendOptions{})
			require.NoError(t, err)
			_, err = io.Copy(w, bytes.NewReader(content))
			require.NoError(t, err)
			require.NoError(t, w.Close())
			c.everywhere("/f", append(bytes.Clone(content), content...))
			require.True(t, stood)
		})
	}
}
