package dataplane

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
	"github.com/whispering-woods/ww/test/simdisk"
)

// memorySink keeps records in memory, in the order in which they came.
type memorySink struct {
	hold bool // answers wait for release
	mu   struct {
		sync.Mutex
		content []byte
		got     []Record // without their pieces
		waiting []func()
		opened  []RecordsOpen
		streams int
	}
}

func (s *memorySink) Open(ctx context.Context, o RecordsOpen) (RecordStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.opened = append(s.mu.opened, o)
	switch o.Path {
	case "/elsewhere":
		return nil, &RedirectError{NodeID: "b", Address: "10.0.0.2:7720"}
	case "/absent":
		return nil, fault.New(fault.NotFound, "open records", "no such file")
	case "/hangs":
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
	}
	s.mu.streams++
	return &memoryStream{sink: s, path: o.Path}, nil
}

type memoryStream struct {
	sink *memorySink
	path string
}

func (s *memoryStream) Append(r Record, done func(int64, error)) {
	k := s.sink
	k.mu.Lock()
	defer k.mu.Unlock()
	answer := func() {
		if r.Sequence == 13 {
			done(0, fault.New(fault.NoSpace, "append record", "unlucky"))
			return
		}
		offset := int64(len(k.mu.content))
		k.mu.content = r.AppendPayload(k.mu.content)
		done(offset, nil)
		done(offset, nil) // once too often does no harm
	}
	if k.hold {
		k.mu.waiting = append(k.mu.waiting, answer)
	} else {
		answer()
	}
	r.Pieces = nil
	k.mu.got = append(k.mu.got, r)
}

func (s *memoryStream) Close() {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.mu.streams--
	s.sink.releaseLocked()
}

func (s *memorySink) releaseLocked() {
	for _, answer := range s.mu.waiting {
		answer()
	}
	s.mu.waiting = nil
}

func (s *memorySink) streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.streams
}

func (p *peer) openRecords(path string) wire.RecordsOpened {
	p.send(wire.Header{Op: wire.OpOpenRecords}, &wire.OpenRecords{BodyVersion: wire.BodyVersion, Path: path,
		WriterID: bytes.Repeat([]byte{7}, 16), ClientName: "test"})
	var r wire.RecordsOpened
	_, err := p.reader.Expect(wire.OpRecordsOpened, &r)
	require.NoError(p.t, err)
	require.NoError(p.t, r.Validate())
	return r
}

func (p *peer) record(sequence uint64, flags wire.Flags, payload []byte) {
	packets, err := wire.AppendRecord(nil, sequence, flags, payload)
	require.NoError(p.t, err)
	_, err = p.conn.Write(packets)
	require.NoError(p.t, err)
}

func (p *peer) expectRecordAck() wire.RecordAck {
	var a wire.RecordAck
	_, err := p.reader.Expect(wire.OpRecordAck, &a)
	require.NoError(p.t, err)
	require.NoError(p.t, a.Validate())
	return a
}

// waitRecords reads acks until sequence is acked, and returns the offsets.
func (p *peer) waitRecords(sequence uint64) []int64 {
	var offsets []int64
	for {
		a := p.expectRecordAck()
		require.Zero(p.t, a.Status.Code, a.Status.Reason)
		offsets = append(offsets, a.Offsets...)
		if a.Sequence >= sequence {
			require.Equal(p.t, sequence, a.Sequence)
			return offsets
		}
	}
}

