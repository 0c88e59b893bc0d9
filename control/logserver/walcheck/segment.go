package walcheck

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/whispering-woods/ww/control/logserver/entry"
)

// Layout of raft-wal's segment files, version 0 (raft-wal segment/format.go). We read them ourselves because
// raft-wal checks only the last write of the last segment, and takes everything behind the first frame it cannot
// read for an unfinished write: damage in the middle would silently cut the log. Another version of raft-wal may
// break this: format_test.go compares every byte of a log that the library writes, and pins the version.
const (
	segmentMagic       = 0x58eb6b0d
	segmentHeaderBytes = 32
	frameHeaderBytes   = 8

	frameZero   = 0
	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// frame is one raft entry in a segment file.
type frame struct {
	index  uint64 // raft index
	offset int64  // of the frame's header in the file
	log    raft.Log
}

// segmentScan is what scanSegment found.
type segmentScan struct {
	name       string
	entries    uint64 // in complete, verified writes
	end        int64  // behind the last verified write
	used       int64  // behind the last byte that is not zero
	sealed     bool   // an index frame was found, in a verified write
	indexStart uint64 // raft-wal's IndexStart of a sealed segment
	bad        string // why the bytes at badOffset are no write; "" if nothing is wrong
	badOffset  int64
	badIndex   uint64 // raft index that should be there
	certain    bool   // no unfinished last write: it was whole, or others follow it
}

// scanSegment reads the segment file of info into buf, which it reuses and returns, and verifies it.
func scanSegment(dir string, info types.SegmentInfo, buf []byte, each func(frame) error) (segmentScan, []byte, error) {
	buf, err := readFile(filepath.Join(dir, segment.FileName(info)), buf)
	if err != nil {
		return segmentScan{}, buf, err
	}
	scan, err := scanBytes(info, buf, each)
	return scan, buf, err
}

// scanBytes verifies every write in a segment's bytes: the frames' structure, raft-wal's CRC of the write and the
// entries. each gets the entries of whole writes in order. It judges nothing: see scanDirectory.
func scanBytes(info types.SegmentInfo, buf []byte, each func(frame) error) (segmentScan, error) {
	scan := segmentScan{name: segment.FileName(info)}
	scan.used = int64(len(bytes.TrimRight(buf, "\x00")))
	start := int64(0)                     // of the current write
	position := int64(segmentHeaderBytes) // of the current frame
	index := info.BaseIndex               // of the next entry frame
	var write []frame                     // entries of the current write
	commit := int64(0)                    // the commit frame of a write with another CRC
	sealed, indexStart := false, uint64(0)
	fail := func(offset int64, format string, args ...any) {
		scan.bad, scan.badOffset = fmt.Sprintf(format, args...), offset
		scan.badIndex = info.BaseIndex + scan.entries
	}
	if scan.used > 0 {
		if reason := checkHeader(buf, info); reason != "" {
			fail(0, "%s", reason)
		}
	}
	for scan.bad == "" && position+frameHeaderBytes <= int64(len(buf)) {
		kind, value, ok := readFrameHeader(buf[position:])
		if !ok {
			fail(position, "no frame header")
			break
		}
		if kind == frameZero {
			if position < scan.used || len(write) > 0 {
				fail(position, "zeros inside a write")
			}
			break
		}
		if kind == frameCommit {
			if crc := crc32.Checksum(buf[start:position], crcTable); crc != value {
				fail(start, "checksum mismatch in the write at %d to %d", start, position)
				commit = position
				break
			}
			for _, f := range write {
				if reason := f.check(); reason != "" {
					fail(f.offset, "%s", reason)
					scan.certain = true // by raft-wal's CRC it was written like that
					break
				}
				if err := each(f); err != nil {
					return scan, err
				}
				scan.entries++
			}
			if scan.bad != "" {
				break
			}
			position += frameHeaderBytes
			start, scan.end, write = position, position, write[:0]
			scan.sealed, scan.indexStart = sealed, indexStart
			if sealed {
				break // nothing is ever written behind a sealing write
			}
			continue
		}
		end := position + frameHeaderBytes + int64(value)
		if end > int64(len(buf)) {
			fail(position, "a frame of %d bytes goes beyond the end of the file", value)
			break
		}
		switch kind {
		case frameEntry:
			f := frame{index: index, offset: position}
			if err := decodeLog(buf[position+frameHeaderBytes:end], &f.log); err != nil {
				fail(position, "raft entry cannot be decoded")
			}
			write = append(write, f)
			index++
		case frameIndex:
			if value != uint32(4*(index-info.BaseIndex)) {
				fail(position, "an index of %d bytes for %d entries", value, index-info.BaseIndex)
			}
			sealed, indexStart = true, uint64(position+frameHeaderBytes)
		}
		position = end + padding(int64(value))
	}
	if scan.bad == "" && len(write) > 0 {
		fail(position, "the file ends inside a write")
	}
	if scan.bad == "" && scan.end < scan.used && !scan.sealed {
		fail(scan.end, "bytes that are no write")
	}
	if scan.bad != "" && !scan.certain {
		scan.certain = laterWrite(buf[:scan.used], scan.end, commit, scan.badIndex)
	}
	return scan, nil
}

// checkHeader compares a segment's header with what the meta store says.
func checkHeader(buf []byte, info types.SegmentInfo) string {
	switch {
	case len(buf) < segmentHeaderBytes:
		return "the file ends inside its header"
	case binary.LittleEndian.Uint64(buf) != segmentMagic:
		return "bad magic or version in the file header"
	case binary.LittleEndian.Uint64(buf[8:]) != info.BaseIndex,
		binary.LittleEndian.Uint64(buf[16:]) != info.ID,
		binary.LittleEndian.Uint64(buf[24:]) != info.Codec:
		return "the file header belongs to another segment"
	}
	return ""
}

// readFrameHeader decodes 8 bytes: kind, three zeros, length or CRC.
func readFrameHeader(b []byte) (kind byte, value uint32, ok bool) {
	kind, value = b[0], binary.LittleEndian.Uint32(b[4:])
	if kind > frameCommit || b[1] != 0 || b[2] != 0 || b[3] != 0 || kind == frameZero && value != 0 {
		return 0, 0, false
	}
	if (kind == frameEntry || kind == frameIndex) && value > segment.MaxEntrySize {
		return 0, 0, false
	}
	return kind, value, true
}

// frameBytes is the size of a frame with its header and padding.
func frameBytes(kind byte, value uint32) int64 {
	if kind == frameCommit {
		return frameHeaderBytes
	}
	return frameHeaderBytes + int64(value) + padding(int64(value))
}

// padding fills a frame's payload up to a multiple of 8.
func padding(n int64) int64 { return (8 - n%8) % 8 }

// check says what is wrong with an entry whose write has a good CRC.
func (f *frame) check() string {
	if f.log.Index != f.index {
		return fmt.Sprintf("raft entry %d where entry %d belongs", f.log.Index, f.index)
	}
	if f.log.Type == raft.LogCommand {
		if _, err := entry.Decode(f.log.Data); err != nil {
			return err.Error()
		}
	}
	return ""
}

// decodeLog decodes raft-wal's form of a raft entry. The library's codec
// slices out of range when a varint is broken, hence the check in front of it.
func decodeLog(b []byte, log *raft.Log) (err error) {
	rest := b
	for range 3 { // index, term, type
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return io.ErrUnexpectedEOF
		}
		rest = rest[n:]
	}
	for range 2 { // data, extensions
		length, n := binary.Uvarint(rest)
		if n <= 0 || length > uint64(len(rest)-n) {
			return io.ErrUnexpectedEOF
		}
		rest = rest[n+int(length):]
	}
	return (&wal.BinaryCodec{}).Decode(b, log)
}

