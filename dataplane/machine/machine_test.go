package machine

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
)

// bench drives one machine by hand: no socket, file, goroutine or clock.
type machineBench struct {
	m       *Machine
	session *WriteSession // the last one opened
	appends []*Packet

	recordSession *RecordSession // the last one opened
	records       []*RecordTask  // that the sink has
	owner         map[*Packet]*WriteSession
	now           time.Duration

	inPlace bool // see deliver
}

// deliver gives bytes to the machine as the adapter does: in pieces, and with
// inPlace those of a packet that has begun straight into its buffer.
func (b *machineBench) deliver(p []byte) {
	const piece = 64
	for len(p) > 0 {
		var n int
		if space := b.m.Space(); b.inPlace && len(space) > 0 {
			n = copy(space, p)
			b.m.Filled(n, b.now)
		} else {
			n = min(piece, len(p))
			b.m.Receive(p[:n], b.now)
		}
		p = p[n:]
	}
}

func newMachineBench(l Limits) *machineBench {
	defaultTo(&l.WindowBytes, 8<<20)
	defaultTo(&l.RecordWindowBytes, 1<<20)
	defaultTo(&l.WindowBudgetBytes, 128<<20)
	defaultTo(&l.SessionsMax, 1024)
	defaultTo(&l.RequestBytesMax, 8<<10)
	defaultTo(&l.PendingRequestsMax, 16)
	defaultTo(&l.IdleTimeout, 2*time.Minute)
	defaultTo(&l.SessionIdleTimeout, 10*time.Minute)
	defaultTo(&l.ReceiveTimeout, 30*time.Second)
	defaultTo(&l.StepTimeout, 15*time.Second)
	defaultTo(&l.StepSlack, 2*time.Second)
	defaultTo(&l.SilenceTimeout, 2*time.Second)
	defaultTo(&l.LingerTimeout, time.Second)
	n := NewNode("self", l, &Counters{})
	return &machineBench{m: New(n, 0), owner: make(map[*Packet]*WriteSession)}
}

// drain carries out the effects on paper and describes them.
func (b *machineBench) drain() string {
	var out strings.Builder
	for {
		b.m.Flush(b.now)
		effects, some := b.m.TakeEffects()
		if !some {
			break
		}
		for i := range effects {
			e := &effects[i]
			switch e.Kind {
			case EffectReply:
				for rest := e.Reply; len(rest) > 0; { // short ones leave together
					h, err := wire.ParseHeader(rest)
					if err != nil {
						panic(err)
					}
					size := wire.HeaderBytes + int(h.Length)
					fmt.Fprintf(&out, "reply %s\n", describe(rest[:size]))
					rest = rest[size:]
				}
			case EffectOpen:
				b.session = e.Session
				fmt.Fprintf(&out, "open replica, mode %d, generation %d, offset %d\n", e.Session.Open.Mode,
					e.Session.Open.Generation, e.Session.Open.Offset)
			case EffectDial:
				fmt.Fprintf(&out, "dial %s\n", e.Session.Open.Downstream[0].NodeID)
			case EffectAppend:
				b.appends = append(b.appends, e.Packet)
				b.owner[e.Packet] = e.Session
				fmt.Fprintf(&out, "append %d+%d flags %d\n", e.Packet.Header.Offset, e.Packet.Header.Length,
					e.Packet.Header.Flags)
			case EffectForward:
				h, err := wire.ParseHeader(e.Buffer.Bytes())
				if err != nil {
					panic(err)
				}
				fmt.Fprintf(&out, "forward packet %d final=%t\n", h.Seqno, h.Flags&(wire.FlagSeal|wire.FlagClose) != 0)
				e.Buffer.Release()
			case EffectHangUp:
				fmt.Fprintf(&out, "hang up clean=%t\n", e.Clean)
			case EffectReleaseFile:
				out.WriteString("release replica\n")
			case EffectRead:
				fmt.Fprintf(&out, "read %d+%d\n", e.Read.Offset, e.Read.Length)
			case EffectCancelRead:
				out.WriteString("cancel read\n")
			case EffectQuery:
				if e.Query.Copy != nil {
					fmt.Fprintf(&out, "query copy of %d\n", e.Query.Copy.Length)
				} else {
					fmt.Fprintf(&out, "query stat=%t recover=%t\n", e.Query.Stat != nil, e.Query.Recover != nil)
				}
			case EffectOpenRecords:
				b.recordSession = e.Records
				fmt.Fprintf(&out, "open records of %s\n", e.Records.Open.Path)
			case EffectRecord:
				b.records = append(b.records, e.Record)
				fmt.Fprintf(&out, "record %d of %d bytes in %d pieces, sync=%t\n", e.Record.Sequence, e.Record.Size,
					len(e.Record.Pieces), e.Record.Flags == wire.FlagSync)
			case EffectCloseRecords:
				out.WriteString("close records\n")
			case EffectLinger:
				out.WriteString("linger\n")
			case EffectClose:
				out.WriteString("close\n")
			}
		}
		b.m.RepliesWritten()
	}
	b.m.check()
	return out.String()
}

