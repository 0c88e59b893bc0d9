package client_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A replica shows bytes that the rest of the pipeline never got; recovery of the writer's lease cuts them off. A reader
// that has seen them ends at what is left, at once and without an error.
func TestReaderOfAFileThatRecoveryCuts(t *testing.T) {
	const flushed = 128<<10 + 500
	for name, keep := range map[string]int{"in the middle of a chunk": 500, "a whole chunk": 0} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3)
			c.namenode.set(func() { c.namenode.readOrder = []string{"dn0"} })
			content := pattern(9, flushed)
			w, err := c.Create(t.Context(), "/f", chunk128)
			require.NoError(t, err)
			_, err = w.Write(content)
			require.NoError(t, err)
			require.NoError(t, w.Flush(t.Context()))
			defer func() { _ = w.Close() }() // its lease is gone by then

			chunks, err := c.Locate(t.Context(), "/f", 128<<10, -1)
			require.NoError(t, err)
			id := chunks[len(chunks)-1].ID
			for i, d := range c.nodes {
				d.set(func() {
					r := d.replicas[id]
					if i == 0 {
						r.data = append(r.data, pattern(8, 40_000)...)
					} else {
						r.data = r.data[:keep]
					}
				})
			}
			r, err := c.Open(t.Context(), "/f")
			require.NoError(t, err)
			defer r.Close()
			size, err := r.Size(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, flushed+40_000, size)

			_, err = c.dial().RecoverLease(t.Context(), "/f")
			require.NoError(t, err)
			want := content[:128<<10+keep]
			began := time.Now()
			p := make([]byte, size)
			n, err := r.ReadAt(p, 0)
			require.ErrorIs(t, err, io.EOF)
			same(t, want, p[:n])
			var all bytes.Buffer
			_, err = io.Copy(&all, r)
			require.NoError(t, err)
			same(t, want, all.Bytes())
			require.Less(t, time.Since(began), time.Second, "it does not go on trying")
		})
	}
}
