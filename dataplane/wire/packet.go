// Package wire is the binary protocol between clients and datanodes, and among datanodes: the packet header, its
// checksum, and the bodies of each operation. It only encodes and decodes: it owns no socket, no buffer pool and no
// goroutine. The format is described in docs/format/wire.md. A new operation is an Op, a body with a Validate
// method, golden bytes, and, if a peer asks for it, a row in the table of requests of package machine; a client asks
// from client/internal/datanode.
package wire

import (
	"encoding/binary"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

const (
	// Magic opens every packet: "WwP1" in little-endian byte order.
	Magic uint32 = 0x31507757
	// Version is the protocol version that this code speaks.
	Version uint8 = 1
	// HeaderBytes is the size of a packet header.
	HeaderBytes = 40
	// PayloadBytesMax bounds the payload of one packet of any op: a header that
	// claims more is refused before anything is allocated.
	PayloadBytesMax = limits.PacketBytesMax
	// BodyBytesMax bounds a msgpack body (every op but Data and Record).
	BodyBytesMax = 64 << 10
	// HopsMax bounds the length of a pipeline.
	HopsMax = limits.ReplicationMax
	// PacketBytesDefault is the payload of a Data packet in a bulk transfer (tuning.md#packet).
	PacketBytesDefault = 256 << 10
)

// Op says what a packet is.
type Op uint8

// Operations. Numbers are never reused.
const (
	OpOpenWrite Op = 1  // client or upstream → datanode: body OpenWrite
	OpOpenAck   Op = 2  // datanode → upstream: body OpenAck
	OpData      Op = 3  // upstream → datanode: chunk bytes at Offset
	OpAck       Op = 4  // datanode → upstream: body Ack
	OpOpenRead  Op = 5  // client → datanode: body OpenRead
	OpReadReply Op = 6  // datanode → client: body ReadReply, then raw bytes
	OpStat      Op = 7  // client → datanode: body StatReplica
	OpStatReply Op = 8  // datanode → client: body StatReply
	OpError     Op = 9  // datanode → peer: body Status; the connection closes after it
	OpRecover   Op = 10 // recovering datanode → datanode: body RecoverReplica
	OpRecovered Op = 11 // its answer: body RecoverReply
	OpRecord    Op = 12 // client → datanode: one piece of a record to append
	OpRecordAck Op = 13 // datanode → client: body RecordAck
	OpCopy      Op = 14 // client or datanode → datanode: body CopyRange
	OpCopyReply Op = 15 // datanode → client: body CopyReply

	OpOpenRecords   Op = 16 // client → datanode: body OpenRecords
	OpRecordsOpened Op = 17 // datanode → client: body RecordsOpened

	OpAlive Op = 18 // datanode → peer: body Alive, before the answer that it owes

	OpScrub      Op = 19 // client → datanode: body Scrub
	OpScrubReply Op = 20 // its answer: body ScrubReply

	OpTrash      Op = 21 // client → datanode: body Trash
	OpTrashReply Op = 22 // its answer: body TrashReply

	OpDisks      Op = 23 // client → datanode: body Disks
	OpDisksReply Op = 24 // its answer: body DisksReply

	opLast = OpDisksReply
)

// Flags of a packet.
type Flags uint16

// Flags of OpData; of OpRecord only FlagSync.
const (
	// FlagSync asks for fdatasync on every hop before the ack.
	FlagSync Flags = 1 << 0
	// FlagSeal ends the chunk: sync, seal, then ack. The connection is idle and reusable after that ack.
	FlagSeal Flags = 1 << 1
	// FlagClose ends the write session without sealing: the replica stays open.
	FlagClose Flags = 1 << 2
)

// FlagAlive of OpOpenWrite, OpOpenRecords, OpRecover and OpCopy: while an answer or an ack is owed, the datanode says
// at least every AliveEvery that it lives. Whoever hears nothing for several times as long need not wait any longer.
const FlagAlive Flags = 1 << 3

// AliveEvery is how often a datanode says that it lives: see FlagAlive. It is a little late if it looks seldom.
const AliveEvery = 250 * time.Millisecond

// Header is the fixed part of a packet.
type Header struct {
	Op     Op
	Flags  Flags
	Length uint32 // payload bytes that follow, 0..PayloadBytesMax
	// Seqno is the number of the packet in its session, from 1; for OpRecord the
	// record's sequence number, the same in all its packets; 0 elsewhere.
	Seqno uint64
	// Offset of the payload's first byte in the chunk (OpData); bytes of the
	// record that follow in further packets (OpRecord); 0 elsewhere.
	Offset int64
	Sum    uint64 // xxh3-64, see Checksum
}

// Layout, little endian:
//
//	 0 magic u32 | 4 version u8 | 5 op u8 | 6 flags u16 | 8 sum u64 |
//	16 length u32 | 20 reserved u32 (0) | 24 seqno u64 | 32 offset u64 | 40 payload
//
// sum is xxh3-64 of bytes 16..40+length, seeded with bytes 0..8, so it covers every other byte of the packet.

// PutHeader writes h without its sum into b[:HeaderBytes].
func PutHeader(b []byte, h Header) {
	_ = b[HeaderBytes-1]
	binary.LittleEndian.PutUint32(b[0:], Magic)
	b[4] = Version
	b[5] = uint8(h.Op)
	binary.LittleEndian.PutUint16(b[6:], uint16(h.Flags))
	binary.LittleEndian.PutUint64(b[8:], h.Sum)
	binary.LittleEndian.PutUint32(b[16:], h.Length)
	binary.LittleEndian.PutUint32(b[20:], 0)
	binary.LittleEndian.PutUint64(b[24:], h.Seqno)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.Offset))
}

