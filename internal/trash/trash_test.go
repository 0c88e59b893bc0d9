package trash

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPlacesAreReadAsTheyAreWrittenAndOrderedByTime(t *testing.T) {
	noon := time.Date(2026, 12, 1, 12, 0, 59, 999e6, time.UTC)
	var names []string
	for _, at := range []time.Time{noon.Add(-24 * time.Hour), noon, noon.Add(time.Millisecond)} {
		for _, version := range []int{1, 2, 10, 99, VersionsMax} {
			place := At(at.UnixMilli())
			place.Version = version
			read, ok := ParsePlace(place.String())
			require.True(t, ok, place)
			require.Equal(t, place, read)
			names = append(names, place.String())
		}
	}
	require.True(t, slices.IsSorted(names), names)
	require.Equal(t, "20261201T1200Z", names[5])
	require.Equal(t, "/.trash/ann/20261201T1200Z-002/a/b", Place{Minute: noon, Version: 2}.Path("ann", "/a/b"))
	for _, wrong := range []string{"", "notes", "20261201T1200Z-001", "20261201T1200Z-1", "20261201T1200Z-1000",
		"20261201T1200", "20261301T1200Z", "20261201T1200Z-", "20261201T1200Z-002-002", "20261201T1200Z-+02"} {
		_, ok := ParsePlace(wrong)
		require.False(t, ok, wrong)
	}
	require.True(t, Within("/.trash"))
	require.True(t, Within("/.trash/ann"))
	require.False(t, Within("/.trashes"))
	require.False(t, Within("/"))
}
