package namespace

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Tree holds the inodes and the entries of all directories.
type Tree struct {
	inodes  slab[InodeSlot, Inode]
	slots   idTable
	entries entries
	nextID  uint64
	totals  Totals
	// txid and time (Unix ms) are those of the present record.
	txid uint64
	time int64
	key  [nameAt + limits.NameBytesMax]byte // see lookupKey
}

// Totals count what is in the namespace; directories without the root.
type Totals struct {
	Files, Directories uint64
	Bytes              int64
}

// Begin stamps the changes that follow with a record's txid and time (Unix ms).
func (t *Tree) Begin(txid uint64, time int64) { t.txid, t.time = txid, time }

// Inode returns an inode for reading; the pointer is stale after a change.
func (t *Tree) Inode(slot InodeSlot) *Inode { return t.inodes.at(slot) }

// Find returns an inode's slot; 0 if there is none.
func (t *Tree) Find(id uint64) InodeSlot { return t.slots.get(id) }

// Inodes is their number, hidden files and the root included.
func (t *Tree) Inodes() int { return t.inodes.count }

// Hidden is the number of hidden files.
func (t *Tree) Hidden() int { return t.inodes.count - 1 - int(t.totals.Files+t.totals.Directories) }

// NextID is above the id of every inode that ever was.
func (t *Tree) NextID() uint64 { return t.nextID }

// Totals of the namespace.
func (t *Tree) Totals() Totals { return t.totals }

// lookupKey is entryKey for looking up and deleting only: the string's bytes are the Tree's own buffer, so a lookup
// allocates nothing. The next call overwrites them: a key that is kept (btree.Set) breaks the order of the tree. Every
// model test of the namespace would see it.
func (t *Tree) lookupKey(directory uint64, name string) string {
	if len(name) > limits.NameBytesMax {
		return entryKey(directory, name) // of a damaged log
	}
	binary.BigEndian.PutUint64(t.key[:], directory)
	length := nameAt + copy(t.key[nameAt:], name)
	return unsafe.String(&t.key[0], length)
}

// Entry returns the inode of that name in a directory.
func (t *Tree) Entry(directory uint64, name string) (slot InodeSlot, there bool) {
	return t.entries.Get(t.lookupKey(directory, name))
}

// Add stores an inode and makes its id known. It is in no directory yet.
func (t *Tree) Add(a Attributes) InodeSlot {
	slot := t.inodes.add(Inode{id: a.ID, parent: a.Parent, created: a.Created, modified: a.Modified, txid: t.txid,
		blocks: a.Blocks, replication: a.Replication, flags: a.Flags})
	t.slots.set(a.ID, slot)
	t.nextID = max(t.nextID, a.ID+1)
	return slot
}

// touch stamps an inode with the present record, and returns it for writing.
func (t *Tree) touch(slot InodeSlot) *Inode {
	inode := t.inodes.mut(slot)
	inode.txid = t.txid
	return inode
}

// Touch notes that an answer about the inode depends on the present record.
func (t *Tree) Touch(slot InodeSlot) { t.touch(slot) }

// Modify sets a file's time of change.
func (t *Tree) Modify(slot InodeSlot) { t.touch(slot).modified = t.time }

// SetReplication changes how many replicas a file wants; its bytes stay, and so does its time.
func (t *Tree) SetReplication(slot InodeSlot, replication uint8) {
	t.touch(slot).replication = replication
}

// Complete notes that a file is closed.
func (t *Tree) Complete(slot InodeSlot) {
	inode := t.touch(slot)
	inode.flags |= FlagCompleted
	inode.modified = t.time
}

// Attach enters an inode in a directory under a free name.
func (t *Tree) Attach(directory InodeSlot, name string, slot InodeSlot) {
	parent := t.touch(directory)
	parent.length++
	parent.modified = t.time
	id := parent.id
	t.entries.Set(entryKey(id, name), slot)
	inode := t.touch(slot)
	inode.parent = id
	inode.flags &^= FlagHidden | FlagTrashed
	t.count(inode, +1)
}

// Trash notes of an inode that it was moved to the trash.
func (t *Tree) Trash(slot InodeSlot) { t.touch(slot).flags |= FlagTrashed }

// Detach removes an entry from its directory; the inode stays.
func (t *Tree) Detach(directory InodeSlot, name string, slot InodeSlot) {
	parent := t.touch(directory)
	parent.length--
	parent.modified = t.time
	t.entries.Delete(t.lookupKey(parent.id, name))
	t.count(t.touch(slot), -1)
}

