package actor

import (
	"fmt"
	"strings"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// The functions of this file change durable state; only apply methods call
// those that do.

// inodeOf finds an inode's slot; 0 if there is none.
func (s *State) inodeOf(id uint64) uint32 { return s.inodeSlot.get(id) }

// newInode stores an inode and makes its id known.
func (s *State) newInode(i inode) uint32 {
	i.txid = s.txid
	slot := s.inodes.add(i)
	s.inodeSlot.set(i.id, slot)
	s.nextInode = max(s.nextInode, i.id+1)
	return slot
}

// change gives an inode for writing, stamped with the present record.
func (s *State) change(slot uint32) *inode {
	i := s.inodes.mut(slot)
	i.txid = s.txid
	return i
}

// attach enters an inode in a directory under a free name.
func (s *State) attach(directory uint32, name string, slot uint32) {
	d := s.change(directory)
	d.length++
	d.modified = s.time
	id := d.id
	s.entries.Set(entryKey(id, name), slot)
	i := s.change(slot)
	i.parent = id
	s.count(i, +1)
}

// detach takes an entry out of its directory; the inode stays.
func (s *State) detach(directory uint32, name string, slot uint32) {
	d := s.change(directory)
	d.length--
	d.modified = s.time
	s.entries.Delete(s.lookupKey(d.id, name))
	s.count(s.change(slot), -1)
}

// count adds an inode to the totals of the namespace, or takes it away.
func (s *State) count(i *inode, sign int64) {
	if i.directory() {
		s.directories += uint64(sign)
		return
	}
	s.files += uint64(sign)
	s.bytes += sign * i.length
}

// grow changes a file's length.
func (s *State) grow(file uint32, delta int64) {
	i := s.change(file)
	i.length += delta
	if !i.hidden() {
		s.bytes += delta
	}
}

// makeDirectories makes a chain of directories below parent and gives the last
// one's slot.
func (s *State) makeDirectories(parent uint32, firstID uint64, names []string) uint32 {
	for n, name := range names {
		slot := s.newInode(inode{id: firstID + uint64(n), created: s.time, modified: s.time, flags: flagDirectory})
		s.attach(parent, name, slot)
		parent = slot
	}
	return parent
}

// dropTree removes an inode that is no longer in the namespace, with all that
// is below it, and counts what went.
func (s *State) dropTree(root uint32) (removed RemoveResult) {
	type found struct {
		key  string
		slot uint32
	}
	var below []found
	for stack := []uint32{root}; len(stack) > 0; {
		slot := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		i := s.inodes.at(slot)
		if !i.directory() {
			removed.Files++
			removed.Bytes += i.length
			s.dropFile(slot)
			continue
		}
		removed.Directories++
		id := i.id
		below = below[:0]
		s.entries.Ascend(entryKey(id, ""), func(key string, child uint32) bool {
			if entryDirectory(key) != id {
				return false
			}
			below = append(below, found{key, child})
			return true
		})
		for _, b := range below {
			s.entries.Delete(b.key)
			s.count(s.inodes.at(b.slot), -1)
			stack = append(stack, b.slot)
		}
		s.inodeSlot.remove(id)
		s.inodes.remove(slot)
	}
	return removed
}

// dropFile removes a file that is in no directory, its chunks and its lease.
func (s *State) dropFile(slot uint32) {
	// Its bytes were taken from the totals when it left the namespace.
	s.change(slot).flags |= flagHidden
	s.keepChunks(slot, 0)
	id := s.inodes.at(slot).id
	s.endLease(id)
	s.inodeSlot.remove(id)
	s.inodes.remove(slot)
}

// chunkAt finds a chunk of a file by index; 0 if there is none.
func (s *State) chunkAt(file uint32, index uint32) uint32 {
	i := s.inodes.at(file)
	switch {
	case index >= i.chunks:
		return 0
	case index == 0:
		return i.first
	case index == i.chunks-1:
		return i.last
	}
	return s.lists[i.id][index]
}

// addChunk allocates a chunk at a file's end, or in the place of the chunk at
// index, which must have been taken out by dropChunk.
func (s *State) addChunk(file uint32, p placement, replace bool, index uint32) {
	i := s.change(file)
	if !replace {
		index = i.chunks
	}
	slot := s.chunks.add(chunkRecord{id: p.ID, generation: 1, promised: 1, file: file, index: index, lengthOpen: openBit})
	s.chunkSlot[p.ID] = slot
	s.openChunk[slot] = &openChunk{minimum: 1, cut: -1, members: p.Nodes}
	switch {
	case replace:
		next := uint32(0)
		if list := s.lists[i.id]; list != nil {
			list[index] = slot
			if int(index)+1 < len(list) {
				next = list[index+1]
			}
			if index > 0 {
				s.chunks.mut(list[index-1]).next = slot
			}
		}
		s.chunks.mut(slot).next = next
		if index == 0 {
			i.first = slot
		}
		if index == i.chunks-1 {
			i.last = slot
		}
	default:
		s.linkChunk(i, slot)
	}
	s.chunkAdded(slot)
}

// appendChunk adds a loaded chunk at the end of a file; file and index are
// filled in.
func (s *State) appendChunk(file uint32, r chunkRecord) uint32 {
	i := s.inodes.mut(file)
	r.file, r.index = file, i.chunks
	slot := s.chunks.add(r)
	s.chunkSlot[r.id] = slot
	s.linkChunk(i, slot)
	s.chunkAdded(slot)
	return slot
}

// linkChunk makes a chunk the last one of a file.
func (s *State) linkChunk(i *inode, slot uint32) {
	if i.chunks == 0 {
		i.first, i.last, i.chunks = slot, slot, 1
		return
	}
	list := s.lists[i.id]
	if list == nil {
		list = append(make([]uint32, 0, 4), i.first)
	}
	s.lists[i.id] = append(list, slot)
	s.chunks.mut(i.last).next = slot
	i.last, i.chunks = slot, i.chunks+1
}

// dropChunk forgets a chunk; the caller mends the file's list.
func (s *State) dropChunk(slot uint32) {
	c := *s.chunks.at(slot)
	s.chunkDropped(slot, c)
	s.grow(c.file, -c.length())
	if !c.open() {
		s.sealed--
	}
	delete(s.openChunk, slot)
	delete(s.chunkSlot, c.id)
	s.chunks.remove(slot)
}

// keepChunks drops all chunks of a file from index keep on.
func (s *State) keepChunks(file uint32, keep uint32) {
	i := s.inodes.at(file)
	id, chunks, first := i.id, i.chunks, i.first
	if keep >= chunks {
		return
	}
	list := s.lists[id]
	if list == nil {
		list = []uint32{first}
	}
	for n := chunks; n > keep; n-- {
		s.dropChunk(list[n-1])
	}
	m := s.change(file)
	m.chunks = keep
	switch keep {
	case 0:
		m.first, m.last = 0, 0
	default:
		m.last = list[keep-1]
		s.chunks.mut(m.last).next = 0
	}
	if keep <= 1 {
		delete(s.lists, id)
	} else {
		s.lists[id] = list[:keep]
	}
}

// seal closes a chunk at a generation and length.
func (s *State) seal(slot uint32, generation uint64, length int64) {
	c := s.chunks.mut(slot)
	wasOpen := c.open()
	delta := length - c.length()
	c.generation = generation
	c.promised = max(c.promised, generation)
	c.setLength(length)
	c.setOpen(false)
	file := c.file
	delete(s.openChunk, slot)
	if wasOpen {
		s.sealed++
	}
	s.grow(file, delta)
	s.chunkSealed(slot)
}

// reopen makes a sealed chunk open again.
func (s *State) reopen(slot uint32, state *openChunk) {
	s.chunks.mut(slot).setOpen(true)
	s.openChunk[slot] = state
	s.sealed--
	s.chunkReopened(slot)
}

// firstOpenChunk is the file's open chunk of lowest index; 0 if all are sealed.
func (s *State) firstOpenChunk(file uint32) uint32 {
	for slot := s.inodes.at(file).first; slot != 0; slot = s.chunks.at(slot).next {
		if s.chunks.at(slot).open() {
			return slot
		}
	}
	return 0
}

// setLease gives a file's lease to the client in o.
func (s *State) setLease(id uint64, o *openFile) {
	if old := s.open[id]; old != nil && old.client != o.client {
		s.endLease(id)
	}
	s.open[id] = o
	if o.recovering() {
		s.recoveries.Set(id, &recovery{})
		return
	}
	h := s.holders[o.client]
	if h == nil {
		if h, s.spareHolder = s.spareHolder, nil; h == nil {
			h = &holder{files: make(map[uint64]struct{}, 1)}
		}
		h.renewed = s.mono
		s.holders[o.client] = h
	}
	h.files[id] = struct{}{}
}

// endLease makes a file closed.
func (s *State) endLease(id uint64) {
	o := s.open[id]
	if o == nil {
		return
	}
	delete(s.open, id)
	if o.recovering() {
		s.recoveries.Delete(id)
		return
	}
	h := s.holders[o.client]
	delete(h.files, id)
	if len(h.files) == 0 {
		delete(s.holders, o.client)
		s.spareHolder = h // a client that stores files needs one anew for each
	}
}

// closeFile ends a file's lease after its last chunk was sealed.
func (s *State) closeFile(slot uint32) {
	i := s.change(slot)
	i.flags |= flagCompleted
	i.modified = s.time
	s.endLease(i.id)
}

// info describes an inode under a name.
func (s *State) info(slot uint32, name string) FileInfo {
	i := s.inodes.at(slot)
	f := FileInfo{Name: name, FileID: i.id, Directory: i.directory(), Created: i.created, Modified: i.modified}
	if f.Directory {
		f.Children = uint64(i.length)
		return f
	}
	f.Length = i.length
	f.ChunkSize = i.chunkSize()
	f.Replication = uint32(i.replication)
	f.Open = s.open[i.id] != nil
	return f
}

// offset of a chunk in its file.
func (s *State) chunkOffset(c *chunkRecord) int64 {
	return int64(c.index) * s.inodes.at(c.file).chunkSize()
}

// walk is how far a path leads.
type walk struct {
	// slot is the inode at the path if found, else the deepest directory (or
	// the file) on the way.
	slot  uint32
	found bool
	// rest are the elements that are missing below slot; empty if found.
	rest string
	// end is the length of the part of the path that exists.
	end int
	// txid of the latest change among the inodes on the way.
	txid uint64
}

// lookup walks a checked path.
func (s *State) lookup(path string) walk {
	w := walk{slot: s.inodeSlot.get(rootID), found: true, end: 1}
	i := s.inodes.at(w.slot)
	w.txid = i.txid
	rest := path[1:]
	for rest != "" {
		name, after, _ := strings.Cut(rest, "/")
		slot, ok := uint32(0), false
		if i.directory() {
			slot, ok = s.entries.Get(s.lookupKey(i.id, name))
		}
		if !ok {
			w.found, w.rest = false, rest
			return w
		}
		w.slot = slot
		w.end = len(path) - len(after)
		if after != "" {
			w.end--
		}
		i = s.inodes.at(slot)
		w.txid = max(w.txid, i.txid)
		rest = after
	}
	return w
}

// lookupError explains why a path has no inode: an element is missing, or a
// file stands in the way.
func (s *State) lookupError(op, path string, w walk) *fault.Error {
	existing := path[:w.end]
	if i := s.inodes.at(w.slot); !i.directory() {
		return &fault.Error{Kind: fault.NotDirectory, Op: op, Path: path, Reason: fmt.Sprintf("%q is a file", existing)}
	}
	missing, _, _ := strings.Cut(w.rest, "/")
	if existing == "/" {
		existing = ""
	}
	reason := fmt.Sprintf("%q does not exist", existing+"/"+missing)
	return &fault.Error{Kind: fault.NotFound, Op: op, Path: path, Reason: reason}
}

// find walks a path that must exist, and notes what a reply depends on.
func (s *State) find(op, path string) (uint32, *fault.Error) {
	if err := checkPath(op, path); err != nil {
		return 0, err
	}
	if s.clusterID == "" {
		return 0, fault.New(fault.NotActive, op, "this namenode has no state yet")
	}
	w := s.lookup(path)
	s.effects.Reply.AfterTxid = max(s.effects.Reply.AfterTxid, w.txid)
	if !w.found {
		return 0, s.lookupError(op, path, w)
	}
	return w.slot, nil
}

// findFile is find for a file.
func (s *State) findFile(op, path string) (uint32, *fault.Error) {
	slot, err := s.find(op, path)
	if err == nil && s.inodes.at(slot).directory() {
		return 0, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: path, Reason: "a file is wanted"}
	}
	return slot, err
}

// findChunk is a chunk of a file by id; 0 if it is not one of this file's.
func (s *State) findChunk(file uint32, id chunk.ID) uint32 {
	slot := s.chunkSlot[id]
	if slot == 0 || s.chunks.at(slot).file != file {
		return 0
	}
	return slot
}
