package actor

import (
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Reads answer from memory, which may be ahead of the log. Each reply carries
// the txid of the latest change among the inodes that it looked at, path
// elements included; a change of a directory's entries or of a file's chunks
// counts as a change of the directory or file. Where that would be costly
// (Summary, ClusterStatus) it carries the last txid.

func list(s *State, r *List) (any, *fault.Error) {
	at := where{"list", r.Path}
	slot, err := s.find(at)
	if err != nil {
		return nil, err
	}
	directory := *s.tree.Inode(slot)
	if !directory.Directory() {
		return nil, at.refuse(fault.NotDirectory, "", "a directory is wanted, this is a file")
	}
	if len(r.After) > limits.NameBytesMax {
		return nil, fault.New(fault.Invalid, at.op, "the name to go on after has %d bytes, names have at most %d", len(r.After), limits.NameBytesMax)
	}
	limit := int(min(r.Limit, limits.EntriesPerListMax))
	if limit == 0 {
		limit = limits.EntriesPerListMax
	}
	result := &ListResult{Entries: make([]FileInfo, 0, min(limit, int(directory.Length())))}
	s.tree.Children(directory.ID(), r.After, func(name string, child namespace.InodeSlot) bool {
		if r.After != "" && name == r.After {
			return true
		}
		if len(result.Entries) == limit {
			result.More = true
			return false
		}
		s.dependOn(s.tree.Inode(child).Txid())
		result.Entries = append(result.Entries, s.info(child, name))
		return true
	})
	return result, nil
}

func stat(s *State, r *Stat) (any, *fault.Error) {
	slot, err := s.find(where{"stat", r.Path})
	if err != nil {
		return nil, err
	}
	_, name := namespace.SplitPath(r.Path)
	result := &StatResult{Info: s.info(slot, name)}
	if o := s.leases.Of(result.Info.FileID); o != nil {
		result.Holder, result.Since = o.HolderName(), o.Since
	}
	return result, nil
}

func locate(s *State, r *Locate) (any, *fault.Error) {
	at := where{"locate", r.Path}
	var slot namespace.InodeSlot
	var name string
	switch {
	case r.Path != "" && r.FileID != 0:
		return nil, at.refuse(fault.Invalid, "", "both path and file id are set")
	case r.Path != "":
		var err *fault.Error
		if slot, err = s.findFile(at); err != nil {
			return nil, err
		}
		_, name = namespace.SplitPath(r.Path)
	default:
		slot = s.tree.Find(r.FileID)
		if slot == 0 || s.tree.Inode(slot).Directory() {
			return nil, fault.New(fault.NotFound, at.op, "file %d does not exist", r.FileID)
		}
		s.dependOn(s.tree.Inode(slot).Txid())
		if o := s.leases.Of(r.FileID); o != nil {
			name = o.Leaf
		}
	}
	i := *s.tree.Inode(slot)
	if r.Offset < 0 {
		return nil, at.refuse(fault.Invalid, "", "offset %d is below 0", r.Offset)
	}
	result := &LocateResult{Info: s.info(slot, name)}
	size := i.ChunkSize()
	if r.Offset/size >= int64(i.Chunks()) {
		return result, nil
	}
	first, last := uint32(r.Offset/size), i.Chunks()-1
	if r.Length > 0 && r.Length <= int64(i.Chunks())*size-r.Offset {
		last = min(last, uint32((r.Offset+r.Length-1)/size))
	}
	if last-first >= locateMax {
		last = first + locateMax - 1
	}
	result.Chunks = make([]LocatedChunk, 0, last-first+1)
	for k := s.files.At(slot, first); k != 0 && s.files.Chunk(k).Index() <= last; k = s.files.Chunk(k).Next() {
		result.Chunks = append(result.Chunks, s.located(k))
	}
	return result, nil
}

// locateChunk describes a chunk to a reader, best replica first.
func (s *State) located(slot namespace.ChunkSlot) LocatedChunk {
	c := s.files.Chunk(slot)
	located := LocatedChunk{Chunk: c.ID(), Generation: c.Generation(), Index: c.Index(),
		Offset: s.files.Offset(c), Length: c.Length(), Open: c.Open(), Replicas: s.replicas.OpenChunks.Readable(slot)}
	if c.Open() {
		// Until the pipeline stands, members still hold the generation before.
		located.Generation = s.files.OpenChunk(slot).Minimum
	}
	return located
}

func summary(s *State, r *Summary) (any, *fault.Error) {
	slot, err := s.find(where{"summary", r.Path})
	if err != nil {
		return nil, err
	}
	s.effects.Reply.AfterTxid = s.step.Txid
	result := &SummaryResult{}
	for stack := []namespace.InodeSlot{slot}; len(stack) > 0; {
		slot := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		i := s.tree.Inode(slot)
		if !i.Directory() {
			result.Files++
			result.Bytes += i.Length()
			result.StoredBytes += i.Length() * int64(i.Replication())
			result.Chunks += uint64(i.Chunks())
			continue
		}
		result.Directories++
		s.tree.Children(i.ID(), "", func(_ string, child namespace.InodeSlot) bool {
			stack = append(stack, child)
			return true
		})
	}
	return result, nil
}

func clusterStatus(s *State) (any, *fault.Error) {
	s.effects.Reply.AfterTxid = s.step.Txid
	totals, counts := s.tree.Totals(), s.replicas.Counts()
	return &ClusterStatusResult{ClusterID: s.clusterID, Epoch: s.epoch, Txid: s.step.Txid,
		SafeMode: s.replicas.SafeMode.On(), SafeModeReason: s.replicas.SafeMode.Reason(), Nodes: s.replicas.Nodes.Status(),
		Files: totals.Files, Directories: totals.Directories, Chunks: uint64(s.files.Chunks()),
		UnderReplicated: counts.UnderReplicated, Missing: counts.Missing, CorruptReplicas: counts.Unusable,
		OpenFiles: uint64(s.leases.Count()), Version: s.config.Version,
		DefaultReplication: s.config.DefaultReplication, DefaultChunkSize: s.config.DefaultChunkSize}, nil
}
