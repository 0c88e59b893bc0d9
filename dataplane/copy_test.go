package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

func copyRange(id chunk.ID, generation uint64, length int, sources ...wire.Hop) wire.CopyRange {
	return wire.CopyRange{BodyVersion: wire.BodyVersion, ChunkID: id[:], Generation: generation,
		ChunkSize: testChunkSize, Length: int64(length),
		Sources: sources, Seal: true}
}

// copy asks over the wire.
func (p *peer) copy(o wire.CopyRange) wire.CopyReply {
	p.send(wire.Header{Op: wire.OpCopy}, &o)
	var r wire.CopyReply
	_, err := p.reader.Expect(wire.OpCopyReply, &r)
	require.NoError(p.t, err)
	require.NoError(p.t, r.Validate())
	return r
}

// proxy stands in front of a node and passes on at most limit bytes of what it
// sends; then it ends (or stalls) the connection.
func proxy(t *testing.T, target string, limit int64, stall bool) wire.Hop {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			forth := make(chan struct{})
			go func() {
				defer close(forth)
				_, _ = io.Copy(out, in)
				_ = out.Close()
			}()
			_, _ = io.CopyN(in, out, limit)
			if stall {
				<-forth // until the other side goes
			}
			_ = in.Close()
			_ = out.Close()
			<-forth
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return wire.Hop{NodeID: "proxy", Address: listener.Addr().String()}
}

func TestCopySealed(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	for _, size := range []int{0, 1, 65_535, 65_536, 65_537, (256 << 10) + 1, 1<<20 + 777, testChunkSize} {
		content := pattern(newChunkID(), size)
		id := storeChunk(t, nodes[:1], content)
		p := dial(t, nodes[1].server.Addr())
		o := copyRange(id, 1, size, nodes[0].hop())
		if size%2 == 1 {
			o.ChunkSize = 0 // as the source says
		}
		for range 2 { // the second finds it there
			r := p.copy(o)
			require.Zero(t, r.Status.Code, "%d bytes: %s", size, r.Status.Reason)
			require.EqualValues(t, size, r.Length)
		}
		requireContent(t, nodes, id, content)
		found, err := nodes[1].store.Stat(id)
		require.NoError(t, err)
		require.Equal(t, chunk.Replica{ID: id, Generation: 1, Length: int64(size), State: chunk.Sealed}, found)
		reader, err := nodes[1].store.OpenReader(id, 1)
		require.NoError(t, err)
		span, err := reader.Range(0, -1)
		require.NoError(t, err)
		require.EqualValues(t, testChunkSize, span.ChunkSize)
		require.NoError(t, reader.Close())

		// A prefix, under another id: a copy of a file.
		target := newChunkID()
		o = copyRange(target, 1, size/2, nodes[0].hop())
		o.SourceChunkID = id[:]
		require.Zero(t, p.copy(o).Status.Code)
		requireContent(t, nodes[1:], target, content[:size/2])
	}
	require.EqualValues(t, 24, nodes[1].server.Stats().Copies)
	require.Zero(t, nodes[1].server.Stats().CopiesFailed)
}

// The replacement of a pipeline member: a copy of what was acknowledged, open at
// the new generation, with which writing goes on.
func TestCopyReplacesAPipelineMember(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	id := newChunkID()
	content := pattern(id, 1<<20)
	const acked = 300_001
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:2])))
	p.write(content[:acked], 100_000, 0)
	require.NoError(t, p.conn.Close()) // the pipeline breaks; node 1 is lost

	q := dial(t, nodes[2].server.Addr())
	o := copyRange(id, 2, acked, nodes[0].hop())
	o.Seal, o.SourceMinGeneration = false, 1
	for range 2 {
		r := q.copy(o)
		require.Zero(t, r.Status.Code, r.Status.Reason)
		require.EqualValues(t, acked, r.Length)
	}
	found, err := nodes[2].store.Stat(id)
	require.NoError(t, err)
	require.Equal(t, chunk.Replica{ID: id, Generation: 2, Length: acked, State: chunk.Open}, found)

	members := []*testNode{nodes[0], nodes[2]}
	p = dial(t, nodes[0].server.Addr())
	resume := openWrite(id, hops(members[1:]))
	resume.Mode, resume.Generation, resume.PreviousGeneration, resume.Offset = wire.ModeResume, 2, 1, acked
	p.open(resume)
	// A late repetition of the copy disturbs nobody.
	p.write(content[acked:acked+1000], 1000, 0)
	require.Zero(t, q.copy(o).Status.Code)
	p.seqno, p.offset = 1, acked+1000
	p.write(content[acked+1000:], 100_000, wire.FlagSeal)
	requireContent(t, members, id, content)

	// Nor does one after the end.
	r := q.copy(o)
	requireKind(t, fault.Exists, r.Status.Code, r.Status.Reason)
	o.Generation = 1
	r = q.copy(o)
	requireKind(t, fault.StaleGeneration, r.Status.Code, r.Status.Reason)
	requireContent(t, members, id, content)
}

