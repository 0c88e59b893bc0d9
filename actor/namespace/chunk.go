package namespace

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Chunk is a chunk of one file: 48 bytes, no pointers.
type Chunk struct {
	id         chunk.ID
	generation chunk.Generation
	promised   chunk.Generation // the highest generation ever issued: generation <= promised
	file       InodeSlot
	index      uint32
	// lengthOpen holds the known length (at most chunk.SizeMax = 2^30) and, in
	// its highest bit, whether the chunk is open.
	lengthOpen uint32
	next       ChunkSlot // the next chunk of the file; 0 for the last
}

const openBit = 1 << 31

// ID is zero in a slot without a chunk.
func (c *Chunk) ID() chunk.ID { return c.id }

// Generation that it is sealed at, or that its pipeline has.
func (c *Chunk) Generation() chunk.Generation { return c.generation }

// Promised is the highest generation ever issued for it.
func (c *Chunk) Promised() chunk.Generation { return c.promised }

// File that it is a part of.
func (c *Chunk) File() InodeSlot { return c.file }

// Index in the file.
func (c *Chunk) Index() uint32 { return c.index }

// Next chunk of the file; 0 for the last.
func (c *Chunk) Next() ChunkSlot { return c.next }

// Open reports whether it is being written; else it is sealed.
func (c *Chunk) Open() bool { return c.lengthOpen&openBit != 0 }

// Length in bytes: sealed, or what is known of an open chunk.
func (c *Chunk) Length() int64 { return int64(c.lengthOpen &^ openBit) }

func (c *Chunk) setLength(bytes int64) { c.lengthOpen = c.lengthOpen&openBit | uint32(bytes) }

func (c *Chunk) setOpen(open bool) {
	c.lengthOpen &^= openBit
	if open {
		c.lengthOpen |= openBit
	}
}

// OpenChunk is what is durable about an open chunk beside its record. A value is never changed (snapshots share it).
type OpenChunk struct {
	// Minimum is the lowest generation of a replica that counts. A replica with exactly the minimum counts only on a
	// member if Strict is set: after an Append, a node that was away holds the old generation without what was written
	// since, while a member that still holds it proves that nothing was acknowledged since.
	Minimum chunk.Generation
	Strict  bool
	// Base is the length at the time of the reopening; nothing shorter may come
	// out of recovery (unless a truncate asked for it).
	Base    int64
	Cut     int64            // the length that a truncate wants; -1 if none
	Members []datanode.Index // the pipeline
}
