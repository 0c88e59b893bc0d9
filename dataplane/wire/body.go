package wire

import (
	"fmt"

	"github.com/ugorji/go/codec"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Bodies are msgpack arrays (ugorji codec, toarray): the first field is the body's version, new fields are only
// ever appended, and a reader skips what it does not know.

// Hop is one datanode of a pipeline, or a source of bytes.
type Hop = chunk.Location

// Mode says how a write session finds its replica.
type Mode uint8

// Modes of OpenWrite.
const (
	ModeCreate Mode = 1 // makes a new replica of length 0
	// ModeAppend reopens a sealed (or recovered) replica at PreviousGeneration
	// under Generation; its length must be Offset.
	ModeAppend Mode = 2
	// ModeResume joins an open replica again after pipeline recovery: its bytes
	// beyond Offset are cut, its generation becomes Generation.
	ModeResume Mode = 3
)

// OpenWrite starts a write session on the connection.
type OpenWrite struct {
	_struct            struct{} `codec:",toarray"`
	BodyVersion        uint8
	ChunkID            []byte // 16
	Generation         uint64
	PreviousGeneration uint64 // ModeAppend, ModeResume
	Mode               Mode
	ChunkSize          int64 // most bytes the chunk may get
	Offset             int64 // length at which writing goes on
	SizeHint           int64 // bytes expected, to preallocate; 0 unknown
	WindowBytes        int64 // window that the sender would like
	Downstream         []Hop // the hops after this one, 0..HopsMax-1
	ClientName         string
	// ReportMicros: while packets wait, an Ack is owed at least this often, also one that acks nothing new. It
	// tells how long the oldest packet has waited, and where. 0: no such reports.
	ReportMicros uint32
}

// ReportMicrosLeast is the shortest time between two reports of a session.
const ReportMicrosLeast = 10_000

// HopStatus is the state of one hop, in an ack.
type HopStatus struct {
	_struct struct{} `codec:",toarray"`
	NodeID  string
	Code    uint8  // 0 ok, else a fault.Kind
	Reason  string // for people; empty when ok
	// Micros from the arrival of a packet's first byte at this hop to the end of
	// its disk work: its own share, of the slowest packet since the last ack. In an
	// Ack that acks nothing new: until now, if the disk still has the oldest packet.
	Micros uint32
	// TotalMicros from the arrival of a packet's first byte until this hop acked it, all hops behind it included;
	// of the slowest packet since the last ack. In an Ack that acks nothing new: until now, of the oldest packet.
	TotalMicros uint32
}

// FirstBad is the position of the first hop that is not ok; -1 if all are.
func FirstBad(hops []HopStatus) int {
	for i := range hops {
		if hops[i].Code != 0 {
			return i
		}
	}
	return -1
}

// OpenAck answers OpenWrite: the receiver's status first, then downstream's.
type OpenAck struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	// Payload bytes that may be sent and not yet acked: the smallest window of all hops.
	WindowBytes int64
	Hops        []HopStatus
}

// Ack acknowledges all Data packets up to Seqno (the header's field too).
type Ack struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Seqno       uint64
	Length      int64 // replica length covered
	Hops        []HopStatus
}

// OpenRead asks for a range. The reply is rounded out to checksum blocks.
type OpenRead struct {
	_struct       struct{} `codec:",toarray"`
	BodyVersion   uint8
	ChunkID       []byte
	MinGeneration uint64 // 0: whatever the node has; else a lower replica generation is refused
	Offset        int64
	Length        int64 // -1: to the end of what is visible
	Background    bool  // nobody waits for the bytes: other uses of the disk go first
}

// ReadReply comes before the raw bytes: DataLength of them, from DataOffset.
type ReadReply struct {
	_struct       struct{} `codec:",toarray"`
	BodyVersion   uint8
	Status        Status
	Generation    uint64
	ReplicaLength int64 // visible bytes of the replica
	DataOffset    int64 // multiple of the checksum block
	DataLength    int64 // raw bytes that follow this packet
	BlockBytes    int32 // span of one checksum
	// One xxh3-64 for each block of the data, the last one perhaps partial:
	// 8 bytes each, little endian. At most ReadBlocksMax.
	Sums      []byte
	ChunkSize int64 // most bytes that the replica may get; 0: not known
}

