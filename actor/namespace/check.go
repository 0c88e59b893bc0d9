package namespace

import (
	"fmt"

	"github.com/whispering-woods/ww/internal/limits"
)

// Check compares all that is derived with what it is derived from. It costs time in proportion to the namespace; tests
// call it after every step. leased tells whether a file has a lease.
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
		inode := t.inodes.at(slot)
		inTree++
		switch {
		case inode.parent != entryDirectory(key), inode.Hidden(), t.slots.get(inode.id) != slot,
			limits.CheckName(key[nameAt:]) != "":
			bad = fmt.Errorf("entry %q of directory %d: inode %+v", key[nameAt:], entryDirectory(key), *inode)
		case inode.Directory():
			counted.Directories++
		default:
			counted.Files++
			counted.Bytes += inode.length
		}
		children[inode.parent]++
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
		return fmt.Errorf("%d inodes, %d in the tree, %d hidden, %d in the slab", t.slots.count, inTree, hidden,
			t.inodes.count)
	}
	return t.checkTree(directories)
}

func (f *Files) check(leased func(file uint64) bool) error {
	total, sealed, open := 0, uint64(0), 0
	for id, file := range f.tree.slots.all {
		inode := f.tree.Inode(file)
		if inode.Directory() {
			continue
		}
		var length int64
		index := uint32(0)
		short := false
		for slot := inode.first; slot != 0; slot = f.chunks.at(slot).next {
			record := f.chunks.at(slot)
			total++
			opened := f.open[slot]
			switch {
			case record.file != file || record.index != index || f.slots[record.id] != slot ||
				f.At(file, index) != slot:
				return fmt.Errorf("file %d chunk %d: %+v", id, index, *record)
			case record.generation == 0 || record.generation > record.promised || record.Length() > inode.ChunkSize():
				return fmt.Errorf("file %d chunk %d: generation %d of %d, length %d", id, index, record.generation,
					record.promised, record.Length())
			case record.Open() != (opened != nil):
				return fmt.Errorf("file %d chunk %d: open %v, %+v", id, index, record.Open(), opened)
			case record.Open() && !leased(id):
				return fmt.Errorf("file %d is closed, its chunk %d is open", id, index)
			case opened != nil && (opened.Minimum == 0 || opened.Minimum > record.generation ||
				opened.Base > record.Length() || opened.Cut >= 0 && opened.Cut != record.Length()):
				return fmt.Errorf("file %d chunk %d: %+v, %+v", id, index, *record, *opened)
			case short && !leased(id):
				return fmt.Errorf("file %d: chunk %d follows a short one", id, index)
			}
			if record.Open() {
				open++
			} else {
				sealed++
			}
			short = short || record.Length() < inode.ChunkSize()
			length += record.Length()
			index++
			if record.next == 0 && inode.last != slot {
				return fmt.Errorf("file %d: last chunk is slot %d, not %d", id, inode.last, slot)
			}
		}
		if index != inode.chunks || length != inode.length || (inode.chunks > 1) != (f.lists[id] != nil) ||
			inode.chunks == 0 && inode.last != 0 {
			return fmt.Errorf("file %d: %d chunks of %d bytes, counted %d, %d; list %v", id, inode.chunks, inode.length,
				index, length, f.lists[id])
		}
		if !leased(id) && !inode.Completed() {
			return fmt.Errorf("file %d is closed but was never completed", id)
		}
	}
	if total != len(f.slots) || total != f.chunks.count || sealed != f.sealed || open != len(f.open) {
		return fmt.Errorf("chunks: %d by id, %d in the slab, %d sealed, %d open; counted %d, %d, %d",
			len(f.slots), f.chunks.count, f.sealed, len(f.open), total, sealed, open)
	}
	return nil
}
