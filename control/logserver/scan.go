package logserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Names inside a log server's directory.
const (
	walDirectory      = "wal"
	snapshotDirectory = "snapshots" // raft's name
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
	// that tells the state before what can be judged, nil: the empty state.
	cutIndex    uint64
	base        *checkpointFile
	checkpoints []checkpointFile

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
func scanDirectory(dir string, look func(vfs.FS, string) (checkpointFile, error), each func(DumpEntry) error) (*Report, error) {
	r := &Report{FirstTxid: 1}
	m, err := readMark(dir)
	if err != nil {
		return nil, diskFault("read mark", err)
	}
	r.MarkIndex, r.clean = m.index, m.clean
	walDir := filepath.Join(dir, walDirectory)
	files, err := segmentFiles(walDir)
	if err != nil {
		return nil, diskFault("read log", err)
	}
	if r.checkpoints, err = listCheckpoints(vfs.OS{}, dir, look); err != nil {
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
		s.state = r.base.head.state
		r.FirstTxid = s.state.lastTxid + 1
		r.Epoch, r.Holder, r.LastTxid = s.state.epoch, s.state.holder, s.state.lastTxid
	}
	for i, info := range r.meta.Segments {
		if err := s.segment(walDir, info, i == len(r.meta.Segments)-1); err != nil {
			return nil, err
		}
	}
	if len(r.Damage) == 0 && max(r.LastIndex, r.begins()) < m.index {
		r.damaged(Damage{Segment: s.lastName, Offset: s.lastEnd, Index: r.LastIndex + 1, Txid: r.LastTxid + 1,
			Reason: fmt.Sprintf("entries up to %d were committed, but the log ends here", m.index)})
	}
	return r, nil
}

// findBase chooses the checkpoint that leaves the most of the log to judge, if
// the log was cut, and describes all of them.
func (r *Report) findBase() {
	if len(r.meta.Segments) > 0 {
		r.cutIndex = r.meta.Segments[0].MinIndex
	}
	usable := usableOf(r.checkpoints, r.cutIndex)
	for _, f := range r.checkpoints {
		r.Checkpoints = append(r.Checkpoints, CheckpointReport{Name: f.name, Txid: f.head.txid, Epoch: f.head.epoch, Created: time.UnixMilli(f.head.created),
			Bytes: f.fileBytes, Usable: f.damage == nil && f.head.index+1 >= r.cutIndex, Damage: f.damage})
	}
	if len(usable) > 0 && (r.cutIndex > 1 || r.begins() > 0) {
		r.base = &usable[len(usable)-1]
	}
}

func (r *Report) damaged(d Damage) { r.Damage = append(r.Damage, d) }

// scanner carries the state from one segment to the next.
type scanner struct {
	report   *Report
	each     func(DumpEntry) error
	state    state
	buf      []byte
	lastName string
	lastEnd  int64
}

// segment verifies one log file and judges what scanSegment found.
func (s *scanner) segment(dir string, info types.SegmentInfo, last bool) error {
	r := s.report
	name := segment.FileName(info)
	damaged := func(offset int64, index uint64, reason string) {
		r.damaged(Damage{Segment: name, Offset: offset, Index: index, Txid: s.state.lastTxid + 1, Reason: reason})
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
		return diskFault("read log", err)
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
	if f.log.Type != raft.LogCommand || r.base != nil && f.index <= r.base.head.index || r.base == nil && r.cutIndex > 1 {
		return nil
	}
	e, err := decodeEntry(f.log.Data)
	if err != nil {
		return err // frame.check has decoded it before
	}
	refused := s.state.step(&e)
	switch {
	case refused != nil:
		r.Refused++
	case e.kind == entryBatch:
		r.Batches++
		r.Records += uint64(len(e.records))
	}
	r.Epoch, r.Holder, r.LastTxid = s.state.epoch, s.state.holder, s.state.lastTxid
	if s.each == nil {
		return nil
	}
	d := DumpEntry{Segment: name, Offset: f.offset, Index: f.index, Term: f.log.Term, Appended: f.log.AppendedAt,
		Acquire: e.kind == entryAcquire, Epoch: e.epoch, Holder: e.holder, FirstTxid: e.firstTxid, Records: e.records, Refused: refused}
	if d.Acquire {
		d.Epoch = s.state.epoch
	}
	return s.each(d)
}

// segmentFiles names the log files in dir; none if there is no dir.
func segmentFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, item := range list {
		if strings.HasSuffix(item.Name(), ".wal") {
			names = append(names, item.Name())
		}
	}
	return names, err
}

// readMeta reads raft-wal's list of segments without changing it. The
// database panics on some damage; that becomes an error.
func readMeta(dir string) (state types.PersistentState, err error) {
	path := filepath.Join(dir, metadb.FileName)
	if _, err := os.Stat(path); err != nil {
		return state, err
	}
	damaged := func(cause any) error {
		return &fault.Error{Kind: fault.CorruptData, Op: "read log", Reason: fmt.Sprintf("%s is damaged: %v", path, cause),
			Hint: "restore the directory from a copy or from a peer"}
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = damaged(cause)
		}
	}()
	db, err := bbolt.Open(path, 0o644, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, bbolt.ErrTimeout) {
		return state, &fault.Error{Kind: fault.Busy, Op: "read log", Reason: path + " is in use", Hint: "stop the log server first"}
	}
	if err != nil {
		return state, damaged(err)
	}
	defer func() { _ = db.Close() }() // opened for reading
	err = db.View(func(tx *bbolt.Tx) error {
		bucket, stable := tx.Bucket([]byte(metadb.MetaBucket)), tx.Bucket([]byte(metadb.StableBucket))
		if bucket == nil || stable == nil {
			return errors.New("a bucket is missing")
		}
		// Touch every page that raft-wal and raft will.
		if err := stable.ForEach(func(_, _ []byte) error { return nil }); err != nil {
			return err
		}
		if raw := bucket.Get([]byte(metadb.MetaKey)); raw != nil {
			return json.Unmarshal(raw, &state)
		}
		return nil
	})
	if err != nil {
		return state, damaged(err)
	}
	return state, nil
}
