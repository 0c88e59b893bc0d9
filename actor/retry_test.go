package actor

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/fault"
)

func (h *harness) send(client byte, sequence, oldest uint64, r Request) Effects {
	h.t.Helper()
	return h.step(Command{Client: ClientID{client}, Sequence: sequence, OldestPending: oldest, Request: r})
}

func TestRetryCacheForgetsWhatTheClientGaveUp(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(3)
	for i := range uint64(5) {
		require.Nil(t, h.send(1, i+1, 1, &Mkdir{Path: fmt.Sprintf("/%d", i)}).Reply.Err)
	}
	for i := range uint64(5) {
		e := h.send(1, i+1, 1, &Mkdir{Path: fmt.Sprintf("/%d", i)})
		require.Nil(t, e.Reply.Err)
		require.Empty(t, e.Records)
		require.Equal(t, i+namespace.RootID+1, e.Reply.Result.(*MkdirResult).Info.FileID)
		require.Equal(t, h.s.Txid(), e.Reply.AfterTxid, "the first answer may not be durable yet")
	}
	// Sequences may come out of order while they are pending.
	require.Nil(t, h.send(1, 9, 4, &Mkdir{Path: "/nine"}).Reply.Err)
	require.Nil(t, h.send(1, 7, 4, &Mkdir{Path: "/seven"}).Reply.Err)
	require.Equal(t, "nine", h.send(1, 9, 4, &Mkdir{Path: "/nine"}).Reply.Result.(*MkdirResult).Info.Name)
	// What the client gave up is forgotten: it cannot be told from a new call.
	require.Equal(t, fault.Invalid, h.send(1, 3, 4, &Mkdir{Path: "/2"}).Reply.Err.Kind)
	// Requests that failed are tried again.
	require.Equal(t, fault.Exists, h.send(1, 10, 4, &Mkdir{Path: "/nine"}).Reply.Err.Kind)
	ok[RemoveResult](h, 2, &Remove{Path: "/nine"})
	require.Nil(t, h.send(1, 10, 4, &Mkdir{Path: "/nine"}).Reply.Err)
	h.same()
}

func TestRetryCacheIsBounded(t *testing.T) {
	const retryResultsMax, retryIdleMillis = 1024, 10 * 60 * 1000 // of package leases
	h := newHarness(t, Config{})
	h.slow = true
	h.start(3)
	for i := range uint64(retryResultsMax + 10) {
		require.Nil(t, h.send(1, i+1, 1, &Mkdir{Path: fmt.Sprintf("/%d", i)}).Reply.Err)
	}
	require.Len(t, h.s.answers.Snapshot()[0].Answers, retryResultsMax)
	require.Equal(t, fault.Invalid, h.send(1, 10, 1, &Mkdir{Path: "/again"}).Reply.Err.Kind)
	require.Nil(t, h.send(1, 11, 1, &Mkdir{Path: "/again"}).Reply.Err)
	require.NoError(t, h.s.check())

	// Clients that are idle for ten minutes of record time are forgotten, those
	// that are not are kept.
	ok[MkdirResult](h, 2, &Mkdir{Path: "/two"})
	h.now += retryIdleMillis - 10
	ok[MkdirResult](h, 3, &Mkdir{Path: "/three"})
	require.Len(t, h.s.answers.Snapshot(), 3)
	h.now += 20
	ok[MkdirResult](h, 3, &Mkdir{Path: "/three-more"})
	require.Len(t, h.s.answers.Snapshot(), 1)
	require.NoError(t, h.s.check())
	h.same()
}

func TestMutationsNeedAHeader(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(1)
	require.Equal(t, fault.Invalid, h.step(Command{Request: &Mkdir{Path: "/a"}}).Reply.Err.Kind)
	require.Equal(t, fault.Invalid, h.step(Command{Client: ClientID{1}, Request: &Mkdir{Path: "/a"}}).Reply.Err.Kind)
	require.Equal(t, fault.Internal, h.step(Command{}).Reply.Err.Kind)
}
