package walcheck

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Prepare verifies the log in dir and makes it fit for raft-wal:
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
func Prepare(dir string, logger *slog.Logger) (*Report, error) {
	report, err := scanDirectory(dir, checkpoint.Glance, nil)
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
	walDir := filepath.Join(dir, Directory)
	if report.TornBytes > 0 {
		logger.Warn("the last write of the log was unfinished and is cut off: it was never acknowledged",
			"segment", report.tail.name, "offset", report.tail.end, "bytes", report.TornBytes, "why", report.tail.bad)
	}
	if report.TornBytes > 0 || !report.clean {
		if err := rewrite(filepath.Join(walDir, report.tail.name), report.tail.end, report.tail.used); err != nil {
			return nil, vfs.FaultOf("write the log's tail again", err)
		}
		meta := filepath.Join(walDir, metadb.FileName)
		stat, err := os.Stat(meta)
		if err == nil {
			err = rewrite(meta, stat.Size(), stat.Size())
		}
		if err != nil {
			return nil, vfs.FaultOf("write the log's list again", err)
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

// rewrite writes the first keep bytes of a file again, zeros from there to end, and syncs it. The bytes stay the
// same, so a crash at any point leaves the file as good as it was; but pages that the kernel marked clean after a
// failed fsync, and would serve from memory until they are evicted, are dirty once more and reach the disk, or an
// error says that they did not.
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
			if _, err := file.ReadAt(piece[:min(int64(len(piece)), keep-offset)], offset); err != nil &&
				!errors.Is(err, io.EOF) {
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
	return vfs.OS{}.SyncDir(filepath.Dir(path))
}

// seal does what raft-wal leaves undone when the process dies between the write that fills a segment and the update
// of its list: at the next start it would take the full file for the open one and refuse every append to it
// (raft-wal v0.4.2 segment/writer.go, Append).
func seal(walDir string, report *Report) error {
	var db metadb.BoltMetaDB
	state, err := db.Load(walDir)
	if err != nil {
		return vfs.FaultOf("open the log's list", err)
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
		return vfs.FaultOf("write the log's list", err)
	}
	return vfs.FaultOf("close the log's list", db.Close())
}
