package namespace

import (
	"encoding/binary"

	"github.com/tidwall/btree"

	"github.com/whispering-woods/ww/internal/chunk"
)

// RootID is the inode of "/".
const RootID = 1

// Flags of an inode. The numbers are part of the checkpoint's format.
const (
	FlagDirectory = 1 << 0
	FlagHidden    = 1 << 1 // the file is not in the namespace yet
	FlagCompleted = 1 << 2 // the file was closed at least once
	FlagTrashed   = 1 << 3 // it was moved to the trash as a whole, and not made there for what was below it
)

// Inode is a file or directory: 64 bytes, no pointers.
type Inode struct {
	id       uint64
	parent   uint64 // the directory's id; 0 for the root and for hidden files
	length   int64  // the sum of the chunks' known lengths; of a directory, the number of entries
	created  int64
	modified int64
	txid     uint64 // of the last change. Not durable: 0 after a checkpoint was loaded
	// first and last chunk; 0 if there is none.
	first, last ChunkSlot
	chunks      uint32
	blocks      uint16 // the chunk size in checksum blocks
	replication uint8
	flags       uint8
}

// Attributes of an inode that is made or loaded. Parent is set by Attach if the inode is not loaded.
type Attributes struct {
	ID, Parent        uint64
	Created, Modified int64 // Unix ms
	Blocks            uint16
	Replication       uint8
	Flags             uint8
}

// Attributes are those that a checkpoint holds.
func (i *Inode) Attributes() Attributes {
	return Attributes{ID: i.id, Parent: i.parent, Created: i.created, Modified: i.modified,
		Blocks: i.blocks, Replication: i.replication, Flags: i.flags}
}

// ID names the inode in records; it is never reused.
func (i *Inode) ID() uint64 { return i.id }

// Parent is the id of its directory; 0 for the root and for hidden files.
func (i *Inode) Parent() uint64 { return i.parent }

// Length in bytes; of a directory, the number of entries.
func (i *Inode) Length() int64 { return i.length }

// Created is when it was made, in Unix ms.
func (i *Inode) Created() int64 { return i.created }

// Modified is when it or its entries last changed, in Unix ms.
func (i *Inode) Modified() int64 { return i.modified }

// Txid is that of its last change; 0: durable since a checkpoint was loaded.
func (i *Inode) Txid() uint64 { return i.txid }

// First is the file's first chunk; 0 if it has none.
func (i *Inode) First() ChunkSlot { return i.first }

// Last is the file's last chunk; 0 if it has none.
func (i *Inode) Last() ChunkSlot { return i.last }

// Chunks is the number of chunks.
func (i *Inode) Chunks() uint32 { return i.chunks }

// Replication is the number of replicas that the file wants of each chunk.
func (i *Inode) Replication() int { return int(i.replication) }

// ChunkSize in bytes.
func (i *Inode) ChunkSize() int64 { return int64(i.blocks) * chunk.ChecksumBlockBytes }

// Directory distinguishes it from a file.
func (i *Inode) Directory() bool { return i.flags&FlagDirectory != 0 }

// Hidden reports whether the file is not in the namespace yet.
func (i *Inode) Hidden() bool { return i.flags&FlagHidden != 0 }

// Trashed reports whether the inode itself was moved to the trash, and not away from there since.
func (i *Inode) Trashed() bool { return i.flags&FlagTrashed != 0 }

// Completed reports whether the file was closed at least once.
func (i *Inode) Completed() bool { return i.flags&FlagCompleted != 0 }

// nameAt is where the name begins in an entry's key.
const nameAt = 8

// entryKey is where the entry of name in a directory stands in the tree of all
// entries: by directory, then by the name's bytes.
func entryKey(directory uint64, name string) string {
	var b [nameAt]byte
	binary.BigEndian.PutUint64(b[:], directory)
	return string(b[:]) + name
}

func entryDirectory(key string) uint64 { return binary.BigEndian.Uint64([]byte(key[:nameAt])) }

// entries is the tree of all directory entries.
type entries = btree.Map[string, InodeSlot]
