package walcheck

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft-wal/types"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/internal/fault"
)

// Report is what a check of a log directory found.
type Report struct {
	Segments   []SegmentReport
	FirstIndex uint64 // of the first raft entry; 0 if there is none
	LastIndex  uint64 // of the last one
	Epoch      uint64
	Holder     string
	LastTxid   uint64 // with peers, the last entries may not be committed
	Batches    uint64 // accepted ones
	Records    uint64 // in them
	Refused    uint64 // batches that were fenced or did not fit
	TornBytes  int64  // of an unfinished last write, which a start cuts off
	MarkIndex  uint64 // every entry up to here was known to be committed
	Damage     []Damage
	// FirstTxid is the first one whose record is in the log; the records before
	// it were cut off behind a checkpoint.
	FirstTxid   uint64
	Checkpoints []CheckpointReport // the oldest first

	// cutIndex is the entry with which raft-wal begins; base is the checkpoint
	// with the state before the entries that can be judged, nil: the empty state.
	cutIndex    uint64
	base        *checkpoint.File
	checkpoints []checkpoint.File

	clean bool // the mark says that the server ended in order
	meta  types.PersistentState
	tail  *segmentScan // of the last, unsealed segment
}

// CheckpointReport describes one checkpoint.
type CheckpointReport struct {
	Name    string
	Txid    uint64
	Epoch   uint64
	Created time.Time
	Bytes   int64 // of the file
	Usable  bool  // the log goes on behind it
	Damage  error // it cannot be read
}

// SegmentReport describes one log file.
type SegmentReport struct {
	Name       string
	FirstIndex uint64
	Entries    uint64
	Bytes      int64
	Sealed     bool
}

// Damage is a place in the log that cannot be read. Everything in front of it
// is good.
type Damage struct {
	Segment string
	Offset  int64
	Index   uint64 // raft index of the first entry that is lost
	Txid    uint64 // first txid that is lost
	Reason  string
}

// Error implements error.
func (d Damage) Error() string {
	return fmt.Sprintf("%s, offset %d: raft entry %d, txid %d: %s", d.Segment, d.Offset, d.Index, d.Txid, d.Reason)
}

// refuse is the error for a log that must not be started; nil if it is good.
func (r *Report) refuse() error {
	const op = "open log"
	if len(r.Damage) > 0 {
		errs := make([]error, len(r.Damage))
		for i, d := range r.Damage {
			errs[i] = d
		}
		return &fault.Error{Kind: fault.CorruptData, Op: op, Err: errors.Join(errs...),
			Reason: fmt.Sprintf("the log is damaged in %d place(s); everything up to txid %d can be read", len(errs),
				r.Damage[0].Txid-1),
			Hint: "look with `ww log verify` and `ww log dump`; restore the directory from a copy or from a peer"}
	}
	if r.base == nil && r.FirstIndex > 1 {
		var errs []error
		for _, f := range r.checkpoints {
			errs = append(errs, checkpoint.InFile(f.Name, f.Damage))
		}
		return &fault.Error{Kind: fault.CorruptData, Op: op, Err: errors.Join(errs...),
			Reason: fmt.Sprintf("the log begins with raft entry %d, and none of %d checkpoints with what was before it can be read",
				r.FirstIndex, len(r.checkpoints)),
			Hint: "restore the directory, with its checkpoints, from a copy or from a peer"}
	}
	return nil
}

// Begins is the raft index that a peer's checkpoint covers for this log: its
// entries up to there may be missing. 0: they may not.
func (r *Report) Begins() uint64 {
	most := uint64(0)
	for _, f := range r.checkpoints {
		if f.Received && f.Damage == nil {
			most = max(most, f.Head.Index)
		}
	}
	return most
}

// findBase chooses the checkpoint that leaves the most of the log to judge, if
// the log was cut, and describes all of them.
func (r *Report) findBase() {
	if len(r.meta.Segments) > 0 {
		r.cutIndex = r.meta.Segments[0].MinIndex
	}
	usable := checkpoint.Usable(r.checkpoints, r.cutIndex)
	for _, f := range r.checkpoints {
		r.Checkpoints = append(r.Checkpoints, CheckpointReport{Name: f.Name, Txid: f.Head.Txid, Epoch: f.Head.Epoch,
			Created: time.UnixMilli(f.Head.Created),
			Bytes:   f.FileBytes, Usable: f.Damage == nil && f.Head.Index+1 >= r.cutIndex, Damage: f.Damage})
	}
	if len(usable) > 0 && (r.cutIndex > 1 || r.Begins() > 0) {
		r.base = &usable[len(usable)-1]
	}
}

func (r *Report) damaged(d Damage) { r.Damage = append(r.Damage, d) }