// Checksum computes the sum of a whole packet (header and payload in one piece), ignoring the sum that it carries.
func Checksum(packet []byte) uint64 {
	return xxh3.HashSeed(packet[16:], binary.LittleEndian.Uint64(packet))
}

// Seal writes the checksum into a whole packet whose header is in place.
func Seal(packet []byte) {
	binary.LittleEndian.PutUint64(packet[8:], Checksum(packet))
}

// Verify checks a whole packet against the sum it carries. Error: fault.CorruptData.
func Verify(packet []byte) error {
	if got, want := Checksum(packet), binary.LittleEndian.Uint64(packet[8:]); got != want {
		return fault.New(fault.CorruptData, "verify packet", "checksum is %016x, the packet says %016x", got, want)
	}
	return nil
}

// ParseHeader reads and checks the header in b[:HeaderBytes]; it does not verify the sum, which covers the payload
// too. Errors: fault.Protocol for foreign or impossible bytes, fault.Version for another version.
func ParseHeader(b []byte) (Header, error) {
	const op = "parse packet header"
	_ = b[HeaderBytes-1]
	if m := binary.LittleEndian.Uint32(b); m != Magic {
		return Header{}, fault.New(fault.Protocol, op,
			"magic is %08x, want %08x: the peer does not speak the data protocol", m, Magic)
	}
	if b[4] != Version {
		return Header{}, fault.New(fault.Version, op, "peer speaks version %d, this node speaks %d", b[4], Version)
	}
	header := Header{
		Op:     Op(b[5]),
		Flags:  Flags(binary.LittleEndian.Uint16(b[6:])),
		Sum:    binary.LittleEndian.Uint64(b[8:]),
		Length: binary.LittleEndian.Uint32(b[16:]),
		Seqno:  binary.LittleEndian.Uint64(b[24:]),
		Offset: int64(binary.LittleEndian.Uint64(b[32:])),
	}
	limit := uint32(BodyBytesMax)
	if header.Op == OpData || header.Op == OpRecord {
		limit = PayloadBytesMax
	}
	switch {
	case header.Op == 0 || header.Op > opLast:
		return Header{}, fault.New(fault.Protocol, op, "unknown op %d", header.Op)
	case header.Length > limit:
		return Header{}, fault.New(fault.Protocol, op, "payload of %d bytes, op %d allows %d", header.Length, header.Op,
			limit)
	case binary.LittleEndian.Uint32(b[20:]) != 0:
		return Header{}, fault.New(fault.Protocol, op, "reserved field is not 0")
	case header.Offset < 0:
		return Header{}, fault.New(fault.Protocol, op, "negative offset %d", header.Offset)
	}
	return header, nil
}
