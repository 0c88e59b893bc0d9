package actor

import (
	"encoding/binary"
	"time"
	"unsafe"

	"github.com/tidwall/btree"

	"github.com/whispering-woods/ww/internal/chunk"
)

// rootID is the inode of "/".
const rootID = 1

// Flags of an inode.
const (
	flagDirectory = 1 << 0
	// flagHidden: the file is not in the namespace yet.
	flagHidden = 1 << 1
	// flagCompleted: the file was closed at least once.
	flagCompleted = 1 << 2
)

// inode is a file or directory: 64 bytes, no pointers.
type inode struct {
	id uint64
	// parent is the directory's id; 0 for the root and for hidden files.
	parent uint64
	// length is the sum of the chunks' known lengths; of a directory, the
	// number of entries.
	length   int64
	created  int64
	modified int64
	// txid of the last change. Not durable: 0 after a checkpoint was loaded.
	txid uint64
	// first and last chunk (slots); 0 if there is none.
	first, last uint32
	chunks      uint32
	// blocks is the chunk size in checksum blocks.
	blocks      uint16
	replication uint8
	flags       uint8
}

func (i *inode) directory() bool  { return i.flags&flagDirectory != 0 }
func (i *inode) hidden() bool     { return i.flags&flagHidden != 0 }
func (i *inode) chunkSize() int64 { return int64(i.blocks) * chunk.ChecksumBlockBytes }

// chunkRecord is a chunk of one file: 48 bytes, no pointers.
type chunkRecord struct {
	id         chunk.ID
	generation uint64
	// promised is the highest generation ever issued: generation <= promised.
	promised uint64
	// file is the inode's slot.
	file  uint32
	index uint32
	// lengthOpen holds the known length (at most chunk.SizeMax = 2^30) and, in
	// its highest bit, whether the chunk is open.
	lengthOpen uint32
	// next chunk of the file (slot); 0 for the last.
	next uint32
}

const openBit = 1 << 31

func (c *chunkRecord) open() bool    { return c.lengthOpen&openBit != 0 }
func (c *chunkRecord) length() int64 { return int64(c.lengthOpen &^ openBit) }
func (c *chunkRecord) setLength(n int64) {
	c.lengthOpen = c.lengthOpen&openBit | uint32(n)
}
func (c *chunkRecord) setOpen(open bool) {
	c.lengthOpen &^= openBit
	if open {
		c.lengthOpen |= openBit
	}
}

// openChunk is what is durable about an open chunk beside its record. A value
// is never changed once it is in the map (snapshots share it).
type openChunk struct {
	// minimum is the lowest generation of a replica that counts. A replica with
	// exactly the minimum counts only on a member if strict is set: after an
	// Append, a node that was away holds the old generation without what was
	// written since, while a member that still holds it proves that nothing was
	// acknowledged since.
	minimum uint64
	strict  bool
	// base is the length at the time of the reopening; nothing shorter may come
	// out of recovery (unless truncate asked for it).
	base int64
	// cut is the length that Truncate wants; -1 if none.
	cut int64
	// members is the pipeline (node indexes).
	members []uint16
}

// openFile is what is durable about a file with a lease. A value is never
// changed once it is in the map.
type openFile struct {
	// client holds the lease; zero: the namenode recovers the file.
	client ClientID
	// holder is for people.
	holder string
	since  int64 // Unix ms
	// path where a hidden file will appear; otherwise "".
	path      string
	overwrite bool
	// leaf is the file's name.
	leaf string
}

func (o *openFile) recovering() bool { return o.client == ClientID{} }

// holder is a client with leases; ephemeral.
type holder struct {
	renewed time.Duration
	files   map[uint64]struct{}
}

// entryKey is where the entry of name in a directory stands in the tree of all
// entries: by directory, then by the name's bytes.
func entryKey(directory uint64, name string) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], directory)
	return string(b[:]) + name
}

func entryDirectory(key string) uint64 { return binary.BigEndian.Uint64([]byte(key[:8])) }

// entries is the tree of all directory entries; the value is an inode slot.
type entries = btree.Map[string, uint32]

// lookupKey is entryKey for looking up and deleting only: it stands in the
// State's buffer until the next call, and costs no allocation.
func (s *State) lookupKey(directory uint64, name string) string {
	if len(name) > nameBytesMax {
		return entryKey(directory, name) // of a damaged log
	}
	binary.BigEndian.PutUint64(s.key[:], directory)
	n := 8 + copy(s.key[8:], name)
	return unsafe.String(&s.key[0], n)
}
