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
// behind it somebody may be writing. wait is called before each read, with its bytes; it may end the scrub by an error.
// Scrub changes nothing, reads from the disk and not from the page cache, and takes the memory of one file. It returns
// the bytes that it has verified. Errors: fault.CorruptData for the first damage, fault.Disk, or that of wait.
func Scrub(directory string, committed func() uint64, wait func(bytes int64) error) (verified int64, err error) {
	dir := filepath.Join(directory, Directory)
	names, err := segmentFiles(dir)
	if err != nil {
		return 0, vfs.FaultOf("scrub log", err)
	}
	var buf []byte
	for i, name := range names {
		info := types.SegmentInfo{Codec: wal.CodecBinaryV1}
		if _, err := fmt.Sscanf(name, "%020d-%016x.wal", &info.BaseIndex, &info.ID); err != nil {
			continue // it is not raft-wal's
		}
		limit := committed()
		buf, err = readSlowly(filepath.Join(dir, name), buf, wait)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the log was cut meanwhile
		}
		if err != nil {
			return verified, err
		}
		scan, err := scanBytes(info, buf, func(frame) error { return nil })
		if err != nil {
			return verified, err
		}
		if last := i == len(names)-1; scan.bad != "" && (!last || scan.badIndex <= limit) {
			return verified, damageFound(dir, scan)
		}
		verified += scan.end
	}
	return verified, nil
}

// readSlowly reads a whole log file from the disk into buf, which it may grow.
func readSlowly(path string, buf []byte, wait func(bytes int64) error) ([]byte, error) {
	file, err := vfs.OS{}.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return buf, vfs.FaultOf("scrub log", err)
	}
	defer file.Close() // opened for reading
	stat, err := file.Stat()
	if err == nil {
		err = file.Uncache(0, 0)
	}
	if err != nil {
		return buf, vfs.FaultOf("scrub log", err)
	}
	if int64(cap(buf)) < stat.Size() {
		buf = make([]byte, stat.Size())
	}
	buf = buf[:stat.Size()]
	for at := 0; at < len(buf); {
		piece := buf[at:min(at+scrubPieceBytes, len(buf))]
		if err := wait(int64(len(piece))); err != nil {
			return buf, err
		}
		if err := vfs.ReadFull(file, piece, int64(at)); err != nil {
			return buf, vfs.FaultOf("scrub log", err)
		}
		at += len(piece)
	}
	return buf, nil
}

// damageFound is the error for a file with a bad write.
func damageFound(dir string, scan segmentScan) error {
	return &fault.Error{Kind: fault.CorruptData, Op: "scrub log", Path: filepath.Join(dir, scan.name),
		Reason: fmt.Sprintf("raft entry %d at offset %d is damaged: %s", scan.badIndex, scan.badOffset, scan.bad),
		Hint: "stop the log server and look with `ww log verify`; " +
			"restore the directory from a copy or from a peer"}
}
