package actor

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/replicas"
)

// benchState is an active State with nodes and no checks around it.
func benchState(tb testing.TB, nodes int) *State {
	s, err := New(Config{})
	require.NoError(tb, err)
	step := func(r Request) {
		require.Nil(tb, s.Step(Command{Now: 1, Request: r}).Reply.Err)
	}
	step(&Format{ClusterID: "bench"})
	step(&BecomeActive{Epoch: 1})
	for i := range nodes {
		id := fmt.Sprintf("node-%03d", i)
		step(&RegisterNode{Session: uint64(i + 1), NodeID: id, Address: id + ":7720", Volumes: volumes()})
		step(&ReportPage{NodeID: id, Session: uint64(i + 1), ReportID: 1, Last: true})
	}
	return s
}

// client steps mutations of one client.
type client struct {
	s        *State
	sequence uint64
	// log, if set, keeps the records.
	log *[][]byte
}

func (c *client) step(tb testing.TB, r Request) any {
	c.sequence++
	command := Command{Now: int64(c.sequence), Client: ClientID{1}, Sequence: c.sequence, OldestPending: c.sequence,
		Request: r}
	binary.LittleEndian.PutUint64(command.Random[:], c.sequence)
	e := c.s.Step(command)
	if e.Reply.Err != nil {
		tb.Fatal(e.Reply.Err)
	}
	if c.log != nil {
		*c.log = append(*c.log, e.Records...)
	}
	return e.Reply.Result
}

// BenchmarkMutation measures one mutation of each frequent kind, in a namespace
// of a thousand directories that grows with b.N. 300,000 a second are 3,333 ns.
func BenchmarkMutation(b *testing.B) {
	setup := func(b *testing.B) *client {
		c := &client{s: benchState(b, 3)}
		for i := range 1000 {
			c.step(b, &Mkdir{Path: fmt.Sprintf("/d%03d", i)})
		}
		return c
	}
	path := func(i int) string { return fmt.Sprintf("/d%03d/file-%08d", i%1000, i) }
	create := func(b *testing.B, c *client, i int, chunks uint32) *CreateResult {
		return c.step(b, &Create{Path: path(i), ChunkCount: chunks, VisibleOnComplete: chunks > 0,
			ClientName: "host:1"}).(*CreateResult)
	}
	run := func(name string, prepare func(b *testing.B, c *client, i int) Request) {
		b.Run(name, func(b *testing.B) {
			c := setup(b)
			requests := make([]Request, b.N)
			for i := range requests {
				requests[i] = prepare(b, c, i)
			}
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			for _, r := range requests {
				c.step(b, r)
			}
		})
	}
	run("mkdir", func(_ *testing.B, _ *client, i int) Request { return &Mkdir{Path: path(i)} })
	run("create", func(_ *testing.B, _ *client, i int) Request { // empty, visible at once
		return &Create{Path: path(i), ClientName: "host:1"}
	})
	run("create-chunk", func(_ *testing.B, _ *client, i int) Request { // as put does it
		return &Create{Path: path(i), ChunkCount: 1, VisibleOnComplete: true, ClientName: "host:1"}
	})
	run("addchunk", func(b *testing.B, c *client, i int) Request {
		return &AddChunks{FileID: create(b, c, i, 0).Info.FileID, Count: 1}
	})
	run("complete", func(b *testing.B, c *client, i int) Request {
		return completeOf(create(b, c, i, 1))
	})
	run("rename", func(b *testing.B, c *client, i int) Request {
		c.step(b, &Mkdir{Path: path(i)})
		return &Rename{Source: path(i), Target: path(i) + "-new"}
	})
	run("remove", func(b *testing.B, c *client, i int) Request {
		c.step(b, &Mkdir{Path: path(i)})
		return &Remove{Path: path(i)}
	})
}

// BenchmarkStore is a small file: Create with one chunk, Complete with its
// commit: two mutations.
func BenchmarkStore(b *testing.B) {
	c := &client{s: benchState(b, 10)}
	for i := range 1000 {
		c.step(b, &Mkdir{Path: fmt.Sprintf("/d%03d", i)})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		store(b, c, fmt.Sprintf("/d%03d/file-%08d", i%1000, i))
	}
}

func store(tb testing.TB, c *client, path string) {
	created := c.step(tb,
		&Create{Path: path, ChunkCount: 1, VisibleOnComplete: true, ClientName: "host:1"}).(*CreateResult)
	c.step(tb, completeOf(created))
}