// count adds an inode to the totals, or subtracts it.
func (t *Tree) count(inode *Inode, sign int64) {
	if inode.Directory() {
		t.totals.Directories += uint64(sign)
		return
	}
	t.totals.Files += uint64(sign)
	t.totals.Bytes += sign * inode.length
}

// grow changes a file's length.
func (t *Tree) grow(file InodeSlot, delta int64) {
	inode := t.touch(file)
	inode.length += delta
	if !inode.Hidden() {
		t.totals.Bytes += delta
	}
}

// MakeDirectories makes a chain of directories below parent and returns the last
// one's slot. Their ids count up from first.
func (t *Tree) MakeDirectories(parent InodeSlot, first uint64, names []string) InodeSlot {
	for n, name := range names {
		slot := t.Add(Attributes{ID: first + uint64(n), Created: t.time, Modified: t.time, Flags: FlagDirectory})
		t.Attach(parent, name, slot)
		parent = slot
	}
	return parent
}

// Remove removes an inode that is in no directory any more, with all that is
// below it, and counts what went. drop removes one file.
func (t *Tree) Remove(root InodeSlot, drop func(file InodeSlot)) (removed Totals) {
	type found struct {
		name string
		slot InodeSlot
	}
	var below []found
	for stack := []InodeSlot{root}; len(stack) > 0; {
		slot := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		inode := t.inodes.at(slot)
		if !inode.Directory() {
			removed.Files++
			removed.Bytes += inode.length
			drop(slot)
			continue
		}
		removed.Directories++
		below = below[:0]
		id := inode.id
		t.Children(id, "", func(name string, child InodeSlot) bool {
			below = append(below, found{name, child})
			return true
		})
		for _, entry := range below {
			t.entries.Delete(t.lookupKey(id, entry.name))
			t.count(t.inodes.at(entry.slot), -1)
			stack = append(stack, entry.slot)
		}
		t.forget(slot)
	}
	return removed
}

// forget frees an inode that is in no directory and has no chunks.
func (t *Tree) forget(slot InodeSlot) {
	t.slots.remove(t.inodes.at(slot).id)
	t.inodes.remove(slot)
}

// Children calls yield with the entries of a directory from the name start on, in byte order, until it returns false.
func (t *Tree) Children(directory uint64, start string, yield func(name string, slot InodeSlot) bool) {
	t.entries.Ascend(entryKey(directory, start), func(key string, slot InodeSlot) bool {
		return entryDirectory(key) == directory && yield(key[nameAt:], slot)
	})
}

// ChildrenBefore calls yield with the entries of a directory from the name last on, backwards, until it returns false.
func (t *Tree) ChildrenBefore(directory uint64, last string, yield func(name string) bool) {
	t.entries.Descend(entryKey(directory, last), func(key string, _ InodeSlot) bool {
		return entryDirectory(key) == directory && yield(key[nameAt:])
	})
}

// BelowTrashed reports whether an inode or a directory above it was moved to the trash as a whole.
func (t *Tree) BelowTrashed(slot InodeSlot) bool {
	for inode := t.inodes.at(slot); inode.id != RootID; inode = t.inodes.at(t.Find(inode.parent)) {
		if inode.Trashed() {
			return true
		}
	}
	return false
}

// Walk is how far a path leads.
type Walk struct {
	// Slot is the inode at the path if found, else the deepest directory (or the file) on the way.
	Slot  InodeSlot
	Found bool
	Txid  uint64 // of the latest change among the inodes on the way
	rest  string // the elements that are missing below Slot; empty if found
	end   int    // the length of the part of the path that exists
}

// Lookup walks a checked path. There must be a root.
func (t *Tree) Lookup(path string) Walk {
	walk := Walk{Slot: t.slots.get(RootID), Found: true, end: 1}
	inode := t.inodes.at(walk.Slot)
	walk.Txid = inode.txid
	rest := path[1:]
	for rest != "" {
		name, after, _ := strings.Cut(rest, "/")
		slot, there := InodeSlot(0), false
		if inode.Directory() {
			slot, there = t.Entry(inode.id, name)
		}
		if !there {
			walk.Found, walk.rest = false, rest
			return walk
		}
		walk.Slot = slot
		walk.end = len(path) - len(after)
		if after != "" {
			walk.end--
		}
		inode = t.inodes.at(slot)
		walk.Txid = max(walk.Txid, inode.txid)
		rest = after
	}
	return walk
}