// stored completes the oldest n appends.
func (b *machineBench) stored(n int, err error) {
	for range n {
		p := b.appends[0]
		b.appends = b.appends[:copy(b.appends, b.appends[1:])]
		p.Buffer.Release()
		b.m.OnStored(b.session, p, err, b.now)
	}
}

// recordDone is the sink's answer to the i-th record that it has.
func (b *machineBench) recordDone(i int, offset int64, err error) {
	t := b.records[i]
	b.records = append(b.records[:i:i], b.records[i+1:]...)
	for _, p := range t.Pieces {
		p.Release()
	}
	t.Offset, t.Err = offset, err
	b.m.OnRecordDone(t, b.now)
}

// describe decodes a reply.
func describe(packet []byte) string {
	h, err := wire.ParseHeader(packet)
	if err != nil {
		return err.Error()
	}
	if err := wire.Verify(packet); err != nil {
		return err.Error()
	}
	payload := packet[wire.HeaderBytes:]
	hops := func(all []wire.HopStatus) string {
		var parts []string
		for _, s := range all {
			text := s.NodeID + " ok"
			if s.Code != 0 {
				text = fmt.Sprintf("%s FAILED (%s: %s)", s.NodeID, fault.Kind(s.Code), s.Reason)
			}
			if s.Micros != 0 {
				text += fmt.Sprintf(" %dus", s.Micros)
			}
			if s.TotalMicros != s.Micros {
				text += fmt.Sprintf(" of %dus", s.TotalMicros)
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ", ")
	}
	must := func(body any) {
		if err := wire.DecodeBody(payload, body); err != nil {
			panic(err)
		}
	}
	switch h.Op {
	case wire.OpOpenAck:
		var a wire.OpenAck
		must(&a)
		return fmt.Sprintf("open ack window=%d [%s]", a.WindowBytes, hops(a.Hops))
	case wire.OpAck:
		var a wire.Ack
		must(&a)
		return fmt.Sprintf("ack %d length=%d [%s]", a.Seqno, a.Length, hops(a.Hops))
	case wire.OpError:
		var s wire.Status
		must(&s)
		return fmt.Sprintf("error %s: %s", fault.Kind(s.Code), s.Reason)
	case wire.OpReadReply:
		var r wire.ReadReply
		must(&r)
		return fmt.Sprintf("read reply %s: %s", fault.Kind(r.Status.Code), r.Status.Reason)
	case wire.OpStatReply:
		var r wire.StatReply
		must(&r)
		return fmt.Sprintf("stat reply length=%d %s", r.Length, r.Status.Reason)
	case wire.OpRecovered:
		var r wire.RecoverReply
		must(&r)
		return fmt.Sprintf("recovered length=%d %s", r.Length, r.Status.Reason)
	}
	if h.Op == wire.OpAlive {
		var a wire.Alive
		must(&a)
		if a.Progress > 0 {
			return fmt.Sprintf("alive progress=%d", a.Progress)
		}
		return strings.TrimSpace("alive " + strings.Join(a.Opening, ", "))
	}
	if h.Op == wire.OpRecordsOpened {
		var r wire.RecordsOpened
		must(&r)
		return fmt.Sprintf("records opened window=%d %s %s", r.WindowBytes, r.Status.Reason, r.Redirect.Address)
	}
	if h.Op == wire.OpRecordAck {
		var r wire.RecordAck
		must(&r)
		return fmt.Sprintf("record ack %d %v %s %s", r.Sequence, r.Offsets, r.Status.Reason, r.Redirect.Address)
	}
	if h.Op == wire.OpCopyReply {
		var r wire.CopyReply
		must(&r)
		return fmt.Sprintf("copy reply length=%d %s", r.Length, r.Status.Reason)
	}
	if h.Op == wire.OpScrubReply {
		var r wire.ScrubReply
		must(&r)
		return fmt.Sprintf("scrub reply %d volumes %s", len(r.Volumes), r.Status.Reason)
	}
	return fmt.Sprintf("op %d", h.Op)
}

// Scenario files: each command is one thing that happens to the machine; the
// output is what it wants done.
func TestMachineScenarios(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "scenarios"),
		func(t *testing.T, path string) { playScenario(t, path, false) })
}