func TestCopyTriesAllSources(t *testing.T) {
	var nodes []*testNode // in memory: a disk that others keep busy would break the step's time
	for i := range 4 {
		nodes = append(nodes, startNodeOn(t, fmt.Sprintf("node-%d", i), simdisk.NewMem(),
			Limits{StepTimeout: time.Second, StepSlack: 100 * time.Millisecond}))
	}
	content := pattern(newChunkID(), 3<<20)
	id := storeChunk(t, nodes[:2], content)
	dead := wire.Hop{NodeID: "dead", Address: "127.0.0.1:1"}
	cut := proxy(t, nodes[0].server.Addr(), 1<<20+999, false)
	hanging := proxy(t, nodes[0].server.Addr(), 1<<20, true)

	// One is dead, one does not have it, one breaks off half way, one hangs; the
	// last one goes on with the rest.
	p := dial(t, nodes[3].server.Addr())
	r := p.copy(copyRange(id, 1, len(content), dead, nodes[2].hop(), cut, hanging, nodes[1].hop()))
	require.Zero(t, r.Status.Code, r.Status.Reason)
	requireContent(t, nodes[3:], id, content)

	// None is good: the answer names each, and nothing stays.
	q := dial(t, nodes[2].server.Addr())
	r = q.copy(copyRange(id, 1, len(content), dead, nodes[2].hop(), cut))
	requireKind(t, fault.Unavailable, r.Status.Code, r.Status.Reason)
	for _, want := range []string{"dead at 127.0.0.1:1", "node-2 at ", "proxy at " + cut.Address} {
		require.Contains(t, r.Status.Reason, want)
	}
	_, err := nodes[2].store.Stat(id)
	require.ErrorIs(t, err, fault.NotFound)
	require.Zero(t, nodes[2].store.Volumes()[0].Replicas)

	// Nobody has it, or not that much of it.
	r = q.copy(copyRange(newChunkID(), 1, 1, nodes[0].hop(), nodes[1].hop()))
	requireKind(t, fault.NotFound, r.Status.Code, r.Status.Reason)
	r = q.copy(copyRange(id, 1, len(content)+1, nodes[0].hop()))
	requireKind(t, fault.NotFound, r.Status.Code, r.Status.Reason)
	o := copyRange(id, 2, len(content), nodes[0].hop())
	o.SourceMinGeneration = 2
	r = q.copy(o)
	requireKind(t, fault.Unavailable, r.Status.Code, r.Status.Reason)
	require.Contains(t, r.Status.Reason, "generation 1, wanted 2")
	require.Zero(t, nodes[2].store.Volumes()[0].Replicas)
	require.EqualValues(t, 4, nodes[2].server.Stats().CopiesFailed)
}

