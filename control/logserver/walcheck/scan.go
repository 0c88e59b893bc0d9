package walcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Names inside a log server's directory.
const (
	Directory         = "wal"
	snapshotDirectory = "snapshots" // raft's name
)

// DumpEntry is one raft entry of ours.
type DumpEntry struct {
	Segment   string
	Offset    int64
	Index     uint64
	Term      uint64
	Appended  time.Time
	Acquire   bool   // it acquires Epoch for Holder
	Epoch     uint64 // the batch's, or the new one
	Holder    string
	FirstTxid uint64
	Records   [][]byte // valid until the callback returns
	Refused   error    // why the state machine refused it
}

// errMissing says that raft-wal never ran here.
var errMissing = errors.New("no log")

// scanDirectory reads and verifies a whole log directory without changing it.
// each, if not nil, gets our entries in order; look is how well checkpoints are
// read. A missing log gives errMissing. Damage is reported, not returned.
func scanDirectory(dir string, look func(vfs.FS, string) (checkpoint.File, error), each func(DumpEntry) error) (*Report, error) {
	r := &Report{FirstTxid: 1}
	m, err := readMark(dir)
	if err != nil {
		return nil, vfs.FaultOf("read mark", err)
	}
	r.MarkIndex, r.clean = m.index, m.clean
	walDir := filepath.Join(dir, Directory)
	files, err := segmentFiles(walDir)
	if err != nil {
		return nil, vfs.FaultOf("read log", err)
	}
	if r.checkpoints, err = checkpoint.List(vfs.OS{}, dir, look); err != nil {
		return nil, err
	}
	r.meta, err = readMeta(walDir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(files) == 0 && m.index == 0 && len(r.checkpoints) == 0:
		return nil, errMissing
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(r.meta.Segments) == 0 && (len(files) > 1 || m.index > 0 || len(r.checkpoints) > 0):
		return nil, &fault.Error{Kind: fault.CorruptData, Op: "read log",
			Reason: fmt.Sprintf("%s lists no log file, but %d and %d checkpoints are there and entries up to %d were committed", metadb.FileName, len(files), len(r.checkpoints), m.index),
			Hint:   "restore the directory from a copy; do not start a log server on it"}
	case err != nil:
		return nil, err
	}
	r.findBase()
	s := scanner{report: r, each: each}
	if r.base != nil {
		s.state = r.base.Head.State
		r.FirstTxid = s.state.LastTxid + 1
		r.Epoch, r.Holder, r.LastTxid = s.state.Epoch, s.state.Holder, s.state.LastTxid
	}
	for i, info := range r.meta.Segments {
		if err := s.segment(walDir, info, i == len(r.meta.Segments)-1); err != nil {
			return nil, err
		}
	}
	if len(r.Damage) == 0 && max(r.LastIndex, r.Begins()) < m.index {
		r.damaged(Damage{Segment: s.lastName, Offset: s.lastEnd, Index: r.LastIndex + 1, Txid: r.LastTxid + 1,
			Reason: fmt.Sprintf("entries up to %d were committed, but the log ends here", m.index)})
	}
	return r, nil
}

// scanner carries the state from one segment to the next.
type scanner struct {
	report   *Report
	each     func(DumpEntry) error
	state    entry.State
	buf      []byte
	lastName string
	lastEnd  int64
}

// segment verifies one log file and judges what scanSegment found.
func (s *scanner) segment(dir string, info types.SegmentInfo, last bool) error {
	r := s.report
	name := segment.FileName(info)
	damaged := func(offset int64, index uint64, reason string) {
		r.damaged(Damage{Segment: name, Offset: offset, Index: index, Txid: s.state.LastTxid + 1, Reason: reason})
	}
	if r.LastIndex > 0 && info.MinIndex != r.LastIndex+1 || r.LastIndex == 0 && len(r.Segments) > 0 && len(r.Damage) == 0 {
		damaged(0, r.LastIndex+1, fmt.Sprintf("the file begins with entry %d", info.MinIndex))
	}
	scan, buf, err := scanSegment(dir, info, s.buf, func(f frame) error { return s.entry(name, info, f) })
	s.buf = buf
	unsealed := info.SealTime.IsZero()
	if errors.Is(err, fs.ErrNotExist) {
		// raft-wal lists the next file before it makes it.
		if unsealed && last {
			return nil
		}
		damaged(0, info.MinIndex, "the file is missing")
		r.LastIndex = max(r.LastIndex, info.MaxIndex)
		return nil
	}
	if err != nil {
		return vfs.FaultOf("read log", err)
	}
	s.lastName, s.lastEnd = scan.name, scan.end
	r.Segments = append(r.Segments, SegmentReport{Name: scan.name, FirstIndex: info.BaseIndex, Entries: scan.entries, Bytes: scan.end, Sealed: !unsealed})
	switch {
	case !unsealed && scan.bad != "":
		damaged(scan.badOffset, scan.badIndex, scan.bad)
	case !unsealed && (!scan.sealed || scan.indexStart != info.IndexStart || info.BaseIndex+scan.entries <= info.MaxIndex):
		damaged(scan.end, info.BaseIndex+scan.entries, fmt.Sprintf("the file should hold entries up to %d", info.MaxIndex))
	case unsealed && !last:
		damaged(0, info.MinIndex, "the file was never finished, but others follow")
	case unsealed:
		r.tail = &scan
		switch {
		case scan.bad == "":
		case scan.certain:
			damaged(scan.badOffset, scan.badIndex, scan.bad+"; it was written whole, or whole writes follow it")
		case r.MarkIndex >= scan.badIndex:
			damaged(scan.badOffset, scan.badIndex, fmt.Sprintf("%s; entries up to %d were committed", scan.bad, r.MarkIndex))
		default:
			r.TornBytes = scan.used - scan.end
		}
	}
	if !unsealed {
		r.LastIndex = max(r.LastIndex, info.MaxIndex)
	}
	return nil
}

// entry steps through one entry that raft-wal still counts.
func (s *scanner) entry(name string, info types.SegmentInfo, f frame) error {
	r := s.report
	if f.index < info.MinIndex || !info.SealTime.IsZero() && f.index > info.MaxIndex {
		return nil // cut off by raft: another leader overruled it
	}
	if r.FirstIndex == 0 {
		r.FirstIndex = f.index
	}
	r.LastIndex = f.index
	if f.log.Type != raft.LogCommand || r.base != nil && f.index <= r.base.Head.Index || r.base == nil && r.cutIndex > 1 {
		return nil
	}
	e, err := entry.Decode(f.log.Data)
	if err != nil {
		return err // frame.check has decoded it before
	}
	refused := s.state.Step(&e)
	switch {
	case refused != nil:
		r.Refused++
	case e.Kind == entry.Batch:
		r.Batches++
		r.Records += uint64(len(e.Records))
	}
	r.Epoch, r.Holder, r.LastTxid = s.state.Epoch, s.state.Holder, s.state.LastTxid
	if s.each == nil {
		return nil
	}
	d := DumpEntry{Segment: name, Offset: f.offset, Index: f.index, Term: f.log.Term, Appended: f.log.AppendedAt,
		Acquire: e.Kind == entry.Acquire, Epoch: e.Epoch, Holder: e.Holder, FirstTxid: e.FirstTxid, Records: e.Records, Refused: refused}
	if d.Acquire {
		d.Epoch = s.state.Epoch
	}
	return s.each(d)
}
