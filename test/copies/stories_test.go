package copies

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
)

// TestRestartsAroundATruncationAndAnAppend: one holder restarts while the file is cut, another while it is appended
// to. Each time the fourth datanode, and then also the first one, can take the missing copy.
func TestRestartsAroundATruncationAndAnAppend(t *testing.T) {
	system, all := startCluster(t, cluster.Options{})
	user := judgeLoadClient(t, system)
	given := put(t, user, "/story", 5000)
	holders := onlyHolders(t, all, user, given.path)
	others := func(gone ...int) func(time.Time) []int {
		return func(time.Time) (nodes []int) {
			for node := range system.Datanodes {
				if node != gone[0] && node != gone[len(gone)-1] {
					nodes = append(nodes, node)
				}
			}
			return nodes
		}
	}
	trouble := newChaos(system, 1)
	j := newJudge(all, judgeClient(t, system), others(holders[0]))

	around(trouble, holders[0], func() {
		_, err := user.Truncate(t.Context(), given.path, 3000)
		require.NoError(t, err)
	})
	content := append([]byte(nil), given.pieces[0].data[:3000]...)
	require.NoError(t, j.accept(t.Context(), acknowledgement{what: "truncate", path: given.path,
		pieces: []piece{{0, content}}, length: 3000, begun: time.Now()}))
	ready, cancel := context.WithTimeout(t.Context(), cluster.StartTimeout)
	defer cancel()
	require.NoError(t, system.WaitReady(ready))

	j.nodes = others(holders[0], holders[1])
	content = append(content, "more"...)
	around(trouble, holders[1], func() {
		writer, err := user.Append(t.Context(), given.path, client.AppendOptions{})
		require.NoError(t, err)
		_, err = io.WriteString(writer, "more")
		require.NoError(t, err)
		require.NoError(t, writer.Close())
	})
	require.NoError(t, j.accept(t.Context(), acknowledgement{what: "append", path: given.path,
		pieces: []piece{{0, content}}, length: int64(len(content)), begun: time.Now()}))
	require.NoError(t, trouble.failure())
}

// around restarts a datanode while work runs.
func around(trouble *chaos, node int, work func()) {
	process := trouble.system.Datanodes[node]
	var group sync.WaitGroup
	trouble.during(&trouble.mu.datanodes[node], process.Kill)
	group.Go(func() {
		pause(context.Background(), 500*time.Millisecond)
		trouble.during(&trouble.mu.datanodes[node], process.Start)
	})
	work()
	group.Wait()
}

// TestRollingRestartUnderAnAppender: every datanode restarts, one after the other, each when the one before is back,
// while a file stays open and grows.
func TestRollingRestartUnderAnAppender(t *testing.T) {
	system, all := startCluster(t, cluster.Options{})
	user := judgeLoadClient(t, system)
	trouble := newChaos(system, 1)
	j := newJudge(all, judgeClient(t, system), trouble.healthy)
	writer, err := user.Create(t.Context(), "/log", client.CreateOptions{})
	require.NoError(t, err)
	var content []byte
	random := rand.New(rand.NewPCG(1, 1))
	flush := func() error {
		data := noise(random, 1000)
		content = append(content, data...)
		begun := time.Now()
		if _, err := writer.Write(data); err != nil {
			return err
		}
		if err := writer.Flush(t.Context()); err != nil {
			return err
		}
		return j.accept(t.Context(), acknowledgement{what: "flush", path: "/log", pieces: []piece{{0, content}},
			length: -1, begun: begun})
	}
	require.NoError(t, flush())
	for node := range system.Datanodes {
		trouble.restart(node, 200*time.Millisecond)
		for range 10 {
			require.NoError(t, flush(), "after the restart of datanode %d", node)
		}
		ready, cancel := context.WithTimeout(t.Context(), cluster.StartTimeout)
		require.NoError(t, system.WaitReady(ready))
		cancel()
		require.NoError(t, flush(), "after the return of datanode %d", node)
	}
	strict := newJudge(all, judgeClient(t, system), func(time.Time) []int { return []int{0, 1, 2, 3} })
	growing, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cluster.Poll(growing, func() error {
		found := &look{judge: strict, given: acknowledgement{path: "/log", pieces: []piece{{0, content}}, length: -1}}
		located, err := found.locate(growing)
		if err == nil {
			if why := found.compare(located); why != "" && len(found.seen) > 0 {
				err = fmt.Errorf("the writer's chunk does not grow to all copies: %s %v", why, found.seen)
			}
		}
		return err
	}))
	require.NoError(t, flush())
	require.NoError(t, writer.Close())
	require.NoError(t, trouble.failure())
}

// TestPutWhileADatanodeDiesAndTheNamenodeIsAway: a put that is acknowledged after that is on enough disks.
func TestPutWhileADatanodeDiesAndTheNamenodeIsAway(t *testing.T) {
	system, all := startCluster(t, cluster.Options{RepairGrace: repairGrace})
	user := judgeLoadClient(t, system)
	trouble := newChaos(system, 1)
	j := newJudge(all, judgeClient(t, system), trouble.healthy)
	for round, gone := range []time.Duration{4 * time.Second, 7 * time.Second} {
		path := fmt.Sprintf("/put-%d", round)
		content := noise(rand.New(rand.NewPCG(1, uint64(round))), 6<<20)
		var group sync.WaitGroup
		source := &trigger{Reader: bytes.NewReader(content), at: 3 << 20, pull: func() {
			group.Go(func() { trouble.kill(round, 10*time.Second) })
			group.Go(func() { trouble.killNamenode(gone) })
		}}
		begun := time.Now()
		_, err := user.Store(t.Context(), path, source, int64(len(content)), client.StoreOptions{
			CreateOptions: client.CreateOptions{ChunkSize: 1 << 20}})
		if err == nil {
			require.NoError(t, j.accept(t.Context(), acknowledgement{what: "put", path: path,
				pieces: []piece{{0, content}}, length: int64(len(content)), begun: begun}))
		}
		group.Wait()
		require.NoError(t, err, "a put outlives this")
		ready, cancel := context.WithTimeout(t.Context(), cluster.StartTimeout)
		require.NoError(t, system.WaitReady(ready))
		cancel()
	}
	require.NoError(t, trouble.failure())
}

// trigger is a source that causes something when it is read up to a place.
type trigger struct {
	*bytes.Reader
	at   int64
	pull func()
	once sync.Once
}

func (s *trigger) ReadAt(data []byte, offset int64) (int, error) {
	if offset+int64(len(data)) > s.at {
		s.once.Do(s.pull)
	}
	return s.Reader.ReadAt(data, offset)
}

// judgeLoadClient is a client like those of the load.
func judgeLoadClient(t *testing.T, system *cluster.Cluster) *client.Client {
	t.Helper()
	user, err := client.Dial(t.Context(), client.Options{Namenodes: []string{system.Address()}, Name: "story",
		LeaseRenewal: leaseRenewal})
	require.NoError(t, err)
	t.Cleanup(func() { user.Close() })
	return user
}