// ReadBlocksMax bounds the blocks of one read reply, so that its body stays under BodyBytesMax: 4,096 blocks are
// 256 MiB of data. A longer read is answered in part; the client asks again.
const ReadBlocksMax = 4096

// StatReplica asks for a replica's state.
type StatReplica struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	ChunkID     []byte
	WithDigest  bool // also compute one xxh3-64 over the whole replica from its stored sums
}

// StatReply answers StatReplica.
type StatReply struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Status      Status
	Generation  uint64
	Length      int64
	State       uint8 // chunk.State
	Digest      uint64
}

// Alive says that the sender works on what it owes; see FlagAlive.
type Alive struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	// Opening lists the nodes, of this one and those after it, whose replicas are not open yet, as far as is known.
	Opening []string
	// Progress of a copy that waits for its disk: 1, and 1 more for each byte that the disk has taken. 0: it waits for
	// something else, or this datanode does not tell; then it is enough that it lives.
	Progress uint64
}

// Status is an error (or its absence) on the wire.
type Status struct {
	_struct struct{} `codec:",toarray"`
	Code    uint8    // 0 ok, else a fault.Kind
	NodeID  string
	Chunk   string
	Reason  string
}

// StatusOf turns an error into its wire form.
func StatusOf(nodeID, chunkID string, err error) Status {
	if err == nil {
		return Status{}
	}
	kind := fault.KindOf(err)
	if kind == 0 {
		kind = fault.Internal
	}
	reason := err.Error()
	if len(reason) > reasonBytesMax {
		reason = reason[:reasonBytesMax]
	}
	return Status{Code: uint8(kind), NodeID: nodeID, Chunk: chunkID, Reason: reason}
}

// Err turns a status into an error; nil when ok.
func (s Status) Err(op, address string) error {
	if s.Code == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.Kind(s.Code), Op: op, Chunk: s.Chunk, Node: s.NodeID, Address: address,
		Reason: s.Reason}
}

const (
	// BodyVersion is the version of every body that this code writes. A reader
	// takes 0 for 1, and reads the fields it knows of a higher one.
	BodyVersion = 1

	reasonBytesMax = 1024
)

var handle = newHandle()

func newHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.MaxInitLen = 64
	h.MaxDepth = 8
	return h
}

// AppendPacket appends a whole packet with a msgpack body to b and returns it.
// A body over BodyBytesMax is a bug of the caller's: fault.Internal.
func AppendPacket(b []byte, h Header, body any) ([]byte, error) {
	return NewEncoder().AppendPacket(b, h, body)
}

// Encoder appends packets without allocating in steady state. Not for concurrent use.
type Encoder struct {
	codec   *codec.Encoder
	scratch []byte
}

// NewEncoder returns an encoder.
func NewEncoder() *Encoder { return &Encoder{codec: codec.NewEncoderBytes(nil, handle)} }

// AppendPacket is like the function of this name. Pass body as a pointer to keep it from being copied to the heap.
func (e *Encoder) AppendPacket(b []byte, header Header, body any) ([]byte, error) {
	e.scratch = e.scratch[:0]
	e.codec.ResetBytes(&e.scratch)
	if err := e.codec.Encode(body); err != nil {
		return b, &fault.Error{Kind: fault.Internal, Op: "encode packet body", Err: err}
	}
	if len(e.scratch) > BodyBytesMax {
		return b, fault.New(fault.Internal, "encode packet body", "%T takes %d bytes, limit %d", body, len(e.scratch),
			BodyBytesMax)
	}
	header.Length = uint32(len(e.scratch))
	start := len(b)
	var encoded [HeaderBytes]byte
	PutHeader(encoded[:], header)
	b = append(b, encoded[:]...)
	b = append(b, e.scratch...)
	Seal(b[start:])
	return b, nil
}

// DecodeBody decodes a packet's payload into body, a pointer to one of the structs above. The result shares no
// memory with payload. Error: fault.Protocol.
func DecodeBody(payload []byte, body any) (err error) {
	defer func() {
		if r := recover(); r != nil { // the codec reports some hostile input this way
			err = &fault.Error{Kind: fault.Protocol, Op: "decode packet body", Err: fmt.Errorf("%v", r)}
		}
	}()
	if err := codec.NewDecoderBytes(payload, handle).Decode(body); err != nil {
		return &fault.Error{Kind: fault.Protocol, Op: "decode packet body", Err: err}
	}
	return nil
}
