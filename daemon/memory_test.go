package daemon

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/daemon/config"
)

func TestMemoryMost(t *testing.T) {
	for _, test := range []struct {
		base, held int64
		gcPercent  int
		limit      config.Size
		want       int64
	}{
		{10, 100, 100, 0, 210},
		{10, 100, 0, 0, 210}, // Go's default
		{10, 100, 400, 0, 510},
		{10, 100, 100, 150, 150}, // garbage is collected before
		{10, 100, 100, 50, 110},  // but what lives, lives
		{10, 100, 100, 900, 210},
	} {
		options := processOptions{"", test.gcPercent, test.limit}
		require.Equal(t, test.want, options.memoryMost(test.base, test.held), "%+v",
			test)
	}
}

func TestTooMuchMemoryIsTold(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	warnMemory(logger, 100, 100)
	warnMemory(logger, 100, 0)
	require.Empty(t, log.String())
	warnMemory(logger, 101, 100)
	require.Contains(t, log.String(), "bytes_most=101 bytes_here=100")
	require.Positive(t, machineMemory())
}
