package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
)

// held is what a process has at one moment.
type held struct {
	live        int64 // bytes of heap and stacks after garbage collection
	goroutines  int
	descriptors int
}

// adminAddresses are those of all processes of a cluster.
func adminAddresses(t *testing.T, system *cluster.Cluster) map[*cluster.Process]string {
	t.Helper()
	status, err := system.Client().ClusterStatus(patient(t, 10*time.Second))
	require.NoError(t, err)
	require.NotEmpty(t, status.LogServers)
	out := map[*cluster.Process]string{system.Namenode: status.AdminAddress,
		system.LogServer: status.LogServers[0].AdminAddress}
	for _, n := range status.Nodes {
		out[system.Datanodes[system.DatanodeAt(n.Address)]] = n.AdminAddress
	}
	return out
}

// heldBy looks at a process from outside and through its admin address. The two
// collections empty its pools.
func heldBy(t *testing.T, process *cluster.Process, admin string) held {
	t.Helper()
	figures(t, process, admin, "/debug/pprof/heap?gc=1")
	var h held
	for _, n := range figures(t, process, admin, "/debug/pprof/heap?gc=1&debug=1", `^# HeapAlloc = (\d+)`,
		`^# Stack = (\d+)`) {
		h.live += n
	}
	h.goroutines = int(figures(t, process, admin, "/debug/pprof/goroutine?debug=1",
		`^goroutine profile: total (\d+)`)[0])
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", process.Pid()))
	require.NoError(t, err)
	h.descriptors = len(entries)
	return h
}

// figures are the numbers that the patterns find, one line each, in an answer
// of a process.
func figures(t *testing.T, process *cluster.Process, admin, path string, patterns ...string) []int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+path, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err, process.Name)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode, "%s of %s", path, process.Name)
	out := make([]int64, len(patterns))
	found := 0
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() && found < len(patterns) {
		for i, pattern := range patterns {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(lines.Text()); m != nil {
				out[i], err = strconv.ParseInt(m[1], 10, 64)
				require.NoError(t, err)
				found++
			}
		}
	}
	require.Equal(t, len(patterns), found, "figures in %s of %s", path, process.Name)
	return out
}

// requireBack waits until a process holds about what it held before; descriptors
// is how many more it may have than then.
func requireBack(t *testing.T, process *cluster.Process, admin string, before held, descriptors int) {
	t.Helper()
	var after held
	err := cluster.Poll(patient(t, 20*time.Second), func() error {
		after = heldBy(t, process, admin)
		switch {
		case after.descriptors > before.descriptors+descriptors:
		case after.goroutines > before.goroutines+leftCount:
		case after.live > before.live+leftBytes && !underRace():
		default:
			return nil
		}
		return fmt.Errorf("%s holds %+v, before it was %+v", process.Name, after, before)
	})
	require.NoError(t, err)
	t.Logf("%s: %+v after", process.Name, after)
}
