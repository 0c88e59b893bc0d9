package daemon

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// readiness asks a daemon's admin address.
func readiness(t *testing.T, address string) (int, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := c.Get("http://" + address + "/readyz")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// TestEveryDaemonTellsItsAdminAddress starts each daemon by itself: a profile can
// be fetched from every address that the namenode names.
func TestEveryDaemonTellsItsAdminAddress(t *testing.T) {
	directory := t.TempDir()
	section := config.Default().Logserver
	section.Dir, section.Listen, section.RaftListen = filepath.Join(directory, "log"), "127.0.0.1:0", ""
	logServer, err := StartLogServer(t.Context(), section, nil)
	require.NoError(t, err)
	defer stop(t, logServer)
	n := config.Default().Namenode
	n.Listen, n.LogServers = "127.0.0.1:0", []string{logServer.Address("grpc")}
	namenode, err := StartNamenode(t.Context(), n, nil)
	require.NoError(t, err)
	defer stop(t, namenode)
	dn := config.Default().Datanode
	dn.Listen, dn.Disks, dn.Namenodes, dn.Reserve = "127.0.0.1:0", []string{filepath.Join(directory, "dn")},
		[]string{namenode.Address("grpc")}, 0
	datanode, err := StartDatanode(t.Context(), dn, nil)
	require.NoError(t, err)
	defer stop(t, datanode)
	for _, d := range []*Daemon{logServer, namenode, datanode} {
		ready(t, d)
		code, text := readiness(t, d.Address("admin"))
		require.Equal(t, 200, code, "%s: %s", d.Name, text)
	}

	c, err := client.Dial(t.Context(), client.Options{Namenodes: []string{namenode.Address("grpc")}})
	require.NoError(t, err)
	defer c.Close()
	var status client.ClusterStatus
	require.Eventually(t, func() bool {
		status, err = c.ClusterStatus(t.Context())
		return err == nil && len(status.LogServers) == 1 && status.LogServers[0].Leader && len(status.Nodes) == 1
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, namenode.Address("admin"), status.AdminAddress)
	require.Equal(t, datanode.Address("admin"), status.Nodes[0].AdminAddress)
	require.Equal(t, logServer.Address("admin"), status.LogServers[0].AdminAddress)
	require.Equal(t, logServer.Address("grpc"), status.LogServers[0].Address)
	require.Equal(t, section.ID, status.LogServers[0].NodeID)
	for _, address := range []string{status.AdminAddress, status.Nodes[0].AdminAddress,
		status.LogServers[0].AdminAddress} {
		_, err := admin.Fetch(t.Context(), address, "heap", 0, io.Discard)
		require.NoError(t, err)
	}
}

func TestAMiniHasOneAdminAddress(t *testing.T) {
	directory := t.TempDir()
	daemon, err := StartMini(t.Context(), mini(directory, 2), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer stop(t, daemon)
	ready(t, daemon)
	code, text := readiness(t, daemon.Address("admin"))
	require.Equal(t, 200, code, text)
	c := dial(t, directory)
	defer c.Close()
	status, err := c.ClusterStatus(t.Context())
	require.NoError(t, err)
	require.Equal(t, daemon.Address("admin"), status.AdminAddress)
	for _, n := range status.Nodes {
		require.Equal(t, daemon.Address("admin"), n.AdminAddress)
	}
	var b bytes.Buffer
	_, err = admin.Fetch(t.Context(), status.AdminAddress, "goroutine", 0, &b)
	require.NoError(t, err)
	require.NotZero(t, b.Len())
}

func TestReadinessFollowsTheDaemon(t *testing.T) {
	n := config.Default().Namenode
	n.Listen, n.LogServers = "127.0.0.1:0", []string{"127.0.0.1:1"} // nobody is there
	namenode, err := StartNamenode(t.Context(), n, nil)
	require.NoError(t, err)
	defer stop(t, namenode)
	code, text := readiness(t, namenode.Address("admin"))
	require.Equal(t, 503, code)
	require.Contains(t, text, "is not serving")
}

func TestAdminAddressOffOrTaken(t *testing.T) {
	c := mini(t.TempDir(), 1)
	c.AdminListen = ""
	d, err := StartMini(t.Context(), c, nil)
	require.NoError(t, err)
	ready(t, d)
	require.Empty(t, d.Address("admin"))
	taken := d.Address("grpc")
	defer stop(t, d)

	l := config.Default().Logserver
	l.Dir, l.Listen, l.RaftListen, l.AdminListen = t.TempDir(), "127.0.0.1:0", "", taken
	_, err = StartLogServer(t.Context(), l, nil)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, taken)
}