// Rotten bytes are noticed on their way and never stored.
func TestCopyVerifies(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	content := pattern(newChunkID(), 1<<20)
	id := storeChunk(t, nodes[:2], content)
	files, err := filepath.Glob(filepath.Join(nodes[0].directory, "chunks", "*", id.String()+"*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("rot"), 700_000)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	p := dial(t, nodes[2].server.Addr())
	r := p.copy(copyRange(id, 1, len(content), nodes[0].hop()))
	requireKind(t, fault.Unavailable, r.Status.Code, r.Status.Reason)
	require.Contains(t, r.Status.Reason, "does not match its checksum")
	r = p.copy(copyRange(id, 1, len(content), nodes[0].hop(), nodes[1].hop()))
	require.Zero(t, r.Status.Code, r.Status.Reason)
	requireContent(t, nodes[1:], id, content)

	again := startNodes(t, 1, Limits{})[0]
	bad, err := again.server.CopyReplica(t.Context(), datanode.CopyReplica{Chunk: id, Generation: 1,
		Length: int64(len(content)), Sources: []chunk.Location{nodes[0].hop(), nodes[1].hop()}})
	require.NoError(t, err)
	require.Equal(t, []string{nodes[0].hop().NodeID}, bad, "a bad source is named also when another one served")
}

// What a namenode orders leaves both disks to others; a client waits for what it asks for.
func TestOnlyCopiesThatAreOrderedAreDoneInTheBackground(t *testing.T) {
	var ahead, awaited atomic.Int64
	disks := make([]*simdisk.Faulty, 3)
	nodes := make([]*testNode, 3)
	for i := range nodes {
		disks[i] = simdisk.NewFaulty(vfs.OS{})
		disks[i].Inject(simdisk.Rule{Op: simdisk.OpPrefetch, Before: func() { ahead.Add(1) }})
		disks[i].Inject(simdisk.Rule{Op: simdisk.OpAwaitRange, Before: func() { awaited.Add(1) }})
		nodes[i] = &testNode{t: t, id: fmt.Sprint("node-", i), directory: t.TempDir(), fs: disks[i]}
		nodes[i].start("127.0.0.1:0", Limits{})
		t.Cleanup(nodes[i].stop)
	}
	content := pattern(newChunkID(), 3<<20)
	id := storeChunk(t, nodes[:1], content)
	reply := dial(t, nodes[1].server.Addr()).copy(copyRange(id, 1, len(content), nodes[0].hop()))
	require.Zero(t, reply.Status.Code, reply.Status.Reason)
	require.Zero(t, ahead.Load())
	require.Zero(t, awaited.Load())

	_, err := nodes[2].server.CopyReplica(t.Context(), datanode.CopyReplica{Chunk: id, Generation: 1,
		Length: int64(len(content)), Sources: []chunk.Location{nodes[0].hop()}})
	require.NoError(t, err)
	require.EqualValues(t, 3, ahead.Load(), "1 MiB each")
	require.EqualValues(t, 2, awaited.Load())
	requireContent(t, nodes[1:], id, content)
}

// A disk that takes nothing more shows in what the datanode says while it copies.
func TestACopyTellsHowFarItsDiskIs(t *testing.T) {
	disk := simdisk.NewFaulty(simdisk.NewMem())
	nodes := []*testNode{startNodeOn(t, "a", simdisk.NewMem(), Limits{}), startNodeOn(t, "b", disk, Limits{})}
	content := pattern(newChunkID(), 3<<20)
	id := storeChunk(t, nodes[:1], content)
	hang := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(hang) })
	defer goOn()
	disk.Inject(simdisk.Rule{Op: simdisk.OpWrite, Path: id.String() + "*", From: 4, Before: func() { <-hang }})
	p := dial(t, nodes[1].server.Addr())
	o := copyRange(id, 1, len(content), nodes[0].hop())
	p.send(wire.Header{Op: wire.OpCopy, Flags: wire.FlagAlive}, &o)
	var progress uint64
	told := 0
	var reply wire.CopyReply
	_, err := p.reader.ExpectAlive(wire.OpCopyReply, &reply, func(said wire.Alive) error {
		if said.Progress == 0 { // it does not wait for its disk
			return nil
		}
		require.GreaterOrEqual(t, said.Progress, progress)
		if told++; said.Progress > 1 && said.Progress == progress {
			goOn()
		}
		progress = said.Progress
		return nil
	})
	require.NoError(t, err)
	require.Zero(t, reply.Status.Code, reply.Status.Reason)
	require.GreaterOrEqual(t, told, 2)
	require.Positive(t, progress)
	requireContent(t, nodes[1:], id, content)
}

