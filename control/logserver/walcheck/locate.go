package walcheck

import (
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// Locate finds the file and offset of an entry as well as a damaged log
// allows; offset is -1 if the way to the entry is damaged.
func Locate(dir string, index uint64) (name string, offset int64) {
	files, err := segmentFiles(dir)
	if err != nil {
		return "", -1
	}
	var info types.SegmentInfo
	for _, file := range files {
		var base, id uint64
		if _, err := fmt.Sscanf(file, "%020d-%016x.wal", &base, &id); err != nil || base > index || base < info.BaseIndex {
			continue
		}
		info = types.SegmentInfo{BaseIndex: base, ID: id}
	}
	name = segment.FileName(info)
	buf, err := readFile(filepath.Join(dir, name), nil)
	if err != nil {
		return name, -1
	}
	at := info.BaseIndex
	for position := int64(segmentHeaderBytes); position+frameHeaderBytes <= int64(len(buf)); {
		kind, value, ok := readFrameHeader(buf[position:])
		if !ok || kind == frameZero {
			return name, position
		}
		if kind == frameEntry {
			if at == index {
				return name, position
			}
			at++
		}
		position += frameHeaderBytes
		if kind != frameCommit {
			position += int64(value) + padding(int64(value))
		}
	}
	return name, -1
}
