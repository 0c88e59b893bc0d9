package namespace

import (
	"fmt"

	"github.com/whispering-woods/ww/internal/limits"
)

// Check compares all that is derived with what it is derived from. It costs time
// in proportion to the namespace; tests call it after every step. leased tells
// whether a file has a lease.
func (f *Files) Check(leased func(file uint64) bool) error {
	if err := f.tree.check(); err != nil {
		return err
	}
	return f.check(leased)
}

func (t *Tree) check() error {
	var counted Totals
	inTree := 0
	children := make(map[uint64]int64)
	var bad error
	t.entries.Scan(func(key string, slot InodeSlot) bool {
		i := t.inodes.at(slot)
		inTree++
		switch {
		case i.parent != entryDirectory(key), i.Hidden(), t.slots.get(i.id) != slot, limits.CheckName(key[nameAt:]) != "":
			bad = fmt.Errorf("entry %q of directory %d: inode %+v", key[nameAt:], entryDirectory(key), *i)
		case i.Directory():
			counted.Directories++
		default:
			counted.Files++
			counted.Bytes += i.length
		}
		children[i.parent]++
		return bad == nil
	})
	if bad != nil {
		return bad
	}
	if counted != t.totals {
		return fmt.Errorf("totals: %+v, counted %+v", t.totals, counted)
	}
	hidden := 0
	var directories []InodeSlot
	for id, slot := range t.slots.all {
		i := t.inodes.at(slot)
		switch {
		case i.id != id || id >= t.nextID || i.txid > t.txid:
			return fmt.Errorf("inode %d in slot %d: %+v", id, slot, *i)
		case i.Directory() && i.length != children[id]:
			return fmt.Errorf("directory %d: %d entries, counted %d", id, i.length, children[id])
		case i.Hidden() && i.parent != 0:
			return fmt.Errorf("hidden file %d: %+v", id, *i)
		case i.Hidden():
			hidden++
		case i.Directory():
			directories = append(directories, slot)
		}
	}
	if t.slots.count != inTree+hidden+1 || t.slots.count != t.inodes.count {
		return fmt.Errorf("%d inodes, %d in the tree, %d hidden, %d in the slab", t.slots.count, inTree, hidden, t.inodes.count)
	}
	return t.checkTree(directories)
}

func (f *Files) check(leased func(file uint64) bool) error {
	total, sealed, open := 0, uint64(0), 0
	for id, file := range f.tree.slots.all {
		i := f.tree.Inode(file)
		if i.Directory() {
			continue
		}
		var length int64
		index := uint32(0)
		short := false
		for slot := i.first; slot != 0; slot = f.chunks.at(slot).next {
			c := f.chunks.at(slot)
			total++
			w := f.open[slot]
			switch {
			case c.file != file || c.index != index || f.slots[c.id] != slot || f.At(file, index) != slot:
				return fmt.Errorf("file %d chunk %d: %+v", id, index, *c)
			case c.generation == 0 || c.generation > c.promised || c.Length() > i.ChunkSize():
				return fmt.Errorf("file %d chunk %d: generation %d of %d, length %d", id, index, c.generation, c.promised, c.Length())
			case c.Open() != (w != nil):
				return fmt.Errorf("file %d chunk %d: open %v, %+v", id, index, c.Open(), w)
			case c.Open() && !leased(id):
				return fmt.Errorf("file %d is closed, its chunk %d is open", id, index)
			case w != nil && (w.Minimum == 0 || w.Minimum > c.generation || w.Base > c.Length() || w.Cut >= 0 && w.Cut != c.Length()):
				return fmt.Errorf("file %d chunk %d: %+v, %+v", id, index, *c, *w)
			case short && !leased(id):
				return fmt.Errorf("file %d: chunk %d follows a short one", id, index)
			}
			if c.Open() {
				open++
			} else {
				sealed++
			}
			short = short || c.Length() < i.ChunkSize()
			length += c.Length()
			index++
			if c.next == 0 && i.last != slot {
				return fmt.Errorf("file %d: last chunk is slot %d, not %d", id, i.last, slot)
			}
		}
		if index != i.chunks || length != i.length || (i.chunks > 1) != (f.lists[id] != nil) || i.chunks == 0 && i.last != 0 {
			return fmt.Errorf("file %d: %d chunks of %d bytes, counted %d, %d; list %v", id, i.chunks, i.length, index, length, f.lists[id])
		}
		if !leased(id) && !i.Completed() {
			return fmt.Errorf("file %d is closed but was never completed", id)
		}
	}
	if total != len(f.slots) || total != f.chunks.count || sealed != f.sealed || open != len(f.open) {
		return fmt.Errorf("chunks: %d by id, %d in the slab, %d sealed, %d open; counted %d, %d, %d",
			len(f.slots), f.chunks.count, f.sealed, len(f.open), total, sealed, open)
	}
	return nil
}