// A copy tells no progress while it waits for anything but that its disk takes more: nobody may take its node for slow.
func TestACopyThatWaitsForOthersTellsNoProgress(t *testing.T) {
	content := pattern(newChunkID(), 3<<20)
	for what, test := range map[string]struct {
		other  func(id chunk.ID) chunk.ID // not nil: of what a copy is that does not end before it
		silent bool                       // its source becomes that
		hangs  simdisk.Rule
		open   bool
	}{
		"for a slot":                {other: func(chunk.ID) chunk.ID { return newChunkID() }},
		"for one of the same chunk": {other: func(id chunk.ID) chunk.ID { return id }},
		"for a silent source":       {silent: true},
		"for its last bytes":        {hangs: simdisk.Rule{Op: simdisk.OpWrite, From: 11}},
		"to be sealed":              {hangs: simdisk.Rule{Op: simdisk.OpDatasync}},
		"to be synced":              {hangs: simdisk.Rule{Op: simdisk.OpDatasync}, open: true},
		"to be published":           {hangs: simdisk.Rule{Op: simdisk.OpRename}, open: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			disk := simdisk.NewFaulty(simdisk.NewMem())
			source := startNodeOn(t, "a", simdisk.NewMem(), Limits{})
			target := startNodeOn(t, "b", disk, Limits{CopiesMax: 1})
			id := storeChunk(t, []*testNode{source}, content)
			silent := proxy(t, source.server.Addr(), 1<<20, true)
			started := func() bool {
				stats := target.server.copier.Stats()
				return stats.BytesPulled > 0 && stats.DiskJobs == 0
			}
			o, waits := copyRange(id, 1, len(content), source.hop()), started
			o.Seal = !test.open
			switch {
			case test.other != nil:
				before := test.other(id)
				first := copyRange(before, 1, len(content), silent)
				first.SourceChunkID = id[:]
				dial(t, target.server.Addr()).send(wire.Header{Op: wire.OpCopy}, &first)
				eventually(t, "the first copy", started)
				waits = func() bool { return target.server.copier.Stats().Pending == 2 }
			case test.silent:
				o.Sources = []wire.Hop{silent}
			default:
				reached, hang := make(chan struct{}), make(chan struct{})
				t.Cleanup(func() { close(hang) })
				rule, once := test.hangs, sync.OnceFunc(func() { close(reached) })
				rule.Path, rule.Before = id.String()+"*", func() { once(); <-hang }
				disk.Inject(rule)
				waits = func() bool { return isClosed(reached) }
			}
			p := dial(t, target.server.Addr())
			p.send(wire.Header{Op: wire.OpCopy, Flags: wire.FlagAlive}, &o)
			enough := errors.New("enough")
			heard, untold := 0, 0
			_, err := p.reader.ExpectAlive(wire.OpCopyReply, &wire.CopyReply{}, func(said wire.Alive) error {
				if !waits() {
					return nil
				}
				if said.Progress == 0 {
					untold++
				}
				if untold == 2 { // the first one may have been on its way
					return enough
				}
				heard++
				require.Less(t, heard, 10, "it tells a progress of %d", said.Progress)
				return nil
			})
			require.ErrorIs(t, err, enough)
		})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Half of a copy is nobody's replica: while it runs, and after it was given up.
func TestCopyIsGivenUpWithItsRequester(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	content := pattern(newChunkID(), 3<<20)
	id := storeChunk(t, nodes[:1], content)
	hanging := proxy(t, nodes[0].server.Addr(), 2<<20, true)
	p := dial(t, nodes[1].server.Addr())
	o := copyRange(id, 5, len(content), hanging)
	p.send(wire.Header{Op: wire.OpCopy}, &o)
	eventually(t, "half of the copy", func() bool { return nodes[1].server.Stats().BytesPulled > 1<<20 })

	q := dial(t, nodes[1].server.Addr())
	q.send(wire.Header{Op: wire.OpRecover}, &wire.RecoverReplica{BodyVersion: 1, Phase: wire.RecoverBegin,
		ChunkID: id[:], Generation: 9})
	var recovered wire.RecoverReply
	_, err := q.reader.Expect(wire.OpRecovered, &recovered)
	require.NoError(t, err)
	requireKind(t, fault.NotFound, recovered.Status.Code, recovered.Status.Reason)
	require.Empty(t, nodes[1].store.Replicas())

	// Another request for the same chunk waits for the first, which goes.
	other := dial(t, nodes[1].server.Addr())
	again := copyRange(id, 5, len(content), nodes[0].hop())
	other.send(wire.Header{Op: wire.OpCopy}, &again)
	eventually(t, "the second request", func() bool { return nodes[1].server.copier.Stats().Pending == 2 })
	require.NoError(t, p.conn.Close())
	var r wire.CopyReply
	_, err = other.reader.Expect(wire.OpCopyReply, &r)
	require.NoError(t, err)
	require.Zero(t, r.Status.Code, r.Status.Reason)
	requireContent(t, nodes[1:], id, content)
	require.EqualValues(t, 1, nodes[1].server.Stats().CopiesFailed)
}

func TestCopyAbandonedByItsCaller(t *testing.T) {
	nodes := startNodes(t, 2, Limits{CopiesMax: 1, CopiesWaitingMax: 1})
	id := storeChunk(t, nodes[:1], pattern(newChunkID(), 3<<20))
	hanging := proxy(t, nodes[0].server.Addr(), 2<<20, true)
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan error, 2)
	start := func(id chunk.ID) {
		go func() {
			_, err := nodes[1].server.Copy(ctx, copyRange(id, 1, 3<<20, hanging))
			results <- err
		}()
	}
	start(id)
	eventually(t, "half of the copy", func() bool { return nodes[1].server.Stats().BytesPulled > 1<<20 })
	start(newChunkID()) // waits for the slot
	eventually(t, "the second copy", func() bool { return nodes[1].server.copier.Stats().Pending == 2 })
	_, err := nodes[1].server.Copy(ctx, copyRange(newChunkID(), 1, 1, hanging))
	require.ErrorIs(t, err, fault.Busy)
	cancel()
	for range 2 {
		require.ErrorIs(t, <-results, fault.Closed)
	}
	require.Zero(t, nodes[1].store.Volumes()[0].Replicas)
	_, err = nodes[1].server.Copy(context.Background(), wire.CopyRange{})
	require.ErrorIs(t, err, fault.Invalid)
}

