package record

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHolderNames(t *testing.T) {
	node, address, ok := ParseHolder(HolderName("0190-ab", "[::1]:7720"))
	require.True(t, ok)
	require.Equal(t, "0190-ab", node)
	require.Equal(t, "[::1]:7720", address)
	for _, name := range []string{"", "host:1234", "appender:", "appender:a", "appender:@a:1", "appender:a@",
		"the namenode (lease recovery)"} {
		_, _, ok := ParseHolder(name)
		require.False(t, ok, name)
	}
}
