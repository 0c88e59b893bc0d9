package idle

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAddressesThatAreNotUsedAnyMoreAreForgotten: an owner that never expires anything, like a client, would
// otherwise keep a list of each address that it ever used.
func TestAddressesThatAreNotUsedAnyMoreAreForgotten(t *testing.T) {
	var c Connections[int]
	for i := range 10 * emptyMax {
		address := strconv.Itoa(i)
		c.Put(address, i)
		_, ok := c.Take(address)
		require.True(t, ok)
		c.Put("always", i)
		c.Remove("always", i)
		require.LessOrEqual(t, len(c.byAddress), emptyMax)
		require.Equal(t, len(c.byAddress), c.empty)
	}
	c.Put("always", 1)
	require.Empty(t, c.Expire(func(int) bool { return false }))
	require.Len(t, c.byAddress, 1)
	require.Zero(t, c.empty)
}