// Close ends copies, whoever asked for them, and waits for them: the store may
// be closed after it.
func TestCopiesEndWhenTheServerCloses(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	id := storeChunk(t, nodes[:1], pattern(newChunkID(), 3<<20))
	hanging := proxy(t, nodes[0].server.Addr(), 2<<20, true)
	server := nodes[1].server
	result := make(chan error, 1)
	go func() {
		_, err := server.Copy(context.Background(), copyRange(id, 1, 3<<20, hanging))
		result <- err
	}()
	eventually(t, "half of the copy", func() bool { return server.Stats().BytesPulled > 1<<20 })
	p := dial(t, server.Addr())
	o := copyRange(id, 1, 3<<20, hanging)
	p.send(wire.Header{Op: wire.OpCopy}, &o)
	eventually(t, "the second request", func() bool { return server.copier.Stats().Pending == 2 })
	began := time.Now()
	nodes[1].stop()
	require.Zero(t, server.copier.Stats().Pending, "copies that are not over")
	require.Less(t, time.Since(began), 10*time.Second)
	require.ErrorIs(t, <-result, fault.Closed)
	_, err := server.Copy(t.Context(), o)
	require.ErrorIs(t, err, fault.Closed)
	require.ErrorContains(t, err, "is stopping")
}

// A stale replica makes room, but only for a copy that a source can give.
func TestCopyReplacesAStaleReplica(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	id := newChunkID()
	write := func(n *testNode, generation uint64, content []byte) {
		p := dial(t, n.server.Addr())
		o := openWrite(id, nil)
		o.Generation = generation
		p.open(o)
		p.write(content, 100_000, wire.FlagSeal)
	}
	stale, content := pattern(newChunkID(), 200_000), pattern(newChunkID(), 100_000)
	write(nodes[0], 4, content)
	write(nodes[1], 3, stale)
	p := dial(t, nodes[1].server.Addr())
	r := p.copy(copyRange(id, 4, len(content), wire.Hop{NodeID: "dead", Address: "127.0.0.1:1"}))
	requireKind(t, fault.Unavailable, r.Status.Code, r.Status.Reason)
	requireContent(t, nodes[1:], id, stale)
	r = p.copy(copyRange(id, 4, len(content), nodes[0].hop()))
	require.Zero(t, r.Status.Code, r.Status.Reason)
	requireContent(t, nodes, id, content)
}