// completeOf commits a file's first chunk where it was placed.
func completeOf(created *CreateResult) *Complete {
	chunk := &created.Chunks[0]
	ids := make([]string, 0, 3)
	for _, r := range chunk.Replicas {
		ids = append(ids, r.NodeID)
	}
	return &Complete{FileID: created.Info.FileID,
		Commits: []ChunkCommit{{Chunk: chunk.Chunk, Generation: 1, Length: 4096, NodeIDs: ids}}}
}

func BenchmarkStat(b *testing.B) {
	c := &client{s: benchState(b, 3)}
	for i := range 100_000 {
		c.step(b, &Mkdir{Path: fmt.Sprintf("/%06d", i)})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if e := c.s.Step(Command{Request: &Stat{Path: "/054321"}}); e.Reply.Err != nil || i < 0 {
			b.Fatal(e.Reply.Err)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	live := benchState(b, 3)
	var sequence uint64
	var log [][]byte
	for i := range 20_000 {
		sequence++
		e := live.Step(Command{Now: int64(i), Client: ClientID{1}, Sequence: sequence, OldestPending: sequence,
			Request: &Mkdir{Path: fmt.Sprintf("/%06d", i)}})
		log = append(log, append([]byte(nil), e.Records[0]...))
	}
	start := live.Txid() - uint64(len(log))
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		s := benchState(b, 3)
		s.Step(Command{Request: &StepDown{}})
		require.Equal(b, start, s.Txid())
		b.StartTimer()
		for i := 0; i < len(log) && done < b.N; i++ {
			if err := s.Replay(start+uint64(i+1), log[i]); err != nil {
				b.Fatal(err)
			}
			done++
		}
	}
}

// BenchmarkRestart rebuilds a state of b.N files (one chunk each, a thousand
// directories), by replaying their records and by loading a checkpoint; it
// reports the heap that each file then takes. Ten million files have 30 s:
// 3,000 ns each.
func BenchmarkRestart(b *testing.B) {
	build := func(b *testing.B) (records [][]byte, checkpoint []byte, want uint64) {
		c := &client{s: benchState(b, 10)}
		c.log = &records
		for i := range 1000 {
			c.step(b, &Mkdir{Path: fmt.Sprintf("/d%03d", i)})
		}
		for i := range b.N {
			store(b, c, fmt.Sprintf("/d%03d/file-%08d", i%1000, i))
		}
		return records, c.s.Checkpoint(), c.s.Txid()
	}
	measure := func(b *testing.B, restart func(s *State)) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.ReportAllocs()
		b.ResetTimer()
		s, err := New(Config{})
		require.NoError(b, err)
		restart(s)
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "heap-B/file")
		runtime.KeepAlive(s)
	}
	b.Run("replay", func(b *testing.B) {
		records, _, want := build(b)
		base := benchState(b, 10).Checkpoint()
		first := want - uint64(len(records))
		measure(b, func(s *State) {
			require.NoError(b, s.LoadCheckpoint(base))
			for i, r := range records {
				if err := s.Replay(first+uint64(i)+1, r); err != nil {
					b.Fatal(err)
				}
			}
		})
		runtime.KeepAlive(records)
	})
	b.Run("checkpoint", func(b *testing.B) {
		_, checkpoint, _ := build(b)
		measure(b, func(s *State) { require.NoError(b, s.LoadCheckpoint(checkpoint)) })
		b.ReportMetric(float64(len(checkpoint))/float64(b.N), "B/file")
		runtime.KeepAlive(checkpoint)
	})
}

// TestMemoryPerFile holds the budget of docs/ARCHITECTURE.md: at most 300 bytes
// of heap per file with one chunk and three replicas.
func TestMemoryPerFile(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const files = 200_000
	s := benchState(t, 10)
	c := &client{s: s}
	for i := range 200 {
		c.step(t, &Mkdir{Path: fmt.Sprintf("/d%03d", i)})
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range files {
		store(t, c, fmt.Sprintf("/d%03d/file-%08d", i%200, i))
	}
	s.Step(Command{Mono: replicas.ConfirmAfter * 2, Request: &Tick{}})
	s.effects = Effects{}
	runtime.GC()
	runtime.ReadMemStats(&after)
	perFile := float64(after.HeapAlloc-before.HeapAlloc) / files
	t.Logf("%.0f bytes per file", perFile)
	require.Less(t, perFile, 300.0)
	runtime.KeepAlive(s)
}
