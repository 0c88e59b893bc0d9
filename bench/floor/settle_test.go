package floor

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestActivityOfADisk(t *testing.T) {
	// As a kernel 6.18 tells it, one of 4.17, and what is no statistics at all.
	now, err := parseActivity(
		" 2023543 193876 55782730 2604265 15992988 1310024 2159836088 " +
			"33901160 3 4591508 40898245 4117184 644 2369789248 2316769 4697149 2076049\n")
	require.NoError(t, err)
	require.Equal(t, activity{sectors: 55782730 + 2159836088 + 2369789248, discards: 4117184, inFlight: 3}, now)
	old, err := parseActivity("1 2 30 4 5 6 70 8 9 10 11")
	require.NoError(t, err)
	require.Equal(t, activity{sectors: 100, inFlight: 9}, old)
	for _, bad := range []string{"", "1 2 3", "1 2 3 4 5 6 7 8 nine 10 11"} {
		_, err := parseActivity(bad)
		require.Error(t, err, bad)
	}

	idle := activity{sectors: 100, discards: 5}
	require.True(t, activity{sectors: 100 + settleSectorsMax, discards: 5}.quietSince(idle))
	require.False(t, activity{sectors: 101 + settleSectorsMax, discards: 5}.quietSince(idle), "it writes")
	require.False(t, activity{sectors: 100, discards: 6}.quietSince(idle), "it frees blocks")
	require.False(t, activity{sectors: 100, discards: 5, inFlight: 1}.quietSince(idle), "it waits")
}

func TestSettle(t *testing.T) {
	directory := t.TempDir()
	quiet, err := Settle(t.Context(), "/proc", time.Hour)
	require.NoError(t, err)
	require.True(t, quiet, "which is on no disk")
	_, err = Settle(t.Context(), filepath.Join(directory, "missing"), time.Second)
	require.ErrorIs(t, err, fault.Disk)
	quiet, err = Settle(t.Context(), filepath.Join(directory, "missing"), 0)
	require.NoError(t, err)
	require.True(t, quiet)
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := Settle(ended, directory, time.Hour); err != nil { // a tmpfs has nothing to wait for
		require.ErrorIs(t, err, context.Canceled)
	}
}

// A time that is too short for any disk to be seen quiet in.
func TestADiskThatIsNotQuietIsTold(t *testing.T) {
	directory := t.TempDir()
	if quiet, err := Settle(t.Context(), directory, time.Nanosecond); err != nil || quiet {
		require.NoError(t, err)
		t.Skip("TMPDIR is on no disk of this machine: nothing to wait for")
	}
	var told []time.Duration
	options := Options{Settle: time.Nanosecond, OnRestless: func(waited time.Duration) { told = append(told, waited) }}
	require.NoError(t, options.settle(t.Context(), directory))
	require.Equal(t, []time.Duration{time.Nanosecond}, told)
	options.Settle, options.OnRestless = settleStep/2, nil
	require.NoError(t, options.settle(t.Context(), directory))
}
