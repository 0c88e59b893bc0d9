package limits

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestPaths(t *testing.T) {
	long := strings.Repeat("n", NameBytesMax)
	for _, good := range []string{"/", "/a", "/" + long, "/a b/ü/\n/'\"/…", strings.Repeat("/d", PathElementsMax)} {
		require.Nil(t, CheckPath("test", good), "%.80q", good)
	}
	for _, bad := range []string{"", "a", "a/b", "//", "/a//b", "/a/", "/.", "/..", "/a/./b", "/a/..", "/\x00",
		"/a\x00b", "/\xff", "/ü\x00", "/" + long + "n",
		strings.Repeat("/d", PathElementsMax+1), strings.Repeat("/"+long, 2000)} {
		err := CheckPath("test", bad)
		require.ErrorIs(t, err, fault.Invalid, "%.80q", bad)
		require.Less(t, len(err.Error()), 1000)
	}
}

func TestReplicationIsRefusedForWhatItIs(t *testing.T) {
	require.Empty(t, CheckReplication(0))
	require.Empty(t, CheckReplication(ReplicationMax))
	require.Contains(t, CheckReplication(-1), "below zero")
	require.Contains(t, CheckReplication(ReplicationMax+1), "above the limit")
}
