package walcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Directory holds the log files, inside a log server's directory.
const Directory = "wal"

// DumpEntry is one raft entry of ours.
type DumpEntry struct {
	Segment   string
	Offset    int64
	Index     uint64
	Term      uint64
	Acquire   bool   // it acquires Epoch for Holder
	Epoch     uint64 // the batch's, or the new one
	Holder    string
	FirstTxid uint64
	Records   [][]byte // valid until the callback returns
	Refused   error    // why the state machine refused it
}

// errMissing means that raft-wal never ran here.
var errMissing = errors.New("no log")

// scanDirectory reads and verifies a whole log directory without changing it. each, if not nil, gets our entries in
// order; look is how well checkpoints are read. A missing log is errMissing. Damage is reported, not returned.
func scanDirectory(dir string, look func(vfs.FS, string) (checkpoint.File, error),
	each func(DumpEntry) error) (*Report, error) {
	report := &Report{FirstTxid: 1}
	newest, err := readMark(dir)
	if err != nil {
		return nil, vfs.FaultOf("read mark", err)
	}
	report.MarkIndex, report.clean = newest.index, newest.clean
	walDir := filepath.Join(dir, Directory)
	files, err := segmentFiles(walDir)
	if err != nil {
		return nil, vfs.FaultOf("read log", err)
	}
	if report.Checkpoints, err = checkpoint.List(vfs.OS{}, dir, look); err != nil {
		return nil, err
	}
	report.meta, err = readMeta(walDir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(files) == 0 && newest.index == 0 && len(report.Checkpoints) == 0:
		return nil, errMissing
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(report.meta.Segments) == 0 &&
		(len(files) > 1 || newest.index > 0 || len(report.Checkpoints) > 0):
		return nil, &fault.Error{Kind: fault.CorruptData, Op: "read log",
			Reason: fmt.Sprintf("%s lists no log file; %d and %d checkpoints exist, entries up to %d were committed",
				metadb.FileName, len(files), len(report.Checkpoints), newest.index),
			Hint: "restore the directory from a copy; do not start a log server on it"}
	case err != nil:
		return nil, err
	}
	report.findBase()
	scan := scanner{report: report, each: each}
	if report.base != nil {
		scan.state = report.base.Head.State
		report.FirstTxid = scan.state.LastTxid + 1
		report.Epoch, report.Holder, report.LastTxid = scan.state.Epoch, scan.state.Holder, scan.state.LastTxid
	}
	for i, info := range report.meta.Segments {
		if err := scan.segment(walDir, info, i == len(report.meta.Segments)-1); err != nil {
			return nil, err
		}
	}
	if len(report.Damage) == 0 && max(report.LastIndex, checkpoint.Received(report.Checkpoints)) < newest.index {
		report.damaged(Damage{Segment: scan.lastName, Offset: scan.lastEnd, Index: report.LastIndex + 1,
			Txid:   report.LastTxid + 1,
			Reason: fmt.Sprintf("entries up to %d were committed, but the log ends here", newest.index)})
	}
	return report, nil
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
	report := s.report
	name := segment.FileName(info)
	damaged := func(offset int64, index uint64, reason string) {
		report.damaged(Damage{Segment: name, Offset: offset, Index: index, Txid: s.state.LastTxid + 1, Reason: reason})
	}
	if report.LastIndex > 0 && info.MinIndex != report.LastIndex+1 || report.LastIndex == 0 &&
		len(report.Segments) > 0 && len(report.Damage) == 0 {
		damaged(0, report.LastIndex+1, fmt.Sprintf("the file begins with entry %d", info.MinIndex))
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
		report.LastIndex = max(report.LastIndex, info.MaxIndex)
		return nil
	}
	if err != nil {
		return vfs.FaultOf("read log", err)
	}
	s.lastName, s.lastEnd = scan.name, scan.end
	report.Segments = append(report.Segments, SegmentReport{Name: scan.name, Bytes: scan.end,
		Sealed: !unsealed})
	switch {
	case !unsealed && scan.bad != "":
		damaged(scan.badOffset, scan.badIndex, scan.bad)
	case !unsealed && (!scan.sealed || scan.indexStart != info.IndexStart ||
		info.BaseIndex+scan.entries <= info.MaxIndex):
		damaged(scan.end, info.BaseIndex+scan.entries,
			fmt.Sprintf("the file should hold entries up to %d", info.MaxIndex))
	case unsealed && !last:
		damaged(0, info.MinIndex, "the file was never finished, but others follow")
	case unsealed:
		report.tail = &scan
		switch {
		case scan.bad == "":
		case scan.certain:
			damaged(scan.badOffset, scan.badIndex, scan.bad+"; it was written whole, or whole writes follow it")
		case report.MarkIndex >= scan.badIndex:
			damaged(scan.badOffset, scan.badIndex, fmt.Sprintf("%s; entries up to %d were committed", scan.bad,
				report.MarkIndex))
		default:
			report.TornBytes = scan.used - scan.end
		}
	}
	if !unsealed {
		report.LastIndex = max(report.LastIndex, info.MaxIndex)
	}
	return nil
}

// entry steps through one entry that raft-wal still counts.
func (s *scanner) entry(name string, info types.SegmentInfo, found frame) error {
	report := s.report
	if found.index < info.MinIndex || !info.SealTime.IsZero() && found.index > info.MaxIndex {
		return nil // cut off by raft: another leader overruled it
	}
	if report.FirstIndex == 0 {
		report.FirstIndex = found.index
	}
	report.LastIndex = found.index
	if found.log.Type != raft.LogCommand || report.base != nil && found.index <= report.base.Head.Index ||
		report.base == nil && report.CutIndex > 1 {
		return nil
	}
	decoded, err := entry.Decode(found.log.Data)
	if err != nil {
		return err // frame.check has decoded it before
	}
	refused := s.state.Step(&decoded)
	if refused == nil {
		report.Records += uint64(len(decoded.Records))
	}
	report.Epoch, report.Holder, report.LastTxid = s.state.Epoch, s.state.Holder, s.state.LastTxid
	if s.each == nil {
		return nil
	}
	d := DumpEntry{Segment: name, Offset: found.offset, Index: found.index, Term: found.log.Term,
		Acquire: decoded.Kind == entry.Acquire, Epoch: decoded.Epoch, Holder: decoded.Holder,
		FirstTxid: decoded.FirstTxid, Records: decoded.Records, Refused: refused}
	if d.Acquire {
		d.Epoch = s.state.Epoch
	}
	return s.each(d)
}
