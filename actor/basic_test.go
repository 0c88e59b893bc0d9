package actor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestStoreReadRemove(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(3)
	ok[MkdirResult](h, 1, &Mkdir{Path: "/a/b", Parents: true})
	chunks := h.write(1, "/a/b/f", 1<<16, 1<<16, 1<<16, 17)
	require.Len(t, chunks, 3)
	located := read[LocateResult](h, &Locate{Path: "/a/b/f"})
	require.Len(t, located.Chunks, 3)
	require.Equal(t, int64(2<<16+17), located.Info.Length)
	require.Len(t, located.Chunks[2].Replicas, 3)
	h.same()
	h.restart("a", "b", "c")
	require.Equal(t, fault.SafeMode, h.as(1, &Remove{Path: "/a", Recursive: true}).Reply.Err.Kind)
	for _, c := range chunks {
		length := int64(1 << 16)
		if c.Index == 2 {
			length = 17
		}
		h.stored("a", sealedReplica(c.Chunk, 1, length))
	}
	h.report("b")
	h.report("c")
	e := h.as(1, &Remove{Path: "/a", Recursive: true})
	require.Nil(t, e.Reply.Err)
	require.Equal(t, &RemoveResult{Files: 1, Directories: 2, Bytes: 2<<16 + 17}, e.Reply.Result)
	require.Len(t, deletions(e.Messages), 3)
	h.same()
}
