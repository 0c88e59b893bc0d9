package walcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Scrub verifies every write in the log files of a server that runs. In the last file only what is committed counts:
// behind it somebody may be writing. wait is called before a file is read, with its bytes; it may end the scrub by an
// error. Scrub changes nothing, and takes the memory of one file. It returns the bytes that it has verified. Errors:
// fault.CorruptData for the first damage, fault.Disk, or that of wait.
func Scrub(directory string, committed func() uint64, wait func(bytes int64) error) (verified int64, err error) {
	dir := filepath.Join(directory, Directory)
	names, err := segmentFiles(dir)
	if err != nil {
		return 0, vfs.FaultOf("scrub log", err)
	}
	var buf []byte
	for i, name := range names {
		var info types.SegmentInfo
		if _, err := fmt.Sscanf(name, "%020d-%016x.wal", &info.BaseIndex, &info.ID); err != nil {
			continue // it is not raft-wal's
		}
		info.Codec = wal.CodecBinaryV1
		stat, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the log was cut meanwhile
		}
		if err != nil {
			return verified, vfs.FaultOf("scrub log", err)
		}
		if err := wait(stat.Size()); err != nil {
			return verified, err
		}
		limit := committed()
		var scan segmentScan
		scan, buf, err = scanSegment(dir, info, buf, func(frame) error { return nil })
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return verified, vfs.FaultOf("scrub log", err)
		}
		if last := i == len(names)-1; scan.bad != "" && (!last || scan.badIndex <= limit) {
			return verified, damageFound(dir, scan)
		}
		verified += scan.end
	}
	return verified, nil
}

// damageFound is the error for a file with a bad write.
func damageFound(dir string, scan segmentScan) error {
	return &fault.Error{Kind: fault.CorruptData, Op: "scrub log", Path: filepath.Join(dir, scan.name),
		Reason: fmt.Sprintf("raft entry %d at offset %d is damaged: %s", scan.badIndex, scan.badOffset, scan.bad),
		Hint: "stop the log server and look with `ww log verify`; " +
			"restore the directory from a copy or from a peer"}
}
