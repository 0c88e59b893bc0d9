package actor

import (
	"cmp"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/trash"
)

func mkdir(state *State, request *Mkdir) (any, *fault.Error) {
	at := where{"mkdir", request.Path}
	if request.Path == "/" {
		if request.Parents {
			return &MkdirResult{Info: state.info(state.tree.Find(namespace.RootID), "")}, nil
		}
		return nil, at.refuse(fault.Exists, "", "the root directory is always there")
	}
	target, err := state.tree.FindTarget(at.op, request.Path, request.Parents)
	if err := cmp.Or(err, reserved(at)); err != nil {
		return nil, err
	}
	if target.Existing != 0 {
		if request.Parents && state.tree.Inode(target.Existing).Directory() {
			return &MkdirResult{Info: state.info(target.Existing, target.Name)}, nil
		}
		return nil, at.exists(state.tree.Inode(target.Existing))
	}
	return state.log(&codec.MkdirRecord{Prefix: state.prefix(), Parent: state.tree.Inode(target.Parent).ID(),
		FirstID: state.tree.NextID(), Names: append(target.Directories, target.Name)})
}

// exists is why a new entry cannot be made.
func (w where) exists(existing *namespace.Inode) *fault.Error {
	if existing.Directory() {
		return w.refuse(fault.Exists, "choose another name", "a directory of this name exists")
	}
	return w.refuse(fault.Exists, "ask for overwrite, or choose another name", "a file of this name exists")
}

// replaceable checks that the inode at a target may be overwritten by the
// command's client, and returns its id; 0 if the target is free.
func (s *State) replaceable(at where, existing namespace.InodeSlot, overwrite bool) (uint64, *fault.Error) {
	if existing == 0 {
		return 0, nil
	}
	inode := s.tree.Inode(existing)
	if inode.Directory() {
		return 0, at.refuse(fault.IsDirectory, "choose another name", "a directory of this name exists")
	}
	if !overwrite {
		return 0, at.exists(inode)
	}
	if lease := s.leases.Of(inode.ID()); lease != nil && lease.Client != s.command.Client {
		return 0, s.leaseHeld(at, lease)
	}
	return inode.ID(), nil
}

func create(state *State, request *Create) (any, *fault.Error) {
	at := where{"create", request.Path}
	replication := cmp.Or(request.Replication, state.config.DefaultReplication)
	chunkSize := cmp.Or(request.ChunkSize, state.config.DefaultChunkSize)
	problem := cmp.Or(limits.CheckReplication(replication), limits.CheckChunkSize(chunkSize),
		limits.CheckCount("chunks in one call", int(request.ChunkCount), limits.ChunksPerCallMax))
	switch {
	case problem != "":
		return nil, at.refuse(fault.Invalid, "", "%s", problem)
	case len(request.ExcludeNodes) > limits.NodesPerCallMax:
		return nil, limits.TooMany(at.op, "excluded nodes", len(request.ExcludeNodes), limits.NodesPerCallMax)
	case state.leases.Count() >= openFilesMax:
		return nil, at.refuse(fault.Busy, "", "%d files are open, the limit", state.leases.Count())
	}
	target, err := state.tree.FindTarget(at.op, request.Path, request.Parents)
	if err := cmp.Or(err, reserved(at)); err != nil {
		return nil, err
	}
	replaced, err := state.replaceable(at, target.Existing, request.Overwrite)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(state.replicas.Chooser.Possible(at.op, request.Path, int(replication),
		int(state.config.DefaultReplication)),
		state.replicas.Chooser.EnoughNodes(at.op, request.Path, int(replication))); err != nil {
		return nil, err
	}
	record := &codec.CreateRecord{Prefix: state.prefix(), Parent: state.tree.Inode(target.Parent).ID(),
		FirstID: state.tree.NextID(), Directories: target.Directories, Name: target.Name,
		Replication: uint8(replication), Blocks: uint16(chunkSize / chunk.ChecksumBlockBytes),
		Hidden: request.VisibleOnComplete, Overwrite: request.Overwrite, Replaced: replaced,
		Holder: limits.Clip(request.ClientName, limits.TextBytesMax)}
	if request.VisibleOnComplete { // the old file stays until this one is whole
		record.Replaced, record.Path = 0, request.Path
	}
	record.Chunks, err = state.replicas.Chooser.Place(at.op, request.Path,
		replicas.Wish{Count: int(request.ChunkCount), Replication: int(replication),
			Size: roomFor(request.ChunkBytesMax, chunkSize), Exclude: request.ExcludeNodes})
	if err != nil {
		return nil, err
	}
	return state.log(record)
}

// roomFor is how many bytes a node must have free for a chunk whose writer knows how much it gets at most; 0: it
// does not.
func roomFor(known, chunkSize int64) int64 {
	if known > 0 {
		return min(known, chunkSize)
	}
	return chunkSize
}