func TestRecordSession(t *testing.T) {
	n := startNode(t, "a", Limits{})
	sink := &memorySink{}
	n.server.ServeRecords(sink)
	p := dial(t, n.server.Addr())
	opened := p.openRecords("/f")
	require.Zero(t, opened.Status.Code, opened.Status.Reason)
	require.EqualValues(t, 1<<20, opened.WindowBytes)
	var want []byte
	var offsets []int64
	send := func(sequence uint64, flags wire.Flags, size int) {
		payload := pattern(newChunkID(), size)
		offsets = append(offsets, int64(len(want)))
		want = append(want, payload...)
		p.record(sequence, flags, payload)
	}
	for sequence := range uint64(100) { // within the window of 256 times 4 KiB
		send(20+sequence, 0, int(sequence)*7)
	}
	got := p.waitRecords(119)
	for i, size := range []int{wire.RecordPieceBytes, wire.RecordPieceBytes + 1, record.PayloadBytesMax, 0} {
		sequence := uint64(120 + i)
		send(sequence, wire.FlagSync, size)
		got = append(got, p.waitRecords(sequence)...)
	}
	require.Equal(t, offsets, got)
	sink.mu.Lock()
	require.True(t, bytes.Equal(want, sink.mu.content))
	require.Len(t, sink.mu.got, 104)
	require.False(t, sink.mu.got[99].Sync)
	require.True(t, sink.mu.got[100].Sync)
	require.Equal(t, p.conn.LocalAddr().String(), sink.mu.opened[0].Peer)
	require.Equal(t, byte(7), sink.mu.opened[0].Writer[15])
	require.Equal(t, "test", sink.mu.opened[0].ClientName)
	sink.mu.Unlock()
	require.EqualValues(t, 104, n.server.Stats().Records)
	require.NoError(t, p.conn.Close())
	eventually(t, "the stream is closed", func() bool { return sink.streams() == 0 })
	eventually(t, "the window is back", func() bool { return n.server.Load().GrantedWindowBytes == 0 })
}

func TestRecordSessionsThatAreRefused(t *testing.T) {
	n := startNode(t, "a", Limits{})
	p := dial(t, n.server.Addr())
	r := p.openRecords("/f")
	requireKind(t, fault.Unavailable, r.Status.Code, r.Status.Reason)
	require.Contains(t, r.Status.Reason, "does not append records")

	n.server.ServeRecords(&memorySink{})
	r = dial(t, n.server.Addr()).openRecords("/absent")
	requireKind(t, fault.NotFound, r.Status.Code, r.Status.Reason)
	require.Empty(t, r.Redirect.Address)
	r = dial(t, n.server.Addr()).openRecords("/elsewhere")
	requireKind(t, fault.LeaseHeld, r.Status.Code, r.Status.Reason)
	require.Equal(t, wire.Hop{NodeID: "b", Address: "10.0.0.2:7720"}, r.Redirect)
	r = dial(t, n.server.Addr()).openRecords("relative")
	requireKind(t, fault.Invalid, r.Status.Code, r.Status.Reason)

	p = dial(t, n.server.Addr())
	require.Zero(t, p.openRecords("/f").Status.Code)
	p.record(12, 0, []byte("twelve"))
	p.record(13, 0, []byte("unlucky"))
	p.record(14, 0, []byte("never acked"))
	p.waitRecords(12)
	a := p.expectRecordAck()
	require.EqualValues(t, 12, a.Sequence)
	require.Empty(t, a.Offsets)
	requireKind(t, fault.NoSpace, a.Status.Code, a.Status.Reason)
	_, _, err := p.reader.Next()
	require.Error(t, err, "the connection ends")
}

