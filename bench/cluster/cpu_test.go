package cluster

import (
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCPUTimeOfThisProcess(t *testing.T) {
	used, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, used, time.Duration(0))
	_, err = cpuTime(1 << 30)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
