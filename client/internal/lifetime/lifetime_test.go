package lifetime

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCloseEndsEverythingAndWaits(t *testing.T) {
	life := New()
	ctx, cancel := life.Scope(t.Context())
	defer cancel()
	ended := false
	require.True(t, life.Start(func() {
		<-ctx.Done()
		ended = true
	}))
	require.True(t, life.Close())
	require.True(t, ended)
	require.False(t, life.Close(), "again")
	require.False(t, life.Start(func() {}))
	require.ErrorContains(t, Ended(ctx, "put", "/f", nil), "the client was closed")
}

func TestWhyAContextEnded(t *testing.T) {
	life, end := context.WithCancelCause(t.Context())
	joined, cancel := Join(t.Context(), life)
	defer cancel()
	end(ErrClosed)
	<-joined.Done()
	require.ErrorIs(t, context.Cause(joined), ErrClosed)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	err := Ended(cancelled, "put", "/f", errors.New("no node"))
	require.ErrorIs(t, err, fault.Closed)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "after: no node")
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	require.ErrorIs(t, Ended(late, "put", "/f", nil), fault.Unavailable)
}
