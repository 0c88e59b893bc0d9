package logserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/whispering-woods/ww/internal/fault"
)

// prepare verifies the log in dir and makes it fit for raft-wal:
//
//   - damage, a missing beginning, or the loss of committed entries is refused;
//   - an unfinished last write is overwritten with zeros, so that nothing of it
//     can be taken for a later one;
//   - what may only be in the page cache since an fsync failed is written again
//     and synced, unless the mark says that the server ended in order;
//   - a last file that is full but not listed as such is listed (see seal).
//
// The result is what raft-wal must find; nil for a directory without a log.
// Errors: fault.CorruptData with every damaged place, fault.Disk.
func prepare(dir string, logger *slog.Logger) (*Report, error) {
	report, err := scanDirectory(dir, glanceAtCheckpoint, nil)
	if errors.Is(err, errMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := report.refuse(); err != nil {
		return nil, err
	}
	if report.tail == nil {
		return report, nil
	}
	walDir := filepath.Join(dir, walDirectory)
	if report.TornBytes > 0 {
		logger.Warn("the last write of the log was unfinished and is cut off: it was never acknowledged",
			"segment", report.tail.name, "offset", report.tail.end, "bytes", report.TornBytes, "why", report.tail.bad)
	}
	if report.TornBytes > 0 || !report.clean {
		if err := rewrite(filepath.Join(walDir, report.tail.name), report.tail.end, report.tail.used); err != nil {
			return nil, diskFault("write the log's tail again", err)
		}
		meta := filepath.Join(walDir, metadb.FileName)
		stat, err := os.Stat(meta)
		if err == nil {
			err = rewrite(meta, stat.Size(), stat.Size())
		}
		if err != nil {
			return nil, diskFault("write the log's list again", err)
		}
	}
	if report.tail.sealed {
		if err := seal(walDir, report); err != nil {
			return nil, err
		}
		logger.Info("the last log file was full and is now listed as such", "segment", report.tail.name)
	}
	return report, nil
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
			Reason: fmt.Sprintf("the log is damaged in %d place(s); everything up to txid %d can be read", len(errs), r.Damage[0].Txid-1),
			Hint:   "look with `ww log verify` and `ww log dump`; restore the directory from a copy or from a peer"}
	}
	if r.base == nil && r.FirstIndex > 1 {
		var errs []error
		for _, f := range r.checkpoints {
			errs = append(errs, inFile(f.name, f.damage))
		}
		return &fault.Error{Kind: fault.CorruptData, Op: op, Err: errors.Join(errs...),
			Reason: fmt.Sprintf("the log begins with raft entry %d, and none of %d checkpoints can be read that hold what was in front of it", r.FirstIndex, len(r.checkpoints)),
			Hint:   "restore the directory from a copy or from a peer; do not start a log server without its checkpoints"}
	}
	return nil
}

// begins is the raft index that a peer's checkpoint covers for this log: its
// entries up to there may be missing. 0: they may not.
func (r *Report) begins() uint64 {
	most := uint64(0)
	for _, f := range r.checkpoints {
		if f.received && f.damage == nil {
			most = max(most, f.head.index)
		}
	}
	return most
}

// rewrite writes the first keep bytes of a file again, zeros from there to
// end, and syncs it. The bytes stay the same, so a crash at any point leaves
// the file as good as it was; but pages that the kernel gave up after a failed
// fsync, and would serve from memory until they are evicted, are dirty again
// and reach the disk, or an error says that they did not.
func rewrite(path string, keep, end int64) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	buf := make([]byte, 1<<20)
	for offset := int64(0); offset < end; {
		piece := buf[:min(int64(len(buf)), end-offset)]
		clear(piece)
		if offset < keep {
			if _, err := file.ReadAt(piece[:min(int64(len(piece)), keep-offset)], offset); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		if _, err := file.WriteAt(piece, offset); err != nil {
			return err
		}
		offset += int64(len(piece))
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// seal does what raft-wal leaves undone when the process dies between the
// write that fills a segment and the update of its list: at the next start it
// would take the full file for the open one and refuse every append to it
// (raft-wal v0.4.2 segment/writer.go, Append).
func seal(walDir string, report *Report) error {
	var db metadb.BoltMetaDB
	state, err := db.Load(walDir)
	if err != nil {
		return diskFault("open the log's list", err)
	}
	tail := &state.Segments[len(state.Segments)-1]
	tail.SealTime = time.Now()
	tail.IndexStart = report.tail.indexStart
	tail.MaxIndex = report.LastIndex
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID:         state.NextSegmentID,
		BaseIndex:  tail.MaxIndex + 1,
		MinIndex:   tail.MaxIndex + 1,
		SizeLimit:  tail.SizeLimit,
		Codec:      tail.Codec,
		CreateTime: time.Now(),
	})
	state.NextSegmentID++
	if err := db.CommitState(state); err != nil {
		_ = db.Close()
		return diskFault("write the log's list", err)
	}
	return diskFault("close the log's list", db.Close())
}

// syncDirectory makes the names in dir durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// identityName is the file that says whose directory this is.
const identityName = "node.json"

// identity is its content.
type identity struct {
	Format int    `json:"format"`
	NodeID string `json:"node_id"`
}

// claim checks that dir belongs to nodeID, or makes it so, durably, if it
// belongs to nobody yet. An empty nodeID takes what is there, or "log1".
// Errors: fault.Invalid for another server's directory.
func claim(dir, nodeID string) (string, error) {
	const op = "open log directory"
	path := filepath.Join(dir, identityName)
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		var id identity
		if err := json.Unmarshal(raw, &id); err != nil || id.NodeID == "" {
			return "", &fault.Error{Kind: fault.CorruptData, Op: op, Path: path, Reason: "the file is damaged", Err: err}
		}
		if id.Format != 1 {
			return "", &fault.Error{Kind: fault.Version, Op: op, Path: path, Reason: fmt.Sprintf("format %d; this build knows format 1", id.Format)}
		}
		if nodeID != "" && nodeID != id.NodeID {
			return "", &fault.Error{Kind: fault.Invalid, Op: op, Path: dir, Reason: fmt.Sprintf("the directory belongs to log server %q, not to %q", id.NodeID, nodeID)}
		}
		return id.NodeID, nil
	case !errors.Is(err, os.ErrNotExist):
		return "", diskFault(op, err)
	}
	if _, err := os.Stat(filepath.Join(dir, walDirectory)); err == nil {
		return "", &fault.Error{Kind: fault.CorruptData, Op: op, Path: path, Reason: "the file is missing, but the directory holds a log"}
	}
	if nodeID == "" {
		nodeID = nodeIDDefault
	}
	raw, err = json.Marshal(identity{Format: 1, NodeID: nodeID})
	if err != nil {
		return "", &fault.Error{Kind: fault.Internal, Op: op, Err: err}
	}
	if err := writeDurably(path, append(raw, '\n')); err != nil {
		return "", diskFault(op, err)
	}
	return nodeID, nil
}

// writeDurably makes a small file in one step: it is there whole or not at all.
func writeDurably(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails after the rename, as it should
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	return err
}