// The same, with payloads that the adapter puts in place.
func TestMachineScenariosInPlace(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "scenarios"),
		func(t *testing.T, path string) { playScenario(t, path, true) })
}

func playScenario(t *testing.T, path string, inPlace bool) {
	b := newMachineBench(Limits{WindowBytes: 1 << 20, WindowBudgetBytes: 16 << 20})
	b.inPlace = inPlace
	var split int
	var rest []byte
	hopNames := []string{"b", "c", "d"}
	feed := func(packet []byte) {
		step := len(packet)
		if split > 0 {
			step = split
		}
		for len(packet) > 0 {
			n := min(step, len(packet))
			if inPlace {
				b.deliver(packet[:n])
			} else {
				b.m.Receive(packet[:n], b.now)
			}
			packet = packet[n:]
		}
	}
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		number := func(key string, fallback int64) int64 {
			for _, a := range d.CmdArgs {
				if a.Key == key {
					v, err := strconv.ParseInt(a.Vals[0], 0, 64)
					require.NoError(t, err)
					return v
				}
			}
			return fallback
		}
		text := func(key string) string {
			for _, a := range d.CmdArgs {
				if a.Key == key && len(a.Vals) > 0 {
					return strings.ReplaceAll(a.Vals[0], "_", " ")
				}
			}
			return ""
		}
		has := func(key string) bool { return d.HasArg(key) }
		statuses := func() []wire.HopStatus {
			var all []wire.HopStatus
			for i := range b.session.hopsAfter {
				s := wire.HopStatus{NodeID: hopNames[i], Micros: uint32(number("micros", 0)),
					TotalMicros: uint32(number("total", number("micros", 0)))}
				if int64(i) == number("failed", -1) {
					s.Code, s.Reason = uint8(fault.Disk), "its disk broke"
				}
				all = append(all, s)
			}
			return all
		}
		id := chunk.NewID(1, [10]byte{9})
		encode := func(op wire.Op, body any) {
			header := wire.Header{Op: op}
			if has("alive") {
				header.Flags = wire.FlagAlive
			}
			packet, err := wire.AppendPacket(nil, header, body)
			require.NoError(t, err)
			feed(packet)
		}
		switch d.Cmd {
		case "split": // bytes arrive in pieces of this size from now on
			split = int(number("bytes", 1))
		case "open":
			o := wire.OpenWrite{BodyVersion: 1, ChunkID: id[:], Generation: uint64(number("generation", 1)),
				PreviousGeneration: uint64(number("previous", 0)), Mode: wire.Mode(number("mode", 1)),
				ChunkSize: number("size", 1<<26), Offset: number("offset", 0),
				WindowBytes: number("window", 0), ReportMicros: uint32(number("report", 0))}
			for i := range number("hops", 0) {
				o.Downstream = append(o.Downstream, wire.Hop{NodeID: hopNames[i], Address: "host:1"})
			}
			encode(wire.OpOpenWrite, &o)
		case "data":
			packet := dataPacket(uint64(number("seqno", 1)), number("offset", 0), wire.Flags(number("flags", 0)),
				make([]byte, number("bytes", 0)))
			if has("corrupt") {
				packet[len(packet)-1] ^= 1
			}
			rest = nil
			if part := number("only", 0); part > 0 {
				packet, rest = packet[:part], packet[part:]
			}
			feed(packet)
		case "rest": // what "only" held back
			feed(rest)
		case "garbage":
			feed([]byte(d.Input))
		case "header": // a header alone, as given
			h := make([]byte, wire.HeaderBytes)
			wire.PutHeader(h, wire.Header{Op: wire.Op(number("op", 3)), Length: uint32(number("length", 0)),
				Seqno: uint64(number("seqno", 1))})
			if v := number("version", 0); v > 0 {
				h[4] = byte(v)
			}
			if v := number("reserved", 0); v > 0 {
				binary.LittleEndian.PutUint32(h[20:], uint32(v))
			}
			feed(h)
		case "opened":
			var err error
			if has("error") {
				err = fault.New(fault.NoSpace, "create", "%s", text("error"))
			}
			b.m.OnOpened(b.session, err, b.now)
		case "stored":
			var err error
			if has("error") {
				err = fault.New(fault.Disk, "write", "%s", text("error"))
			}
			b.stored(int(number("packets", 1)), err)
		case "down-opened":
			b.m.OnDownOpened(b.session, wire.OpenAck{WindowBytes: number("window", 1<<20), Hops: statuses()}, b.now)
		case "down-ack":
			b.m.OnDownAck(b.session, wire.Ack{Seqno: uint64(number("seqno", 1)), Hops: statuses()}, b.now)
		case "down-alive":
			var alive wire.Alive
			if has("opening") {
				alive.Opening = []string{text("opening")}
			}
			b.m.OnDownAlive(b.session, alive, b.now)
		case "down-failed":
			b.m.OnDownFailed(b.session, fault.New(fault.Unavailable, "forward", "it closed the connection"), b.now)
		case "read":
			encode(wire.OpOpenRead, &wire.OpenRead{ChunkID: id[:], Offset: number("offset", 0),
				Length: number("length", -1)})
		case "stat":
			encode(wire.OpStat, &wire.StatReplica{ChunkID: id[:]})
		case "recover":
			encode(wire.OpRecover, &wire.RecoverReplica{ChunkID: id[:], Phase: wire.RecoverPhase(number("phase", 1)),
				Generation: 5})
		case "copy":
			encode(wire.OpCopy, &wire.CopyRange{ChunkID: id[:], Generation: 5, Length: number("length", 100),
				Sources: []wire.Hop{{NodeID: "b", Address: "host:1"}}})
		case "open-records":
			encode(wire.OpOpenRecords, &wire.OpenRecords{Path: "/f", WriterID: id[:], WindowBytes: number("window", 0)})
		case "records-opened":
			var err error
			if has("redirect") {
				err = &redirectError{wire.Hop{NodeID: "b", Address: "host:1"}}
			}
			b.m.OnRecordsOpened(b.recordSession, err, b.now)
		case "record":
			packets, err := wire.AppendRecord(nil, uint64(number("sequence", 1)), wire.Flags(number("flags", 0)),
				make([]byte, number("bytes", 0)))
			require.NoError(t, err)
			if part := number("only", 0); part > 0 {
				packets, rest = packets[:part], packets[part:]
			}
			feed(packets)
		case "piece": // a packet of a record, as given
			h := wire.Header{Op: wire.OpRecord, Seqno: uint64(number("sequence", 1)),
				Length: uint32(number("bytes", 0)),
				Offset: number("rest", 0), Flags: wire.Flags(number("flags", 0))}
			piece := make([]byte, wire.HeaderBytes+h.Length)
			wire.PutHeader(piece, h)
			wire.Seal(piece)
			feed(piece)
		case "record-done":
			var err error
			if has("redirect") {
				err = &redirectError{wire.Hop{NodeID: "b", Address: "host:1"}}
			}
			b.recordDone(int(number("nth", 0)), number("offset", 0), err)
		case "copying":
			b.m.OnCopied(uint64(number("progress", 0)))
		case "copied":
			b.m.OnQueryDone(wire.OpCopyReply, &wire.CopyReply{Length: 100}, b.now)
		case "read-refused":
			b.m.OnReadRefused(fault.New(fault.Busy, "open read", "all senders are busy"), b.now)
		case "read-done":
			b.m.OnReadDone(has("broken"), ReasonNotReading, b.now)
		case "query-done":
			if has("stat") {
				b.m.OnQueryDone(wire.OpStatReply, &wire.StatReply{Length: 7}, b.now)
			} else {
				b.m.OnQueryDone(wire.OpRecovered, &wire.RecoverReply{Length: 7}, b.now)
			}
		case "after": // time passes
			d, err := time.ParseDuration(d.CmdArgs[0].Key)
			require.NoError(t, err)
			b.now += d
			b.m.Tick(b.now)
		case "elapse": // time passes, but no tick
			d, err := time.ParseDuration(d.CmdArgs[0].Key)
			require.NoError(t, err)
			b.now += d
		case "gone":
			b.m.OnDisconnected(b.now)
		case "state":
			n := b.m.node
			out := fmt.Sprintf("%s; buffers %d, windows %d, sessions %d", b.m.phase, n.Buffers.Outstanding(),
				n.Budget.granted.Load(), n.Budget.sessions.Load())
			if b.m.reason != reasonNone {
				out += "; refused: " + b.m.reason.String()
			}
			return out + "\n"
		case "links":
			var out strings.Builder
			for _, link := range b.m.node.Links() {
				fmt.Fprintf(&out, "%s: %d acks, %v late\n", link.NodeID, link.Acks.Operations, link.Acks.Late)
			}
			return out.String()
		default:
			t.Fatalf("unknown command %q", d.Cmd)
		}
		return b.drain()
	})
	b.m.OnDisconnected(b.now)
	b.drain()
	b.stored(len(b.appends), fault.Closed)
	for len(b.records) > 0 {
		b.recordDone(0, 0, fault.Closed)
	}
	require.Zero(t, b.m.node.Buffers.Outstanding(), "buffers leak")
	require.Zero(t, b.m.node.Budget.granted.Load(), "window leaks")
	require.Zero(t, b.m.node.Budget.sessions.Load(), "sessions leak")
}