func rename(state *State, request *Rename) (any, *fault.Error) {
	at, to := where{"rename", request.Source}, where{"rename", request.Target}
	if err := cmp.Or(limits.CheckPath(at.op, request.Source), limits.CheckPath(at.op, request.Target)); err != nil {
		return nil, err
	}
	switch request.Source {
	case "/":
		return nil, at.refuse(fault.Invalid, "", "the root directory cannot be renamed")
	case trash.Root:
		return nil, at.refuse(fault.Invalid, "move what is in it", "the trash cannot be renamed")
	}
	if err := cmp.Or(expired(at), reserved(to)); err != nil {
		return nil, err
	}
	slot, err := state.find(at)
	if err != nil {
		return nil, err
	}
	if request.Source == request.Target {
		return &RenameResult{}, nil
	}
	inode := state.tree.Inode(slot)
	if inode.Directory() && namespace.Within(request.Target, request.Source) {
		return nil, at.refuse(fault.Invalid, "", "a directory cannot move below itself, to %q", request.Target)
	}
	target, err := state.tree.FindTarget(at.op, request.Target, false)
	if err != nil {
		return nil, err
	}
	var replaced uint64
	if target.Existing != 0 {
		if inode.Directory() {
			e := to.exists(state.tree.Inode(target.Existing))
			e.Hint = "a directory replaces nothing; choose another name"
			return nil, e
		}
		if replaced, err = state.replaceable(to, target.Existing, request.Overwrite); err != nil {
			return nil, err
		}
	}
	_, sourceName := namespace.SplitPath(request.Source)
	return state.log(&codec.RenameRecord{Prefix: state.prefix(), Inode: inode.ID(),
		SourceParent: inode.Parent(), SourceName: sourceName, TargetParent: state.tree.Inode(target.Parent).ID(),
		TargetName: target.Name, Replaced: replaced})
}

func remove(state *State, request *Remove) (any, *fault.Error) {
	at := where{"remove", request.Path}
	slot, err := state.find(at)
	if err != nil {
		return nil, err
	}
	if request.Path == "/" {
		return nil, at.refuse(fault.Invalid, "remove its entries", "the root directory cannot be removed")
	}
	inode := state.tree.Inode(slot)
	if inode.Directory() && !request.Recursive && inode.Length() > 0 {
		return nil, at.refuse(fault.NotEmpty, "remove it recursively", "the directory has %d entries", inode.Length())
	}
	if request.ToTrash && state.config.TrashExpiry > 0 && !trash.Within(request.Path) {
		return toTrash(state, at, inode, request.User)
	}
	_, name := namespace.SplitPath(request.Path)
	return state.log(&codec.RemoveRecord{Prefix: state.prefix(), Inode: inode.ID(), Parent: inode.Parent(), Name: name})
}

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

func (s *State) info(slot namespace.InodeSlot, name string) FileInfo {
	inode := s.tree.Inode(slot)
	f := FileInfo{Name: name, FileID: inode.ID(), Directory: inode.Directory(), Created: inode.Created(),
		Modified: inode.Modified()}
	if f.Directory {
		f.Children = uint64(inode.Length())
		return f
	}
	f.Length, f.ChunkSize, f.Replication = inode.Length(), inode.ChunkSize(), uint32(inode.Replication())
	f.Open = s.leases.Of(f.FileID) != nil
	return f
}

// find walks a path that must exist, and notes what a reply depends on.
func (s *State) find(at where) (namespace.InodeSlot, *fault.Error) {
	if err := limits.CheckPath(at.op, at.path); err != nil {
		return 0, err
	}
	if s.clusterID == "" {
		return 0, fault.New(fault.NotActive, at.op, "this namenode has no state yet")
	}
	walk := s.tree.Lookup(at.path)
	s.dependOn(walk.Txid)
	if !walk.Found {
		return 0, s.tree.Missing(at.op, at.path, walk)
	}
	return walk.Slot, nil
}

func (s *State) findFile(at where) (namespace.InodeSlot, *fault.Error) {
	slot, err := s.find(at)
	if err == nil && s.tree.Inode(slot).Directory() {
		return 0, at.refuse(fault.IsDirectory, "", "a file is wanted")
	}
	return slot, err
}

// dependOn holds the reply back until a txid is durable.
func (s *State) dependOn(txid uint64) {
	s.effects.Reply.AfterTxid = max(s.effects.Reply.AfterTxid, txid)
}

func setReplication(state *State, request *SetReplication) (any, *fault.Error) {
	at := where{"set replication", request.Path}
	slot, err := state.findFile(at)
	if err != nil {
		return nil, err
	}
	if err := expired(at); err != nil {
		return nil, err
	}
	inode := state.tree.Inode(slot)
	_, name := namespace.SplitPath(request.Path)
	switch problem := limits.CheckReplication(request.Replication); {
	case problem != "" || request.Replication == 0:
		return nil, at.refuse(fault.Invalid, "", "%s", cmp.Or(problem, "replication 0"))
	case state.leases.Of(inode.ID()) != nil:
		return nil, state.leaseHeld(at, state.leases.Of(inode.ID()))
	case inode.Replication() == int(request.Replication):
		return &SetReplicationResult{Info: state.info(slot, name)}, nil
	}
	return state.log(&codec.ReplicationRecord{Prefix: state.prefix(), File: inode.ID(), Name: name,
		Replication: uint8(request.Replication)})
}
