package leases

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRetryCacheForgetsTheClientThatIsIdleForLongest(t *testing.T) {
	c := NewRetryCache()
	for i := range retryClientsMax + 5 {
		c.Remember(Call{Client: ClientID{byte(i), byte(i >> 8), byte(i >> 16)}, Sequence: 1}, new(int))
	}
	require.Len(t, c.clients, retryClientsMax)
	require.Equal(t, retryClientsMax, c.results)
	_, found, _ := c.Lookup(ClientID{0, 0, 0}, 1)
	require.False(t, found, "the client idle for longest goes first")
}
