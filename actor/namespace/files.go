package namespace

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Observer learns of every change of a chunk, live and in replay: what others
// know of chunks follows the durable state by it.
type Observer interface {
	// ChunkAdded: a chunk was allocated.
	ChunkAdded(slot ChunkSlot)
	// ChunkSealed: a chunk was sealed; its record is up to date.
	ChunkSealed(slot ChunkSlot)
	// ChunkReopened: a sealed chunk is open again; its record still holds the
	// generation and length that it was sealed at.
	ChunkReopened(slot ChunkSlot)
	// ChunkDropped: a chunk is about to be forgotten.
	ChunkDropped(slot ChunkSlot)
}

// Files holds the chunks of all files.
type Files struct {
	tree     *Tree
	observer Observer
	chunks   slab[ChunkSlot, Chunk]
	slots    map[chunk.ID]ChunkSlot
	open     map[ChunkSlot]*OpenChunk
	lists    map[uint64][]ChunkSlot // chunks of files with two or more
	sealed   uint64
}

// New makes an empty namespace, without a root.
func New(observer Observer) (*Tree, *Files) {
	tree := &Tree{nextID: RootID + 1, slots: newIDTable()}
	return tree, &Files{tree: tree, observer: observer, slots: make(map[chunk.ID]ChunkSlot),
		open: make(map[ChunkSlot]*OpenChunk), lists: make(map[uint64][]ChunkSlot)}
}

// Chunk returns a chunk for reading; the pointer is stale after a change. Slots without a chunk have a zero id.
func (f *Files) Chunk(slot ChunkSlot) *Chunk { return f.chunks.at(slot) }

// OpenChunk returns what is known of an open chunk; nil if it is not open.
func (f *Files) OpenChunk(slot ChunkSlot) *OpenChunk { return f.open[slot] }

// Find returns the slot of a chunk; 0 if there is none.
func (f *Files) Find(id chunk.ID) ChunkSlot { return f.slots[id] }

// Limit is above all slots in use.
func (f *Files) Limit() ChunkSlot { return f.chunks.limit }

// Chunks is their number.
func (f *Files) Chunks() int { return f.chunks.count }

// Sealed is the number of sealed chunks.
func (f *Files) Sealed() uint64 { return f.sealed }

// Inode returns the file of a chunk for reading.
func (f *Files) Inode(c *Chunk) *Inode { return f.tree.Inode(c.file) }

// Offset of a chunk in its file, in bytes.
func (f *Files) Offset(c *Chunk) int64 { return int64(c.index) * f.Inode(c).ChunkSize() }

// At returns a chunk of a file by index; 0 if there is none.
func (f *Files) At(file InodeSlot, index uint32) ChunkSlot {
	inode := f.tree.Inode(file)
	switch {
	case index >= inode.chunks:
		return 0
	case index == 0:
		return inode.first
	case index == inode.chunks-1:
		return inode.last
	}
	return f.lists[inode.id][index]
}

// Of returns a chunk of a file by id; 0 if it is not one of this file's.
func (f *Files) Of(file InodeSlot, id chunk.ID) ChunkSlot {
	slot := f.slots[id]
	if slot == 0 || f.chunks.at(slot).file != file {
		return 0
	}
	return slot
}

// FirstOpen is the file's open chunk of lowest index; 0 if all are sealed.
func (f *Files) FirstOpen(file InodeSlot) ChunkSlot {
	for slot := f.tree.Inode(file).first; slot != 0; slot = f.chunks.at(slot).next {
		if f.chunks.at(slot).Open() {
			return slot
		}
	}
	return 0
}

// OpenAtEnd lists the open chunks that a file ends with, the last one first.
func (f *Files) OpenAtEnd(file InodeSlot) (open []ChunkSlot) {
	for index := f.tree.Inode(file).chunks; index > 0; index-- {
		slot := f.At(file, index-1)
		if !f.chunks.at(slot).Open() {
			break
		}
		open = append(open, slot)
	}
	return open
}

// CountOpen counts the open chunks of which something holds. It costs time in proportion to all that are open.
func (f *Files) CountOpen(holds func(ChunkSlot) bool) (count uint64) {
	for slot := range f.open {
		if holds(slot) {
			count++
		}
	}
	return count
}

// Add allocates a chunk at a file's end, to be written on members.
func (f *Files) Add(file InodeSlot, id chunk.ID, members []datanode.Index) ChunkSlot {
	inode := f.tree.touch(file)
	slot := f.newChunk(Chunk{id: id, generation: 1, promised: 1, file: file, index: inode.chunks, lengthOpen: openBit})
	f.open[slot] = &OpenChunk{Minimum: 1, Cut: -1, Members: members}
	f.link(inode, slot)
	f.observer.ChunkAdded(slot)
	return slot
}

// Replace drops a file's open chunk at an index and allocates another in its place.
func (f *Files) Replace(file InodeSlot, index uint32, id chunk.ID, members []datanode.Index) ChunkSlot {
	next := f.chunks.at(f.At(file, index)).next
	f.drop(f.At(file, index))
	inode := f.tree.touch(file)
	slot := f.newChunk(Chunk{id: id, generation: 1, promised: 1, file: file, index: index, lengthOpen: openBit,
		next: next})
	f.open[slot] = &OpenChunk{Minimum: 1, Cut: -1, Members: members}
	if list := f.lists[inode.id]; list != nil {
		list[index] = slot
		if index > 0 {
			f.chunks.mut(list[index-1]).next = slot
		}
	}
	if index == 0 {
		inode.first = slot
	}
	if index == inode.chunks-1 {
		inode.last = slot
	}
	f.observer.ChunkAdded(slot)
	return slot
}

