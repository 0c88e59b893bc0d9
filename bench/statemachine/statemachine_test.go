package statemachine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestEveryOperationOfALoadSucceeds(t *testing.T) {
	loaded, err := NewLoad(600)
	require.NoError(t, err)
	for _, name := range Operations() {
		op, err := loaded.Operation(name)
		require.NoError(t, err)
		out, err := load.Run(t.Context(), load.Plan{Workers: 1, Count: 500}, []string{name}, op)
		require.NoError(t, err)
		require.Zero(t, out.Failures.Count, "%s: %s", name, out.Failures.First)
		require.EqualValues(t, 500, out.Series[0].Operations, name)
	}
	// The rest is renamed, then everything deleted; then nothing is left.
	for _, name := range []string{"rename", "delete"} {
		op, err := loaded.Operation(name)
		require.NoError(t, err)
		out, err := load.Run(t.Context(), load.Plan{Workers: 1, Count: 10_000}, []string{name}, op)
		require.NoError(t, err)
		require.Zero(t, out.Failures.Count, "%s: %s", name, out.Failures.First)
	}
	require.Equal(t, loaded.made, loaded.deleted)
	_, err = loaded.Operation("chmod")
	require.ErrorIs(t, err, fault.Invalid)
}

func TestMeasureTakesANamespaceThroughACheckpoint(t *testing.T) {
	s, err := Measure(3000, t.TempDir())
	require.NoError(t, err)
	require.Equal(t, 3000, s.Files)
	require.Positive(t, s.HeapPerFile)
	require.Positive(t, s.CheckpointBytes)
	require.Positive(t, s.Load)
}

func TestRecordsAreHandedOutInTheOrderOfTheirTransactions(t *testing.T) {
	var next uint64
	m, err := New(3, 5, func(txid uint64, record []byte) {
		next++
		require.Equal(t, next, txid)
		require.NotEmpty(t, record)
	})
	require.NoError(t, err)
	require.NoError(t, m.Fill(1500))
	require.Equal(t, next, m.Txid())
}