func TestAPacketAllocatesNothing(t *testing.T) {
	if invariants.Enabled {
		t.Skip("buffer handles are not reused under invariants")
	}
	for _, hopsAfter := range []int{0, 2} {
		t.Run(strconv.Itoa(hopsAfter), func(t *testing.T) {
			b := newMachineBench(Limits{})
			id := chunk.NewID(1, [10]byte{1})
			o := wire.OpenWrite{BodyVersion: 1, ChunkID: id[:], Generation: 1, Mode: wire.ModeCreate,
				ChunkSize: 1 << 30}
			statuses := make([]wire.HopStatus, hopsAfter)
			for i := range statuses {
				statuses[i].NodeID = "downstream"
				o.Downstream = append(o.Downstream, wire.Hop{NodeID: "downstream", Address: "h:1"})
			}
			open, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite}, &o)
			require.NoError(t, err)
			var discarded int
			pump := func() {
				for {
					b.m.Flush(b.now)
					effects, some := b.m.TakeEffects()
					if !some {
						return
					}
					for i := range effects {
						switch e := &effects[i]; e.Kind {
						case EffectOpen:
							b.session = e.Session
						case EffectAppend:
							b.appends = append(b.appends, e.Packet)
						case EffectForward:
							e.Buffer.Release()
						case EffectReply:
							n, _ := io.Discard.Write(e.Reply)
							discarded += n
						}
					}
					b.m.RepliesWritten()
				}
			}
			b.m.Receive(open, 0)
			pump()
			b.m.OnOpened(b.session, nil, 0)
			if hopsAfter > 0 {
				b.m.OnDownOpened(b.session, wire.OpenAck{WindowBytes: 1 << 20, Hops: statuses}, 0)
			}
			pump()
			packet := dataPacket(1, 0, 0, make([]byte, 4096))
			seqno, offset := uint64(0), int64(0)
			one := func() {
				seqno++
				wire.PutHeader(packet, wire.Header{Op: wire.OpData, Length: 4096, Seqno: seqno, Offset: offset})
				wire.Seal(packet)
				offset += 4096
				b.now += time.Millisecond
				b.m.Receive(packet[:1000], b.now)
				b.m.Receive(packet[1000:], b.now)
				pump()
				b.stored(1, nil)
				if hopsAfter > 0 {
					b.m.OnDownAck(b.session, wire.Ack{Seqno: seqno, Hops: statuses}, b.now)
				}
				pump()
			}
			for range 100 {
				one()
			}
			// A count per run is rounded down: many packets each make it a fine one.
			require.Zero(t, testing.AllocsPerRun(20, func() {
				for range 1000 {
					one()
				}
			}))
			require.Equal(t, seqno, b.session.ackedSeqno)
			b.m.check()
		})
	}
}

