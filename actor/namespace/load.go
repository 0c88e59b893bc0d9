package namespace

import (
	"maps"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// View is a namespace at one moment, for another goroutine to read.
type View struct {
	root    InodeSlot
	entries *entries
	inodes  slabView[InodeSlot, Inode]
	chunks  slabView[ChunkSlot, Chunk]
	open    map[ChunkSlot]*OpenChunk
}

// View freezes the present content. It costs a pointer per page of inodes and
// chunks, a copy of the table of open chunks, and later a copy of what changes.
func (f *Files) View() *View {
	t := f.tree
	return &View{root: t.Find(RootID), entries: t.entries.Copy(), inodes: t.inodes.view(), chunks: f.chunks.view(),
		open: maps.Clone(f.open)}
}

// Root is the slot of "/"; 0 before Format.
func (v *View) Root() InodeSlot { return v.root }

// Inode returns an inode for reading.
func (v *View) Inode(slot InodeSlot) *Inode { return v.inodes.at(slot) }

// Chunk returns a chunk for reading.
func (v *View) Chunk(slot ChunkSlot) *Chunk { return v.chunks.at(slot) }

// OpenChunk returns what is known of an open chunk; nil if it is not open.
func (v *View) OpenChunk(slot ChunkSlot) *OpenChunk { return v.open[slot] }

// Entries calls yield with every entry, by directory id and then by name, until it returns false.
func (v *View) Entries(yield func(name string, slot InodeSlot) bool) {
	v.entries.Scan(func(key string, slot InodeSlot) bool { return yield(key[nameAt:], slot) })
}

// The methods below fill an empty namespace from a checkpoint: StartLoad, then
// each inode and behind it its chunks, then FinishLoad.

// StartLoad sets the next inode id and makes room for chunks.
func (f *Files) StartLoad(nextID uint64, chunks int64) {
	f.tree.nextID = nextID
	if chunks > 0 {
		f.slots = make(map[chunk.ID]ChunkSlot, chunks)
	}
}

// Load adds an inode, and its entry if key, in the form of entryKey, is not empty. It refuses an entry that is there
// already.
func (t *Tree) Load(a Attributes, key string) (InodeSlot, bool) {
	slot := t.Add(a)
	if key == "" {
		return slot, true
	}
	_, there := t.entries.Load(key, slot) // they come in order
	return slot, !there
}

// LoadedChunk is a chunk as a checkpoint holds it. Open is nil if it is sealed.
type LoadedChunk struct {
	ID                   chunk.ID
	Generation, Promised chunk.Generation
	Length               int64
	Open                 *OpenChunk
}

// Load adds a chunk at the end of a file.
func (f *Files) Load(file InodeSlot, l *LoadedChunk) {
	inode := f.tree.inodes.mut(file)
	inode.length += l.Length
	c := Chunk{id: l.ID, generation: l.Generation, promised: l.Promised, file: file, index: inode.chunks}
	c.setLength(l.Length)
	c.setOpen(l.Open != nil)
	slot := f.newChunk(c)
	if l.Open != nil {
		f.open[slot] = l.Open
	} else {
		f.sealed++
	}
	f.link(inode, slot)
	f.observer.ChunkAdded(slot)
}

// FinishLoad counts the entries and checks that they make one tree. directories are all that were loaded.
func (t *Tree) FinishLoad(directories []InodeSlot) error {
	var bad error
	directory, parent := uint64(0), InodeSlot(0)
	t.entries.Scan(func(key string, slot InodeSlot) bool {
		if id := entryDirectory(key); id != directory {
			directory, parent = id, t.slots.get(id)
		}
		if parent == 0 || !t.inodes.at(parent).Directory() {
			bad = corrupt("inode %d is in no directory", t.inodes.at(slot).id)
			return false
		}
		t.inodes.mut(parent).length++
		t.count(t.inodes.at(slot), +1)
		return true
	})
	if bad != nil {
		return bad
	}
	return t.checkTree(directories)
}

// checkTree finds directories that hang on themselves: everything must be below the root. Every entry is in a directory
// that is there, so only the way up from each directory is followed, as far as it is not known.
func (t *Tree) checkTree(directories []InodeSlot) error {
	below := make(map[uint64]bool, len(directories)) // true: below the root
	below[RootID] = true
	var way []uint64
	for _, slot := range directories {
		way = way[:0]
		id := t.inodes.at(slot).id
		for {
			known, seen := below[id]
			if known {
				break
			}
			if seen {
				return corrupt("directory %d is not below the root", id)
			}
			below[id] = false // until the way has reached the root
			way = append(way, id)
			slot := t.slots.get(id)
			if slot == 0 {
				return corrupt("directory %d is missing", id)
			}
			id = t.inodes.at(slot).parent
		}
		for _, id := range way {
			below[id] = true
		}
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fault.New(fault.CorruptData, "decode", format, args...)
}
