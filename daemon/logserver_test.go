package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/daemon/config"
)

func TestLogServerBecomesReadyAgain(t *testing.T) {
	c := config.Default().Logserver
	c.Dir, c.Listen, c.RaftListen = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	for range 2 {
		d, err := StartLogServer(t.Context(), c, nil)
		require.NoError(t, err)
		ready(t, d)
		require.Contains(t, d.Addresses(), "grpc")
		require.Contains(t, d.Addresses(), "raft")
		stop(t, d)
		c.RaftListen = d.Address("raft") // raft knows it by this address
	}
}
