package floor

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestRunMeasuresEveryLimitAndLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t)
	directory := t.TempDir()
	var names []string
	err := Run(t.Context(), Options{Directory: directory, SizeBytes: 5<<20 + 17*checksumBlockBytes, SyncDuration: 20 * time.Millisecond}, func(r Result) error {
		names = append(names, r.Name)
		if r.Bytes == 0 && r.Count == 0 {
			require.Equal(t, DiskDirect, r.Name, "only O_DIRECT may be missing")
			return nil
		}
		require.Positive(t, r.Rate(), r.Name)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{DiskBuffered, DiskDirect, DiskSync, Loopback, Sendfile, PipelineNoIO, Pipeline}, names)
	left, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Empty(t, left)
}
