package actor

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/replicas"
)

// Every chunk is examined once, whatever the size of a page, and a page is never larger than was asked for.
func TestFsckWalksATreeInPages(t *testing.T) {
	for seed := range int64(20) {
		h := newHarness(t, Config{DefaultReplication: 1, DefaultChunkSize: 1 << 16})
		h.slow = true
		h.start(1)
		random := rand.New(rand.NewSource(seed))
		var files, chunks uint64
		for i := range 40 {
			path := ""
			for range 1 + random.Intn(4) {
				path += fmt.Sprintf("/%c", 'a'+rune(random.Intn(3)))
			}
			count := random.Intn(5)
			e := h.as(1, &Create{Path: path + fmt.Sprint("/file", i), Parents: true, ChunkCount: uint32(count)})
			if e.Reply.Err == nil {
				files, chunks = files+1, chunks+uint64(count)
			}
		}
		whole := read[FsckResult](h, &Fsck{Path: "/"})
		require.False(t, whole.More)
		require.Equal(t, files, whole.Files)
		require.Equal(t, h.s.tree.Totals().Directories, whole.Directories)
		for limit := uint32(1); limit < 50; limit += 1 + uint32(random.Intn(6)) {
			var seen []replicas.Health
			sum := FsckResult{More: true}
			for sum.More {
				page := read[FsckResult](h, &Fsck{Path: "/", From: sum.Next, Limit: limit})
				sum.More, sum.Next = page.More, page.Next
				sum.Files += page.Files
				sum.Directories += page.Directories
				examined := page.Files + page.Directories
				for v := range page.Chunks {
					sum.Chunks[v] += page.Chunks[v]
					examined += page.Chunks[v]
				}
				require.LessOrEqual(t, examined, uint64(limit)+1)
				for _, f := range page.Found {
					seen = append(seen, f.Chunks...)
				}
			}
			require.Equal(t, whole.Files, sum.Files, "limit %d", limit)
			require.Equal(t, whole.Directories, sum.Directories)
			require.Equal(t, whole.Chunks, sum.Chunks)
			var all []replicas.Health
			for _, f := range whole.Found {
				all = append(all, f.Chunks...)
			}
			require.Equal(t, all, seen)
			require.Len(t, seen, int(chunks), "none is reported by its node")
		}
	}
}