// Whatever bytes come, in whatever pieces: no panic, no leak, and memory within
// what the header promised after it was checked.
func FuzzMachineReceive(f *testing.F) {
	id := chunk.NewID(1, [10]byte{1})
	open, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite},
		&wire.OpenWrite{ChunkID: id[:], Generation: 1, Mode: 1, ChunkSize: 1 << 20})
	read, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:], Length: -1})
	stat, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpStat}, &wire.StatReplica{ChunkID: id[:]})
	f.Add(append(append(append([]byte{}, open...), dataPacket(1, 0, 0, []byte("hello"))...),
		dataPacket(2, 5, wire.FlagSeal, []byte("x"))...), uint8(7))
	f.Add(append(append([]byte{}, read...), stat...), uint8(200))
	records, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenRecords},
		&wire.OpenRecords{Path: "/f", WriterID: id[:]})
	one, _ := wire.AppendRecord(nil, 3, wire.FlagSync, []byte("one"))
	two, _ := wire.AppendRecord(nil, 4, 0, nil)
	copied, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpCopy},
		&wire.CopyRange{ChunkID: id[:], Generation: 1, Sources: []wire.Hop{{Address: "h:1"}}})
	f.Add(append(append(append([]byte{}, records...), one...), two...), uint8(255))
	f.Add(append(append([]byte{}, copied...), stat...), uint8(40))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		b := newMachineBench(Limits{WindowBudgetBytes: 1 << 20})
		pump := func() {
			b.drain()
			if s := b.session; s != nil && !s.over && !s.opened {
				b.m.OnOpened(s, nil, b.now)
			}
			b.stored(len(b.appends), nil)
			if s := b.recordSession; s != nil && !s.over && !s.opened {
				b.m.OnRecordsOpened(s, nil, b.now)
			}
			for len(b.records) > 0 {
				b.recordDone(len(b.records)-1, 7, nil)
			}
			b.m.OnReadDone(false, reasonNone, b.now)
			b.m.OnQueryDone(wire.OpStatReply, &wire.StatReply{}, b.now)
			b.drain()
		}
		for len(data) > 0 {
			n := min(len(data), int(step)+1)
			if b.inPlace = step%2 == 0; b.inPlace {
				b.deliver(data[:n])
			} else {
				b.m.Receive(data[:n], b.now)
			}
			data = data[n:]
			pump()
			require.LessOrEqual(t, b.m.node.Buffers.OutstandingBytes(), int64(2<<20))
		}
		b.m.OnDisconnected(b.now)
		pump()
		require.Zero(t, b.m.node.Buffers.Outstanding())
		require.Zero(t, b.m.node.Budget.granted.Load())
	})
}

