package dataplane

import (
	"testing"

	"github.com/panjf2000/gnet/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestSocketBuffersAreThoseConfigured(t *testing.T) {
	n := startNode(t, "node", Limits{SocketReceiveBytes: 64 << 10, SocketSendBytes: 32 << 10})
	p := dial(t, n.server.Addr())
	p.open(openWrite(newChunkID(), nil))
	// The listening socket's sizes are those of the connections that it accepts.
	var engine gnet.Engine = *n.server.handler.Load().engine.Load()
	fd, err := engine.Dup()
	require.NoError(t, err)
	defer unix.Close(fd)
	receive, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	require.NoError(t, err)
	send, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	require.NoError(t, err)
	require.Equal(t, 2*64<<10, receive) // the kernel doubles what it is told
	require.Equal(t, 2*32<<10, send)

	_, err = Limits{SocketSendBytes: -1}.withDefaults()
	require.ErrorIs(t, err, fault.Invalid)
}
