package machine

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// FuzzMachineSteps plays any order of well-formed and ill-formed packets, disk
// results, neighbour's answers, timers and ends. After every step the machine
// must agree with itself; at the end nothing may be left.
func FuzzMachineSteps(f *testing.F) {
	f.Add([]byte{0, 10, 1, 20, 30, 2, 20, 3, 30, 40})
	f.Add([]byte{1, 10, 21, 2, 2, 2, 30, 30, 41, 42, 5, 30})
	f.Add([]byte{2, 60, 61, 62, 70, 71, 0, 10, 2, 80})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) <= 2000 {
			playSteps(t, steps)
		}
	})
}

// The same with random steps, a little in every test run.
func TestRandomMachineSteps(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		steps := make([]byte, 200)
		for i := range steps {
			steps[i] = byte(random.Uint32())
			if random.IntN(3) > 0 { // sessions that get somewhere
				steps[i] = []byte{0x00, 0x10, 0x01, 0x32, 0x43, 0x14, 0x05, 0x06, 0x87, 0x18, 0x29, 0x0e, 0x6d, 0x7d,
					0x9d, 0xbd,
					0xcd, 0xdd}[random.IntN(18)]
			}
		}
		playSteps(t, steps)
	}
}

func playSteps(t *testing.T, steps []byte) {
	b := newMachineBench(Limits{WindowBytes: 512 << 10, WindowBudgetBytes: 2 << 20, PendingRequestsMax: 3})
	id := chunk.NewID(1, [10]byte{7})
	feed := func(op wire.Op, body any) {
		packet, err := wire.AppendPacket(nil, wire.Header{Op: op, Flags: wire.FlagAlive}, body)
		require.NoError(t, err)
		half := len(packet) / 2
		b.m.Receive(packet[:half], b.now)
		b.m.Receive(packet[half:], b.now)
	}
	statuses := func(count, bad int) []wire.HopStatus {
		all := make([]wire.HopStatus, count)
		if bad >= 0 && bad < count {
			all[bad].Code = uint8(fault.Disk)
		}
		return all
	}
	for i, step := range steps {
		s := b.session
		live := s != nil && !s.over
		argument := int(step >> 4)
		if step&15 == 13 && argument >= 6 { // record sessions
			r := b.recordSession
			open := r != nil && !r.over
			switch argument {
			case 6:
				feed(wire.OpOpenRecords, &wire.OpenRecords{Path: "/f", WriterID: id[:]})
			case 7:
				if open && !r.opened {
					b.m.OnRecordsOpened(r, nil, b.now)
				}
			case 8, 9, 10, 11: // the next record, perhaps in two pieces, perhaps cut
				next := uint64(1)
				if open {
					next = max(1, r.next)
				}
				stream, err := wire.AppendRecord(nil, next, 0,
					make([]byte, []int{0, 100, 300_000, 1<<20 + 5}[argument-8]))
				require.NoError(t, err)
				b.m.Receive(stream[:len(stream)/2], b.now)
				if argument < 11 || i%3 > 0 {
					b.m.Receive(stream[len(stream)/2:], b.now)
				}
			case 12, 13:
				if len(b.records) > 0 {
					b.recordDone(i%len(b.records), int64(i), nil)
				}
			case 14:
				if len(b.records) > 0 {
					b.recordDone(0, 0, fault.New(fault.Disk, "x", "EIO"))
				}
			case 15:
				feed(wire.OpCopy, &wire.CopyRange{ChunkID: id[:], Generation: 1, Sources: []wire.Hop{{Address: "h:1"}}})
			}
			step = 0xf0 | 12 // nothing else
			argument = 0
		}
		switch step & 15 {
		case 0: // open with 0..2 hops
			o := wire.OpenWrite{ChunkID: id[:], Generation: 2, PreviousGeneration: 1, Mode: wire.Mode(1 + argument%3),
				ChunkSize: 1 << 20, ReportMicros: uint32(argument%2) * wire.ReportMicrosLeast}
			for range argument % 3 {
				o.Downstream = append(o.Downstream, wire.Hop{NodeID: "d", Address: "d:1"})
			}
			feed(wire.OpOpenWrite, &o)
		case 1:
			if live && !s.opened {
				b.m.OnOpened(s, nil, b.now)
			}
		case 2, 3, 4: // the next packet, of some size, with some flags
			seqno, offset := uint64(1), int64(0)
			if live {
				seqno, offset = s.seqno+1, s.next
			}
			size := []int{0, 1, 100, 4096, 5000, 65536, 100_000, 262144}[argument%8]
			packet := dataPacket(seqno, offset, []wire.Flags{0, 0, 0, 0, 1, 2, 4, 0}[(argument+i)%8],
				make([]byte, size))
			if step&15 == 4 && argument > 12 {
				packet[len(packet)-1] ^= 1
			}
			b.m.Receive(packet[:min(17, len(packet))], b.now)
			if b.inPlace = i%2 == 0; b.inPlace {
				b.deliver(packet[min(17, len(packet)):])
			} else {
				b.m.Receive(packet[min(17, len(packet)):], b.now)
			}
		case 5, 6:
			if len(b.appends) > 0 && (!live || s.opened) {
				p := b.appends[0]
				b.appends = append(b.appends[:0:0], b.appends[1:]...)
				p.Buffer.Release()
				var err error
				if argument == 15 {
					err = fault.New(fault.Disk, "x", "EIO")
				}
				b.m.OnStored(b.owner[p], p, err, b.now)
			}
		case 7:
			if s != nil && s.hopsAfter > 0 {
				b.m.OnDownOpened(s, wire.OpenAck{WindowBytes: int64(argument) << 16,
					Hops: statuses(s.hopsAfter, argument-13)},
					b.now)
			}
		case 8, 9:
			if s != nil && s.hopsAfter > 0 {
				b.m.OnDownAck(s, wire.Ack{Seqno: s.downSeqno + uint64(argument%4),
					Hops: statuses(s.hopsAfter, argument-14)}, b.now)
			}
		case 10:
			if s != nil && s.hopsAfter > 0 && argument > 10 {
				b.m.OnDownFailed(s, fault.New(fault.Unavailable, "x", "gone"), b.now)
			}
		case 11:
			feed(wire.OpOpenRead, &wire.OpenRead{ChunkID: id[:], Length: int64(argument - 3)})
		case 12:
			b.m.OnReadDone(argument == 15, ReasonNotReading, b.now)
		case 13:
			if argument%2 == 0 {
				feed(wire.OpStat, &wire.StatReplica{ChunkID: id[:]})
			} else {
				b.m.OnQueryDone(wire.OpStatReply, &wire.StatReply{}, b.now)
			}
		case 14:
			b.now += time.Duration(argument*argument) * 100 * time.Millisecond
			if live && argument%4 == 3 {
				b.m.OnDownAlive(s, wire.Alive{Opening: []string{"d"}}, b.now)
			}
			b.m.Tick(b.now)
		case 15:
			switch {
			case argument > 13:
				b.m.OnDisconnected(b.now)
			case argument > 12:
				b.m.Receive([]byte("garbage"), b.now)
			case argument > 11:
				b.m.RefuseNotReading(b.now)
			}
		}
		b.drain()
		granted := b.m.node.Budget.granted.Load()
		require.GreaterOrEqual(t, granted, int64(0))
		require.LessOrEqual(t, granted, int64(2<<20))
		require.LessOrEqual(t, b.m.node.Buffers.OutstandingBytes(), granted+5*(wire.PayloadBytesMax+64))
	}
	b.m.OnDisconnected(b.now)
	b.drain()
	for _, p := range b.appends {
		p.Buffer.Release()
		b.m.OnStored(b.owner[p], p, fault.Closed, b.now)
	}
	for len(b.records) > 0 {
		b.recordDone(0, 0, fault.Closed)
	}
	b.drain()
	require.Zero(t, b.m.node.Buffers.Outstanding())
	require.Zero(t, b.m.node.Budget.granted.Load())
	require.Zero(t, b.m.node.Budget.sessions.Load())
	c := b.m.node.counters
	require.Equal(t, c.WritesStarted.Load(), c.WritesEnded.Load()+c.WritesBroken.Load())
}