// What a reply says stays as it was until it was written, also when it was made
// while others were carried out, and more follow.
func TestAReplyKeepsItsBytesUntilItIsWritten(t *testing.T) {
	b := newMachineBench(Limits{})
	o := openWrite(chunk.NewID(1, [10]byte{1}))
	open, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite}, &o)
	require.NoError(t, err)
	b.m.Receive(open, 0)
	effects, some := b.m.TakeEffects()
	require.True(t, some)
	require.Equal(t, EffectOpen, effects[0].Kind)
	b.m.OnOpened(effects[0].Session, nil, 0) // as an adapter that opens at once
	b.m.RepliesWritten()
	b.m.Receive(make([]byte, wire.HeaderBytes), 0) // garbage: a second reply
	require.Equal(t, "reply open ack window=4194304 [self ok]\n", strings.SplitAfter(b.drain(), "\n")[0])
}

// BenchmarkMachine is the protocol alone: a packet comes, is stored and acked.
func BenchmarkMachine(b *testing.B) {
	const payload = 64 << 10
	m := newMachineBench(Limits{})
	id := chunk.NewID(1, [10]byte{1})
	o := openWrite(id)
	o.ChunkSize = 1 << 30
	open, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite}, &o)
	require.NoError(b, err)
	m.m.Receive(open, 0)
	m.drain()
	m.m.OnOpened(m.session, nil, 0)
	m.drain()
	packet := make([]byte, wire.HeaderBytes+payload)
	b.SetBytes(payload)
	b.ReportAllocs()
	seqno, offset := uint64(0), int64(0)
	for b.Loop() {
		seqno++
		if m.session.Open.ChunkSize-offset < payload { // as if the chunk had no end
			m.session.Open.ChunkSize += 1 << 30
		}
		wire.PutHeader(packet, wire.Header{Op: wire.OpData, Length: payload, Seqno: seqno, Offset: offset})
		wire.Seal(packet)
		offset += payload
		m.m.Receive(packet, 0)
		for effects, some := m.m.TakeEffects(); some; effects, some = m.m.TakeEffects() {
			for i := range effects {
				if e := &effects[i]; e.Kind == EffectAppend {
					p := e.Packet
					p.Buffer.Release()
					m.m.OnStored(m.session, p, nil, 0)
				}
			}
			m.m.RepliesWritten()
			m.m.Flush(0)
		}
	}
}

