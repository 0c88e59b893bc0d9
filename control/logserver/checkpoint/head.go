package checkpoint

import (
	"encoding/binary"
	"io"

	"github.com/hashicorp/raft"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Layout of a checkpoint's file; docs/format/log.md has the picture. The head is also what raft needs of a
// snapshot: a checkpoint and the entries behind its index are a whole log.
const (
	magic            = 0x434c5757 // "WWLC"
	version          = 1
	fixedBytes       = 80
	pieceHeaderBytes = 16
	endBytes         = 32
)

// Head begins a checkpoint's file.
type Head struct {
	Txid    uint64 // the content is what the records up to this one make
	Epoch   uint64 // of the namenode that made it
	Created int64  // Unix ms
	// Index and term of a raft entry; state is the state machine's after it. state.lastTxid <= txid, so the entries
	// behind index hold every record behind txid.
	Index, Term uint64
	State       entry.State
	// Members is raft's encoded group when the checkpoint was made; entries behind
	// index change it again when they are applied.
	Members []byte
}

// Point is the place in the log that the head names.
func (h *Head) Point() entry.Point {
	return entry.Point{Index: h.Index, Epoch: h.State.Epoch, LastTxid: h.State.LastTxid}
}

// Configuration is raft's group as the head has it. Errors: fault.CorruptData;
// the library's decoder panics on what it cannot read.
func (h *Head) Configuration() (c raft.Configuration, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = corrupt("the group's members cannot be decoded: %v", cause)
		}
	}()
	return raft.DecodeConfiguration(h.Members), nil
}

// encode returns the head's bytes; the last eight are its sum.
func (h *Head) encode() []byte {
	size := fixedBytes + len(h.State.Holder) + len(h.Members) + 8
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = append(b, version, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Members)))
	for _, v := range []uint64{h.Txid, h.Epoch, uint64(h.Created), h.Index, h.Term, h.State.Epoch, h.State.LastTxid,
		uint64(len(h.State.Holder))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, h.State.Holder...)
	b = append(b, h.Members...)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// BeginsFile reports whether the first 4 bytes of something are those of a checkpoint's file.
func BeginsFile(b []byte) bool { return binary.LittleEndian.Uint32(b) == magic }

// ReadHead reads and verifies a head, and returns its sum too. Errors:
// fault.CorruptData, fault.Version, and the reader's.
func ReadHead(source io.Reader) (head Head, sum uint64, err error) {
	fixed := make([]byte, fixedBytes, headBytesMax)
	if _, err := io.ReadFull(source, fixed); err != nil {
		return head, 0, endsEarly(err, "inside its head")
	}
	if !BeginsFile(fixed) {
		return head, 0, corrupt("bad magic")
	}
	size, members := binary.LittleEndian.Uint32(fixed[8:]), uint64(binary.LittleEndian.Uint32(fixed[12:]))
	holder := binary.LittleEndian.Uint64(fixed[72:])
	if size < fixedBytes+8 || size > headBytesMax {
		return head, 0, corrupt("a head of %d bytes", size)
	}
	encoded := fixed[:size]
	if _, err := io.ReadFull(source, encoded[fixedBytes:]); err != nil {
		return head, 0, endsEarly(err, "inside its head")
	}
	body := encoded[:size-8]
	sum = binary.LittleEndian.Uint64(encoded[size-8:])
	if xxh3.Hash(body) != sum {
		return head, 0, corrupt("checksum mismatch in the head")
	}
	if encoded[4] != version {
		return head, 0, fault.New(fault.Version, "read checkpoint", "version %d; this build knows version %d",
			encoded[4],
			version)
	}
	if encoded[5] != 0 || encoded[6] != 0 || encoded[7] != 0 || holder > limits.HolderBytesMax ||
		uint64(size) != fixedBytes+holder+members+8 {
		return head, 0, corrupt("lengths in the head do not fit")
	}
	number := func(at int) uint64 { return binary.LittleEndian.Uint64(encoded[at:]) }
	head = Head{
		Txid: number(16), Epoch: number(24), Created: int64(number(32)), Index: number(40), Term: number(48),
		State: entry.State{Epoch: number(56), LastTxid: number(64),
			Holder: string(body[fixedBytes : fixedBytes+holder])},
		Members: append([]byte(nil), body[fixedBytes+holder:]...),
	}
	if head.Txid == 0 || head.Epoch == 0 || head.Index == 0 || head.Term == 0 || head.State.LastTxid > head.Txid ||
		head.State.Epoch > head.Epoch {
		return head, 0, corrupt("the head contradicts itself")
	}
	return head, sum, nil
}
