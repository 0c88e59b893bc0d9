package walcheck

import (
	"errors"
	"fmt"

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
	Records    uint64 // in the batches that were accepted
	TornBytes  int64  // of an unfinished last write, which a start cuts off
	MarkIndex  uint64 // every entry up to here was known to be committed
	Damage     []Damage
	// FirstTxid is the first one whose record is in the log; the records before it were cut off behind a checkpoint.
	FirstTxid   uint64
	Checkpoints []checkpoint.File // the oldest first

	// CutIndex is the entry with which raft-wal begins; the usable checkpoints are
	// those that a log from there on continues.
	CutIndex uint64

	base  *checkpoint.File // has the state before the entries that can be judged; nil: the empty state
	clean bool             // the mark says that the server ended in order
	meta  types.PersistentState
	tail  *segmentScan // of the last, unsealed segment
}

// SegmentReport describes one log file.
type SegmentReport struct {
	Name   string
	Bytes  int64
	Sealed bool
}

// Damage is a place in the log that cannot be read. Everything in front of it is good.
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
		for _, f := range r.Checkpoints {
			errs = append(errs, checkpoint.InFile(f.Name, f.Damage))
		}
		return &fault.Error{Kind: fault.CorruptData, Op: op, Err: errors.Join(errs...),
			Reason: fmt.Sprintf("the log begins at raft entry %d, and no checkpoint of %d before it can be read",
				r.FirstIndex, len(r.Checkpoints)),
			Hint: "restore the directory, with its checkpoints, from a copy or from a peer"}
	}
	return nil
}

// findBase chooses the checkpoint that leaves the most of the log to judge, if the log was cut.
func (r *Report) findBase() {
	if len(r.meta.Segments) > 0 {
		r.CutIndex = r.meta.Segments[0].MinIndex
	}
	if r.CutIndex <= 1 && checkpoint.Received(r.Checkpoints) == 0 {
		return
	}
	for i := range r.Checkpoints {
		if r.Checkpoints[i].Usable(r.CutIndex) {
			r.base = &r.Checkpoints[i]
			return
		}
	}
}

func (r *Report) damaged(d Damage) { r.Damage = append(r.Damage, d) }
