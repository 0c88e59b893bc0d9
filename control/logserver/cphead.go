package logserver

import (
	"encoding/binary"
	"io"

	"github.com/hashicorp/raft"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
)

// Layout of a checkpoint's file; docs/format/log.md has the picture. The head
// is also what raft needs of a snapshot: a checkpoint and the entries behind
// its index are a whole log.
const (
	checkpointMagic      = 0x434c5757 // "WWLC"
	checkpointVersion    = 1
	checkpointFixedBytes = 80
	pieceHeaderBytes     = 16
	checkpointEndBytes   = 32
)

// checkpointHead begins a checkpoint's file.
type checkpointHead struct {
	txid    uint64 // the content is what the records up to this one make
	epoch   uint64 // of the namenode that made it
	created int64  // Unix ms
	// index and term of a raft entry; state is the state machine's after it.
	// state.lastTxid <= txid, so the entries behind index hold every record
	// behind txid.
	index, term uint64
	state       state
	// members is raft's encoded group when the checkpoint was made; entries behind
	// index that changed it do so again.
	members []byte
}

// point is the place in the log that the head names.
func (h *checkpointHead) point() point {
	return point{index: h.index, epoch: h.state.epoch, lastTxid: h.state.lastTxid}
}

// configuration is raft's group as the head has it. Errors: fault.CorruptData;
// the library's decoder panics on what it cannot read.
func (h *checkpointHead) configuration() (c raft.Configuration, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = badCheckpoint("the group's members cannot be decoded: %v", cause)
		}
	}()
	return raft.DecodeConfiguration(h.members), nil
}

// encode gives the head's bytes; the last eight are its sum.
func (h *checkpointHead) encode() []byte {
	size := checkpointFixedBytes + len(h.state.holder) + len(h.members) + 8
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, checkpointMagic)
	b = append(b, checkpointVersion, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.members)))
	for _, v := range []uint64{h.txid, h.epoch, uint64(h.created), h.index, h.term, h.state.epoch, h.state.lastTxid, uint64(len(h.state.holder))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, h.state.holder...)
	b = append(b, h.members...)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// beginsCheckpoint tells whether the first 4 bytes of something are those of a
// checkpoint's file.
func beginsCheckpoint(b []byte) bool { return binary.LittleEndian.Uint32(b) == checkpointMagic }

// readCheckpointHead reads and verifies a head, and gives its sum too. Errors:
// fault.CorruptData, fault.Version, and the reader's.
func readCheckpointHead(r io.Reader) (h checkpointHead, sum uint64, err error) {
	fixed := make([]byte, checkpointFixedBytes, checkpointHeadBytesMax)
	if _, err := io.ReadFull(r, fixed); err != nil {
		return h, 0, endsEarly(err, "inside its head")
	}
	if !beginsCheckpoint(fixed) {
		return h, 0, badCheckpoint("bad magic")
	}
	size, members := binary.LittleEndian.Uint32(fixed[8:]), uint64(binary.LittleEndian.Uint32(fixed[12:]))
	holder := binary.LittleEndian.Uint64(fixed[72:])
	if size < checkpointFixedBytes+8 || size > checkpointHeadBytesMax {
		return h, 0, badCheckpoint("a head of %d bytes", size)
	}
	b := fixed[:size]
	if _, err := io.ReadFull(r, b[checkpointFixedBytes:]); err != nil {
		return h, 0, endsEarly(err, "inside its head")
	}
	body := b[:size-8]
	sum = binary.LittleEndian.Uint64(b[size-8:])
	if xxh3.Hash(body) != sum {
		return h, 0, badCheckpoint("checksum mismatch in the head")
	}
	if b[4] != checkpointVersion {
		return h, 0, fault.New(fault.Version, "read checkpoint", "version %d; this build knows version %d", b[4], checkpointVersion)
	}
	if b[5] != 0 || b[6] != 0 || b[7] != 0 || holder > holderBytesMax || uint64(size) != checkpointFixedBytes+holder+members+8 {
		return h, 0, badCheckpoint("lengths in the head do not fit")
	}
	number := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	h = checkpointHead{
		txid: number(16), epoch: number(24), created: int64(number(32)), index: number(40), term: number(48),
		state:   state{epoch: number(56), lastTxid: number(64), holder: string(body[checkpointFixedBytes : checkpointFixedBytes+holder])},
		members: append([]byte(nil), body[checkpointFixedBytes+holder:]...),
	}
	if h.txid == 0 || h.epoch == 0 || h.index == 0 || h.term == 0 || h.state.lastTxid > h.txid || h.state.epoch > h.epoch {
		return h, 0, badCheckpoint("the head contradicts itself")
	}
	return h, sum, nil
}