// A connection that once had thousands of packets under way is as small as any
// other when it is idle.
func TestAnIdleConnectionKeepsLittle(t *testing.T) {
	const packets = 2000
	b := newMachineBench(Limits{})
	id := chunk.NewID(1, [10]byte{1})
	open, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite},
		&wire.OpenWrite{BodyVersion: 1, ChunkID: id[:], Generation: 1, Mode: wire.ModeCreate, ChunkSize: 64 << 20})
	require.NoError(t, err)
	b.m.Receive(open, 0)
	b.drain()
	b.m.OnOpened(b.session, nil, 0)
	b.drain()
	var all []byte
	for i := range packets {
		var flags wire.Flags
		if i == packets-1 {
			flags = wire.FlagSeal
		}
		all = append(all, dataPacket(uint64(i+1), int64(i)*4096, flags, make([]byte, 4096))...)
	}
	b.m.Receive(all, 0)
	b.drain()
	require.Equal(t, packets, b.session.inflight.Len(), "all are under way")
	b.stored(packets, nil)
	b.drain()
	require.Equal(t, phaseIdle, b.m.phase)
	require.LessOrEqual(t, cap(b.m.free), packetsKept)
	require.LessOrEqual(t, cap(b.m.effects), effectsKept)
	require.LessOrEqual(t, cap(b.m.spare), effectsKept)
	require.LessOrEqual(t, cap(b.m.out), replyBytesKept)
	require.Zero(t, b.m.node.Buffers.Outstanding())
}

const testChunkSize = 4 << 20

func defaultTo[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func openWrite(id chunk.ID) wire.OpenWrite {
	return wire.OpenWrite{BodyVersion: wire.BodyVersion, ChunkID: id[:], Generation: 1, Mode: wire.ModeCreate,
		ChunkSize: testChunkSize, ClientName: "test"}
}

func dataPacket(seqno uint64, offset int64, flags wire.Flags, payload []byte) []byte {
	packet := make([]byte, wire.HeaderBytes+len(payload))
	wire.PutHeader(packet, wire.Header{Op: wire.OpData, Flags: flags, Length: uint32(len(payload)), Seqno: seqno,
		Offset: offset})
	copy(packet[wire.HeaderBytes:], payload)
	wire.Seal(packet)
	return packet
}

// redirectError is an error of the sink that names another datanode, like
// dataplane.RedirectError.
type redirectError struct{ hop wire.Hop }

func (e *redirectError) Error() string {
	return "append record: node " + e.hop.NodeID + " at " + e.hop.Address + " appends to this file"
}
func (e *redirectError) Redirect() wire.Hop { return e.hop }
func (e *redirectError) Unwrap() error      { return fault.New(fault.LeaseHeld, "append record", "") }
