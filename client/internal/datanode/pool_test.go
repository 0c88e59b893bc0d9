package datanode

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An idle connection is used again only while its peer keeps it open and silent.
func TestIdleConnectionsThatDied(t *testing.T) {
	for name, c := range map[string]struct {
		peer   func(net.Conn) error
		reused bool
	}{
		"open and silent": {func(net.Conn) error { return nil }, true},
		"closed":          {net.Conn.Close, false},
		"it speaks":       {func(c net.Conn) error { _, err := c.Write([]byte("hello")); return err }, false},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer listener.Close()
			pool := newClient(t).Pool
			first, err := pool.Get(t.Context(), listener.Addr().String())
			require.NoError(t, err)
			peer, err := listener.Accept()
			require.NoError(t, err)
			defer peer.Close()
			require.True(t, first.alive())
			require.NoError(t, c.peer(peer))
			if !c.reused {
				require.Eventually(t, func() bool { return !first.alive() }, 10*time.Second, time.Millisecond)
			}
			pool.Put(first)
			second, err := pool.Get(t.Context(), listener.Addr().String())
			require.NoError(t, err)
			require.Equal(t, c.reused, first == second)
			pool.Discard(second)
		})
	}
}
