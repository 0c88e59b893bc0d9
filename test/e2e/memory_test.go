package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Most memory that a daemon may ever have resident under this load, in bytes
// (docs/operations.md#memory).
const (
	datanodeBytesMax  = 256 << 20
	logServerBytesMax = 128 << 20
	namenodeBytesMax  = 128 << 20 // plus what its files and chunks take

	// raceFactor: the race detector's books, and buffers that are not used again.
	raceFactor = 3
)

// parallelWriters is how many write at once.
const parallelWriters = 200

// keptDescriptors are what a datanode keeps for reuse when nobody uses it: files
// of chunks, and connections to and from two other datanodes.
const keptDescriptors = 512 + 2*2*32

// sessionBytes is what a write session may take besides its packets: as in
// package dataplane, and its connection.
const sessionBytes = 64 << 10

// requirePeaks holds every process to the most that it may have resident.
func requirePeaks(t *testing.T, system *cluster.Cluster) {
	t.Helper()
	for _, process := range system.Processes() {
		limit := int64(datanodeBytesMax)
		switch process {
		case system.LogServer:
			limit = logServerBytesMax
		case system.Namenode:
			limit = namenodeBytesMax
		}
		if underRace() {
			limit *= raceFactor
		}
		peak := residentBytes(t, process, "VmHWM")
		t.Logf("%s: at most %d MiB resident", process.Name, peak>>20)
		require.LessOrEqual(t, peak, limit, "%s: %d MiB resident, limit %d MiB", process.Name, peak>>20, limit>>20)
	}
}

// TestMemoryBound stores from 200 writers at once, each a client of its own with
// several chunks on their way, more than the datanodes have windows for, and
// reads the peak of each daemon.
func TestMemoryBound(t *testing.T) {
	system := start(t, cluster.Options{Datanodes: 3, ChunkSize: 1 << 20, LogLevel: "info"})
	size := 2 << 20
	if testing.Short() {
		size = 1 << 20
	}
	ctx := patient(t, 2*time.Minute)
	admin := adminAddresses(t, system)
	before := map[*cluster.Process]held{}
	for _, p := range system.Processes() {
		before[p] = heldBy(t, p, admin[p])
	}
	content := bytesOf(1, size)
	var writers errgroup.Group
	for i := range parallelWriters {
		writers.Go(func() error {
			writer, err := client.Dial(ctx,
				client.Options{Namenodes: []string{system.Address()}, Name: fmt.Sprintf("writer-%d", i)})
			if err != nil {
				return err
			}
			defer writer.Close()
			_, err = writer.Store(ctx, fmt.Sprintf("/file-%d", i), bytes.NewReader(content), int64(size),
				client.StoreOptions{})
			return err
		})
	}
	require.NoError(t, writers.Wait())
	requirePeaks(t, system)
	for _, p := range system.Processes() {
		descriptors := leftCount
		if p != system.LogServer && p != system.Namenode {
			descriptors += keptDescriptors
		}
		requireBack(t, p, admin[p], before[p], descriptors)
	}
}