// laterWrite looks behind bad bytes for another write. raft-wal begins a write only after the one before it is
// fsynced, so bad bytes in front of another write are damage, and bad bytes in front of nothing may be the last
// write, unfinished when the power failed. An unfinished write holds whole entries too, and any eight bytes of
// theirs may look like a commit frame; so a beginning counts only behind commit, where the frames of the bad write
// say that it ends (0 if they do not say), and elsewhere only a whole write does.
func laterWrite(buf []byte, from, commit int64, index uint64) bool {
	if commit > 0 && beginsWrite(buf, commit+frameHeaderBytes, index) {
		return true
	}
	from += padding(from)
	for p := from; p+frameHeaderBytes <= int64(len(buf)); p += 8 {
		if buf[p] == frameEntry && beginsWrite(buf, p, index) && wholeWrite(buf, p) {
			return true
		}
	}
	return false
}

// beginsWrite reports whether the frame at start is an entry with an index that can follow the entry index.
func beginsWrite(buf []byte, start int64, index uint64) bool {
	body := start + frameHeaderBytes
	if body > int64(len(buf)) {
		return false
	}
	kind, length, ok := readFrameHeader(buf[start:])
	if !ok || kind != frameEntry || body+int64(length) > int64(len(buf)) {
		return false
	}
	f := frame{}
	if decodeLog(buf[body:body+int64(length)], &f.log) != nil {
		return false
	}
	// Every entry takes more than 8 bytes.
	if f.log.Index < index || f.log.Index > index+uint64(len(buf))/8 {
		return false
	}
	f.index = f.log.Index
	return f.check() == ""
}

// wholeWrite reports whether the frames from start on end in a commit frame with their CRC.
func wholeWrite(buf []byte, start int64) bool {
	for position := start; position+frameHeaderBytes <= int64(len(buf)); {
		kind, value, ok := readFrameHeader(buf[position:])
		switch {
		case !ok || kind == frameZero:
			return false
		case kind == frameCommit:
			return crc32.Checksum(buf[start:position], crcTable) == value
		}
		position += frameBytes(kind, value)
	}
	return false
}

// readFile reads a whole file into buf, which it may grow.
func readFile(path string, buf []byte) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return buf, err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return buf, err
	}
	if stat.Size() > segmentFileBytesMax {
		return buf, fmt.Errorf("%s has %d bytes, more than a log file ever has", path, stat.Size())
	}
	if int64(cap(buf)) < stat.Size() {
		buf = make([]byte, stat.Size())
	}
	buf = buf[:stat.Size()]
	_, err = io.ReadFull(file, buf)
	return buf, err
}

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
		if _, err := fmt.Sscanf(file, "%020d-%016x.wal", &base, &id); err != nil || base > index ||
			base < info.BaseIndex {
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
		position += frameBytes(kind, value)
	}
	return name, -1
}