func (f *Files) newChunk(c Chunk) ChunkSlot {
	slot := f.chunks.add(c)
	f.slots[c.id] = slot
	return slot
}

// link makes a chunk the last one of a file.
func (f *Files) link(inode *Inode, slot ChunkSlot) {
	if inode.chunks == 0 {
		inode.first, inode.last, inode.chunks = slot, slot, 1
		return
	}
	list := f.lists[inode.id]
	if list == nil {
		list = append(make([]ChunkSlot, 0, 4), inode.first)
	}
	f.lists[inode.id] = append(list, slot)
	f.chunks.mut(inode.last).next = slot
	inode.last, inode.chunks = slot, inode.chunks+1
}

// drop forgets a chunk; the caller mends the file's list.
func (f *Files) drop(slot ChunkSlot) {
	f.observer.ChunkDropped(slot)
	c := *f.chunks.at(slot)
	f.tree.grow(c.file, -c.Length())
	if !c.Open() {
		f.sealed--
	}
	delete(f.open, slot)
	delete(f.slots, c.id)
	f.chunks.remove(slot)
}

// Keep drops all chunks of a file from an index on.
func (f *Files) Keep(file InodeSlot, keep uint32) {
	inode := f.tree.Inode(file)
	id, chunks, first := inode.id, inode.chunks, inode.first
	if keep >= chunks {
		return
	}
	list := f.lists[id]
	if list == nil {
		list = []ChunkSlot{first}
	}
	for n := chunks; n > keep; n-- {
		f.drop(list[n-1])
	}
	inode = f.tree.touch(file)
	inode.chunks = keep
	if keep == 0 {
		inode.first, inode.last = 0, 0
	} else {
		inode.last = list[keep-1]
		f.chunks.mut(inode.last).next = 0
	}
	if keep <= 1 {
		delete(f.lists, id)
	} else {
		f.lists[id] = list[:keep]
	}
}

// KeepFull drops what follows a file's first chunk that is not full, and that
// chunk too if it is empty. All of them are sealed.
func (f *Files) KeepFull(file InodeSlot) {
	size := f.tree.Inode(file).ChunkSize()
	keep := uint32(0)
	for slot := f.tree.Inode(file).first; slot != 0; slot = f.chunks.at(slot).next {
		length := f.chunks.at(slot).Length()
		if length > 0 {
			keep++
		}
		if length < size {
			break
		}
	}
	f.Keep(file, keep)
}

// Remove removes a file that is in no directory, with its chunks.
func (f *Files) Remove(file InodeSlot) {
	// Its bytes were subtracted from the totals when it left the namespace.
	f.tree.touch(file).flags |= FlagHidden
	f.Keep(file, 0)
	f.tree.forget(file)
}

// Seal closes an open chunk at a generation and length.
func (f *Files) Seal(slot ChunkSlot, generation chunk.Generation, length int64) {
	c := f.chunks.mut(slot)
	delta := length - c.Length()
	c.generation = generation
	c.promised = max(c.promised, generation)
	c.setLength(length)
	c.setOpen(false)
	delete(f.open, slot)
	f.sealed++
	f.tree.grow(c.file, delta)
	f.observer.ChunkSealed(slot)
}

// SealAt is Seal for a chunk that a record names by its index.
func (f *Files) SealAt(file InodeSlot, index uint32, generation chunk.Generation, length int64) error {
	slot := f.At(file, index)
	if slot == 0 {
		return Inconsistent("chunk %d does not exist", index)
	}
	c := f.chunks.at(slot)
	if !c.Open() || generation > c.promised || generation == 0 || length > f.Inode(c).ChunkSize() {
		return Inconsistent("chunk %d: open %v, promised %d, sealed at generation %d length %d", index, c.Open(),
			c.promised, generation, length)
	}
	f.Seal(slot, generation, length)
	return nil
}

// Reopen makes a sealed chunk open again under a new generation, with a pipeline of members.
func (f *Files) Reopen(slot ChunkSlot, generation chunk.Generation, members []datanode.Index) {
	c := f.chunks.at(slot)
	f.reopen(slot, &OpenChunk{Minimum: c.generation, Strict: true, Base: c.Length(), Cut: -1, Members: members})
	c = f.chunks.mut(slot)
	c.generation, c.promised = generation, generation
}

// Cut makes a sealed chunk open again, to be recovered at a lower length.
func (f *Files) Cut(slot ChunkSlot, length int64) {
	c := f.chunks.at(slot)
	delta := length - c.Length()
	f.reopen(slot, &OpenChunk{Minimum: c.generation, Base: length, Cut: length})
	c = f.chunks.mut(slot)
	c.setLength(length)
	f.tree.grow(c.file, delta)
}

func (f *Files) reopen(slot ChunkSlot, open *OpenChunk) {
	f.chunks.mut(slot).setOpen(true)
	f.open[slot] = open
	f.sealed--
	f.observer.ChunkReopened(slot)
}

// Promise notes that a generation was issued for an open chunk.
func (f *Files) Promise(slot ChunkSlot, generation chunk.Generation) {
	c := f.chunks.mut(slot)
	c.promised = generation
	f.tree.touch(c.file)
}

// SetPipeline notes the pipeline of an open chunk under the generation promised, whose members hold length bytes.
func (f *Files) SetPipeline(slot ChunkSlot, length int64, members []datanode.Index) {
	c := f.chunks.mut(slot)
	delta := length - c.Length()
	c.generation = c.promised
	c.setLength(length)
	f.open[slot] = &OpenChunk{Minimum: c.generation, Base: length, Cut: -1, Members: members}
	f.tree.grow(c.file, delta)
}