// TestMemoryBoundOfStalledWriters opens 200 sessions through three datanodes. All
// writers stop in the middle of a packet as large as their window, so that the
// first datanode holds what it has granted; then they send the rest while the
// last datanode of all pipelines does nothing. Then everything goes on, and is
// written.
func TestMemoryBoundOfStalledWriters(t *testing.T) {
	system := start(t, cluster.Options{Datanodes: 3, LogLevel: "info"})
	ctx := patient(t, time.Minute)
	status, err := system.Client().ClusterStatus(ctx)
	require.NoError(t, err)
	hops := make([]wire.Hop, len(system.Datanodes))
	for _, n := range status.Nodes {
		hops[system.DatanodeAt(n.Address)] = wire.Hop{NodeID: n.NodeID, Address: n.Address}
	}
	admin := adminAddresses(t, system)
	before := map[*cluster.Process]held{}
	for _, p := range system.Datanodes {
		before[p] = heldBy(t, p, admin[p])
	}

	writers := make([]*rawWriter, parallelWriters)
	var granted, stalled int64
	for i := range writers {
		writers[i], err = openRaw(i, hops)
		require.NoError(t, err)
		defer writers[i].conn.Close()
		granted += writers[i].window
		stalled += int64(len(writers[i].first))
	}
	t.Logf("%d MiB granted to %d writers, the first %d KiB, the last %d KiB; %d MiB of packets stay halves",
		granted>>20, parallelWriters,
		writers[0].window>>10, writers[parallelWriters-1].window>>10, stalled>>20)
	var all errgroup.Group
	for _, w := range writers {
		all.Go(w.stall)
	}
	require.NoError(t, all.Wait())
	first := system.Datanodes[0]
	var stuck held
	require.NoError(t, cluster.Poll(ctx, func() error {
		if stuck = heldBy(t, first, admin[first]); stuck.live < before[first].live+stalled {
			return fmt.Errorf("%s holds %d MiB of the %d MiB that were sent", first.Name,
				(stuck.live-before[first].live)>>20, stalled>>20)
		}
		return nil
	}))
	each := (stuck.live - before[first].live - stalled) / parallelWriters
	t.Logf("%s: %+v, %d bytes for each session besides its packet", first.Name, stuck, each)
	if !underRace() {
		require.LessOrEqual(t, each, int64(sessionBytes))
	}

	// There is room for some more, until the budget is spent; then a writer hears
	// that this datanode is busy.
	var more []*rawWriter
	for err = nil; err == nil && len(more) < parallelWriters; {
		var w *rawWriter
		if w, err = openRaw(1000+len(more), hops[:1]); err == nil {
			more = append(more, w)
			granted += w.window
		}
	}
	require.ErrorIs(t, err, fault.Busy)
	require.LessOrEqual(t, granted, int64(128<<20), "more is granted than write_budget")
	for _, w := range more {
		require.NoError(t, w.conn.Close())
	}

	require.NoError(t, system.Datanodes[2].Pause())
	for _, w := range writers {
		all.Go(w.fill)
	}
	filled := all.Wait()
	require.NoError(t, system.Datanodes[2].Resume())
	require.NoError(t, filled)
	for _, w := range writers {
		all.Go(w.finish)
	}
	require.NoError(t, all.Wait())
	requirePeaks(t, system)
	for _, w := range writers {
		require.NoError(t, w.conn.Close())
	}
	for _, p := range system.Datanodes {
		requireBack(t, p, admin[p], before[p], leftCount+keptDescriptors)
	}
}

// rawWriter is one write session.
type rawWriter struct {
	conn    net.Conn
	packets *wire.PacketReader
	window  int64  // granted
	first   []byte // a packet that takes as much of the window as one can
	last    uint64 // seqno of the last packet
}

// openRaw opens a write session through the hops, the first of which it connects
// to. Errors: that of the hop which refused.
func openRaw(number int, hops []wire.Hop) (*rawWriter, error) {
	conn, err := net.DialTimeout("tcp", hops[0].Address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	writer := &rawWriter{conn: conn, packets: wire.NewPacketReader(conn, 0)}
	id := chunk.NewID(uint64(time.Now().UnixMilli()), [10]byte{byte(number), byte(number >> 8), 1})
	open, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite},
		&wire.OpenWrite{BodyVersion: wire.BodyVersion,
			ChunkID: id[:], Generation: 1, Mode: wire.ModeCreate, ChunkSize: 64 << 20, Downstream: hops[1:]})
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(time.Minute))
	}
	if err == nil {
		_, err = conn.Write(open)
	}
	var ack wire.OpenAck
	if err == nil {
		_, err = writer.packets.Expect(wire.OpOpenAck, &ack)
	}
	if err == nil {
		err = refusalOf(ack.Hops)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	writer.window = ack.WindowBytes
	size := min(writer.window, wire.PayloadBytesMax)
	for size&(size-1) != 0 { // a power of two costs what it is
		size &= size - 1
	}
	writer.first = writer.packet(0, size)
	return writer, nil
}

func refusalOf(hops []wire.HopStatus) error {
	for _, h := range hops {
		if h.Code != 0 {
			return fault.New(fault.Kind(h.Code), "write", "hop %s: %s", h.NodeID, h.Reason)
		}
	}
	return nil
}

// packet is the next packet; the one that ends with the window seals.
func (w *rawWriter) packet(offset, size int64) []byte {
	w.last++
	h := wire.Header{Op: wire.OpData, Seqno: w.last, Offset: offset}
	if offset+size == w.window {
		h.Flags = wire.FlagSeal
	}
	return sealed(h, make([]byte, size))
}

// stall sends the first packet but for its last byte.
func (w *rawWriter) stall() error {
	_, err := w.conn.Write(w.first[:len(w.first)-1])
	return err
}

// fill sends what is left of the window.
func (w *rawWriter) fill() error {
	const size = 256 << 10 // windows are a multiple of it
	_, err := w.conn.Write(w.first[len(w.first)-1:])
	for offset := int64(len(w.first) - wire.HeaderBytes); err == nil && offset < w.window; offset += size {
		_, err = w.conn.Write(w.packet(offset, size))
	}
	return err
}

// finish waits until everything is acknowledged.
func (w *rawWriter) finish() error {
	for {
		var ack wire.Ack
		if _, err := w.packets.Expect(wire.OpAck, &ack); err != nil {
			return err
		}
		if err := refusalOf(ack.Hops); err != nil || ack.Seqno == w.last {
			return err
		}
	}
}