// Missing explains why a path has no inode: an element is missing, or a file stands in the way.
func (t *Tree) Missing(op, path string, w Walk) *fault.Error {
	existing := path[:w.end]
	if !t.inodes.at(w.Slot).Directory() {
		return &fault.Error{Kind: fault.NotDirectory, Op: op, Path: path, Reason: fmt.Sprintf("%q is a file", existing)}
	}
	missing, _, _ := strings.Cut(w.rest, "/")
	if existing == "/" {
		existing = ""
	}
	reason := fmt.Sprintf("%q does not exist", existing+"/"+missing)
	return &fault.Error{Kind: fault.NotFound, Op: op, Path: path, Reason: reason}
}

// Target is where a new entry goes.
type Target struct {
	Parent      InodeSlot
	Directories []string // to be made between Parent and Name
	Name        string
	Existing    InodeSlot // inode at the path, 0 if it is free
}

// FindTarget resolves the path of an entry to be made; parents allows that directories on the way are missing.
func (t *Tree) FindTarget(op, path string, parents bool) (Target, *fault.Error) {
	if err := limits.CheckPath(op, path); err != nil {
		return Target{}, err
	}
	if path == "/" {
		return Target{}, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: path,
			Reason: "the root directory is always there"}
	}
	walk := t.Lookup(path)
	parent, name := SplitPath(path)
	if walk.Found {
		return Target{Parent: t.Lookup(parent).Slot, Name: name, Existing: walk.Slot}, nil
	}
	if !t.inodes.at(walk.Slot).Directory() {
		return Target{}, t.Missing(op, path, walk)
	}
	target := Target{Parent: walk.Slot, Name: name}
	if strings.Contains(walk.rest, "/") {
		if !parents {
			return Target{}, t.Missing(op, path, walk)
		}
		missing := strings.Split(walk.rest, "/")
		target.Directories = missing[:len(missing)-1]
	}
	return target, nil
}

// Directory finds a directory that a record names.
func (t *Tree) Directory(id uint64) (InodeSlot, error) {
	slot := t.Find(id)
	if slot == 0 || !t.inodes.at(slot).Directory() {
		return 0, Inconsistent("directory %d does not exist", id)
	}
	return slot, nil
}

// File finds a file that a record names.
func (t *Tree) File(id uint64) (InodeSlot, error) {
	slot := t.Find(id)
	if slot == 0 || t.inodes.at(slot).Directory() {
		return 0, Inconsistent("file %d does not exist", id)
	}
	return slot, nil
}

// CheckFree checks that a directory has no entry of a name, except the file that a record replaces (0: none).
func (t *Tree) CheckFree(directory InodeSlot, name string, replaced uint64) error {
	if reason := limits.CheckName(name); reason != "" {
		return Inconsistent("name: %s", reason)
	}
	slot, there := t.Entry(t.inodes.at(directory).id, name)
	switch {
	case !there && replaced != 0:
		return Inconsistent("file %d to replace is not at %q", replaced, name)
	case there && (t.inodes.at(slot).id != replaced || t.inodes.at(slot).Directory()):
		return Inconsistent("%q exists", name)
	}
	return nil
}

// CheckNew checks a record's fresh inode ids and directory names.
func (t *Tree) CheckNew(first uint64, names []string) error {
	if first < t.nextID || first > 1<<62 {
		return Inconsistent("inode id %d, next is %d", first, t.nextID)
	}
	for _, name := range names {
		if reason := limits.CheckName(name); reason != "" {
			return Inconsistent("name: %s", reason)
		}
	}
	return nil
}

// CheckMove checks that a directory does not move below itself. A file may move anywhere.
func (t *Tree) CheckMove(slot InodeSlot, parent uint64) error {
	inode := t.inodes.at(slot)
	for up := parent; inode.Directory() && up != RootID; up = t.inodes.at(t.Find(up)).parent {
		if up == inode.id {
			return Inconsistent("inode %d would move below itself", inode.id)
		}
	}
	return nil
}

// Inconsistent is the error of a record that does not fit the state.
func Inconsistent(format string, args ...any) error {
	e := fault.New(fault.CorruptData, "apply record", format, args...)
	e.Hint = "the log does not fit the state that its earlier records made"
	return e
}
