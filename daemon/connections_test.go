package daemon

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/daemon/config"
)

// Every daemon takes as many connections as it is told, and says so to the next.
func TestConnectionsAreBounded(t *testing.T) {
	const limit = 16
	l := config.Default().Logserver
	l.Dir, l.Listen, l.RaftListen, l.Connections = t.TempDir(), "127.0.0.1:0", "", limit
	log, err := StartLogServer(t.Context(), l, nil)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, log) })
	namenode := startNamespace(t, func(n *config.Namenode) { n.Connections = limit })
	c := config.Default().Datanode
	c.Listen, c.Disks, c.Reserve, c.Namenodes, c.Connections = "127.0.0.1:0", []string{t.TempDir()}, 0,
		[]string{namenode.Address("grpc")}, limit
	datanode, err := StartDatanode(t.Context(), c, nil)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, datanode) })
	ready(t, datanode)
	for name, address := range map[string]string{"log server": log.Address("grpc"),
		"namenode": namenode.Address("grpc"),
		"datanode": datanode.Address("data")} {
		t.Run(name, func(t *testing.T) {
			// One is too many, which others of the cluster may only make more. Which
			// one is left to the server: a datanode's loops open theirs side by side.
			said := make(chan []byte, limit+1)
			for range limit + 1 {
				conn, err := net.Dial("tcp", address)
				require.NoError(t, err)
				defer conn.Close()
				go func() {
					b, _ := io.ReadAll(conn) // ends with the server's or the test's close
					said <- b
				}()
			}
			select {
			case b := <-said:
				require.Contains(t, string(b), "16 connections are open, the limit of this")
			case <-time.After(30 * time.Second):
				t.Fatal("no connection of 17 was told")
			}
		})
	}
}
