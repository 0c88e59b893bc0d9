package view

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheErrorNamesEveryReplica(t *testing.T) {
	r := replicas{chunk: namenode.Chunk{ID: chunk.ID{1}}}
	require.ErrorContains(t, r.noneIsGood(nil), "no live replica")
	err := r.noneIsGood([]*fault.Error{
		{Kind: fault.Unavailable, Node: "a", Address: "a:1", Reason: "connection refused"},
		{Kind: fault.CorruptData, Node: "b", Address: "b:1"},
	})
	require.ErrorIs(t, err, fault.CorruptData, "corruption counts most")
	require.ErrorContains(t, err, "node a (a:1): connection refused; node b (b:1): "+fault.CorruptData.String())
}