// A sink that answers late holds the window; nothing is lost when the client, or
// the server, goes meanwhile.
func TestRecordSessionEndsWhileTheSinkWorks(t *testing.T) {
	n := startNode(t, "a", Limits{})
	sink := &memorySink{hold: true}
	n.server.ServeRecords(sink)
	p := dial(t, n.server.Addr())
	require.Zero(t, p.openRecords("/f").Status.Code)
	p.record(1, 0, make([]byte, 3<<20))
	eventually(t, "the record", func() bool { return n.server.Stats().Records == 1 })
	require.EqualValues(t, 3<<20, n.server.Load().GrantedWindowBytes)
	require.NoError(t, p.conn.Close()) // Close of the stream answers
	eventually(t, "the window is back", func() bool { return n.server.Load().GrantedWindowBytes == 0 })

	q := dial(t, n.server.Addr())
	q.send(wire.Header{Op: wire.OpOpenRecords}, &wire.OpenRecords{Path: "/hangs", WriterID: make([]byte, 16)})
	eventually(t, "the open", func() bool {
		sink.mu.Lock()
		defer sink.mu.Unlock()
		return len(sink.mu.opened) == 2
	})
	require.NoError(t, q.conn.Close())
	eventually(t, "the late stream is closed", func() bool {
		return sink.streams() == 0 &&
			n.server.Load().GrantedWindowBytes == 0
	})

	// stop checks that nothing is left.
	last := dial(t, n.server.Addr())
	require.Zero(t, last.openRecords("/f").Status.Code)
	last.record(1, 0, make([]byte, 100))
	eventually(t, "the record", func() bool { return n.server.Stats().Records == 2 })
}

// Records larger than the window take from the budget, as long as there is some.
func TestLargeRecordsAreBounded(t *testing.T) {
	n := startNode(t, "a", Limits{WindowBudgetBytes: 16 << 20})
	sink := &memorySink{hold: true}
	n.server.ServeRecords(sink)
	first := dial(t, n.server.Addr())
	require.Zero(t, first.openRecords("/f").Status.Code)
	first.record(1, 0, make([]byte, 10<<20))
	eventually(t, "the record", func() bool { return n.server.Stats().Records == 1 })
	second := dial(t, n.server.Addr())
	require.Zero(t, second.openRecords("/f").Status.Code)
	second.record(1, 0, make([]byte, 300_000)) // within 12 MiB, three quarters
	eventually(t, "the record", func() bool { return n.server.Stats().Records == 2 })
	third := dial(t, n.server.Addr())
	require.Zero(t, third.openRecords("/f").Status.Code)
	packets, err := wire.AppendRecord(nil, 1, 0, make([]byte, 4<<20))
	require.NoError(t, err)
	_, err = third.conn.Write(packets[:wire.HeaderBytes+wire.RecordPieceBytes])
	require.NoError(t, err)
	a := third.expectRecordAck()
	requireKind(t, fault.Busy, a.Status.Code, a.Status.Reason)
	require.LessOrEqual(t, n.server.Load().GrantedWindowBytes, int64(12<<20))
}

func TestRedirectErrors(t *testing.T) {
	err := error(&RedirectError{NodeID: "b", Address: "h:1"})
	require.ErrorIs(t, err, fault.LeaseHeld)
	require.Equal(t, fault.LeaseHeld, fault.KindOf(err))
	require.ErrorContains(t, err, "h:1")
	err = &RedirectError{NodeID: "b", Address: "h:1", Err: context.Canceled}
	require.True(t, errors.Is(err, context.Canceled))
}

// An empty packet now and then keeps a write session alive that has nothing to
// write, on all hops; without one it ends.
func TestKeepalive(t *testing.T) {
	limits := Limits{SessionIdleTimeout: 2 * time.Second, TickInterval: 20 * time.Millisecond}
	nodes := []*testNode{startNodeOn(t, "a", simdisk.NewMem(), limits), startNodeOn(t, "b", simdisk.NewMem(), limits)}
	n := nodes[0]
	id, silent := newChunkID(), newChunkID()
	p, q := dial(t, n.server.Addr()), dial(t, n.server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	q.open(openWrite(silent, nil))
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for range 30 { // longer than a session may be idle
		<-ticker.C
		require.NoError(t, p.data(nil, 0))
		p.waitAcked(p.seqno)
	}
	p.write([]byte("still here"), 100, wire.FlagSeal)
	requireContent(t, nodes, id, []byte("still here"))
	a := q.expectAck()
	requireKind(t, fault.Unavailable, a.Hops[0].Code, a.Hops[0].Reason)
	require.Contains(t, a.Hops[0].Reason, "nothing received")
}