func TestCopyRefusesNonsense(t *testing.T) {
	n := startNode(t, "a", Limits{})
	p := dial(t, n.server.Addr())
	o := copyRange(newChunkID(), 1, 1, n.hop())
	o.Sources = nil
	r := p.copy(o)
	requireKind(t, fault.Invalid, r.Status.Code, r.Status.Reason)
	// Many sources with long names fit a request and its answer.
	for range wire.HopsMax {
		o.Sources = append(o.Sources, wire.Hop{NodeID: strings.Repeat("n", 100), Address: "127.0.0.1:1"})
	}
	r = p.copy(o)
	requireKind(t, fault.Unavailable, r.Status.Code, r.Status.Reason)
}

// TestACopyDoesNotWaitForADiskThatHangs at any step: it has failed, others go on meanwhile, and when the disk goes on
// nothing of it is left.
func TestACopyDoesNotWaitForADiskThatHangs(t *testing.T) {
	for what, test := range map[string]struct {
		hangs simdisk.Rule
		size  int
		open  bool
		shown bool // what hung was its last step
	}{
		"when it begins":     {hangs: simdisk.Rule{Op: simdisk.OpOpen}, size: 1 << 20},
		"in its first bytes": {hangs: simdisk.Rule{Op: simdisk.OpWrite, From: 2}, size: 1 << 20},
		"half way":           {hangs: simdisk.Rule{Op: simdisk.OpWrite, From: 4}, size: testChunkSize},
		"when it is sealed":  {hangs: simdisk.Rule{Op: simdisk.OpDatasync}, size: 1 << 20, shown: true},
		"when it is synced":  {hangs: simdisk.Rule{Op: simdisk.OpDatasync}, size: 1 << 20, open: true, shown: true},
		"when it is shown":   {hangs: simdisk.Rule{Op: simdisk.OpRename}, size: 1 << 20, shown: true},
		"as a record":        {hangs: simdisk.Rule{Op: simdisk.OpDatasync, Path: "*.pack"}, size: 100, shown: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			disk := simdisk.NewFaulty(simdisk.NewMem())
			source := startNodeOn(t, "a", simdisk.NewMem(), Limits{})
			target := startNodeOn(t, "b", disk, Limits{CopiesMax: 1, StepTimeout: time.Second})
			content := pattern(newChunkID(), test.size)
			id := storeChunk(t, []*testNode{source}, content)
			hang := make(chan struct{})
			rule := test.hangs
			if rule.Before = func() { <-hang }; rule.Path == "" {
				rule.Path = id.String() + "*"
			}
			heal := disk.Inject(rule)
			goOn := sync.OnceFunc(func() { heal(); close(hang) })
			t.Cleanup(goOn)
			o := copyRange(id, 1, test.size, source.hop())
			o.Seal = !test.open
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			asked := make(chan error, 1)
			go func() {
				_, err := target.server.Copy(ctx, o)
				asked <- err
			}()
			select {
			case err := <-asked:
				require.ErrorIs(t, err, fault.Disk)
				require.ErrorContains(t, err, "its disk has done nothing for it for 1s")
			case <-ctx.Done():
				require.Fail(t, "the copy waits for its disk")
			}
			_, err := target.server.Copy(ctx, o)
			require.ErrorIs(t, err, fault.Busy, "the first one still waits")
			eventually(t, "another copy", func() bool { // none that shares its disk worker
				other := storeChunk(t, []*testNode{source}, pattern(newChunkID(), 100_000))
				_, err := target.server.Copy(ctx, copyRange(other, 1, 100_000, source.hop()))
				return err == nil
			})
			require.NotZero(t, target.server.copier.Stats().Hanging)
			goOn()
			eventually(t, "the end of what hung", func() bool { return target.server.copier.Stats().Hanging == 0 })
			_, err = target.store.Stat(id)
			if require.Equal(t, test.shown, err == nil); test.shown {
				requireContent(t, []*testNode{target}, id, content)
			}
			_, err = target.server.Copy(ctx, o)
			require.NoError(t, err)
			requireContent(t, []*testNode{target}, id, content)
		})
	}
}
