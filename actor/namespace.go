package actor

import (
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// dropFile removes a file that is in no directory, its chunks and its lease.
func (s *State) dropFile(slot namespace.InodeSlot) {
	s.leases.End(s.tree.Inode(slot).ID())
	s.files.Remove(slot)
}

// closeFile ends a file's lease after its last chunk was sealed.
func (s *State) closeFile(slot namespace.InodeSlot) {
	s.tree.Complete(slot)
	s.leases.End(s.tree.Inode(slot).ID())
}

// info describes an inode under a name.
func (s *State) info(slot namespace.InodeSlot, name string) FileInfo {
	i := s.tree.Inode(slot)
	f := FileInfo{Name: name, FileID: i.ID(), Directory: i.Directory(), Created: i.Created(), Modified: i.Modified()}
	if f.Directory {
		f.Children = uint64(i.Length())
		return f
	}
	f.Length = i.Length()
	f.ChunkSize = i.ChunkSize()
	f.Replication = uint32(i.Replication())
	f.Open = s.leases.Of(i.ID()) != nil
	return f
}

// find walks a path that must exist, and notes what a reply depends on.
func (s *State) find(op, path string) (namespace.InodeSlot, *fault.Error) {
	if err := limits.CheckPath(op, path); err != nil {
		return 0, err
	}
	if s.clusterID == "" {
		return 0, fault.New(fault.NotActive, op, "this namenode has no state yet")
	}
	w := s.tree.Lookup(path)
	s.effects.Reply.AfterTxid = max(s.effects.Reply.AfterTxid, w.Txid)
	if !w.Found {
		return 0, s.tree.Missing(op, path, w)
	}
	return w.Slot, nil
}

// findFile is find for a file.
func (s *State) findFile(op, path string) (namespace.InodeSlot, *fault.Error) {
	slot, err := s.find(op, path)
	if err == nil && s.tree.Inode(slot).Directory() {
		return 0, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: path, Reason: "a file is wanted"}
	}
	return slot, err
}
