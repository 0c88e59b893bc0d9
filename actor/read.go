package actor

import (
	"fmt"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Reads answer from memory, which may be ahead of the log. Each reply carries
// the txid of the latest change among the inodes that it looked at, path
// elements included; a change of a directory's entries or of a file's chunks
// counts as a change of the directory or file. Where that would be costly
// (Summary, ClusterStatus) it carries the last txid.

func (s *State) dependOn(slot namespace.InodeSlot) {
	s.effects.Reply.AfterTxid = max(s.effects.Reply.AfterTxid, s.tree.Inode(slot).Txid())
}

func (s *State) list(r *List) (any, *fault.Error) {
	const op = "list"
	slot, err := s.find(op, r.Path)
	if err != nil {
		return nil, err
	}
	directory := *s.tree.Inode(slot)
	if !directory.Directory() {
		return nil, &fault.Error{Kind: fault.NotDirectory, Op: op, Path: r.Path, Reason: "a directory is wanted, this is a file"}
	}
	if len(r.After) > limits.NameBytesMax {
		return nil, fault.New(fault.Invalid, op, "the name to go on after has %d bytes, names have at most %d", len(r.After), limits.NameBytesMax)
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
		s.dependOn(child)
		result.Entries = append(result.Entries, s.info(child, name))
		return true
	})
	return result, nil
}

func (s *State) stat(r *Stat) (any, *fault.Error) {
	slot, err := s.find("stat", r.Path)
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

func (s *State) locate(r *Locate) (any, *fault.Error) {
	const op = "locate"
	var slot namespace.InodeSlot
	var name string
	switch {
	case r.Path != "" && r.FileID != 0:
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: "both path and file id are set"}
	case r.Path != "":
		var err *fault.Error
		if slot, err = s.findFile(op, r.Path); err != nil {
			return nil, err
		}
		_, name = namespace.SplitPath(r.Path)
	default:
		slot = s.tree.Find(r.FileID)
		if slot == 0 || s.tree.Inode(slot).Directory() {
			return nil, fault.New(fault.NotFound, op, "file %d does not exist", r.FileID)
		}
		s.dependOn(slot)
		if o := s.leases.Of(r.FileID); o != nil {
			name = o.Leaf
		}
	}
	i := *s.tree.Inode(slot)
	if r.Offset < 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: fmt.Sprintf("offset %d is below 0", r.Offset)}
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
		result.Chunks = append(result.Chunks, s.locateChunk(k))
	}
	return result, nil
}

// locateChunk describes a chunk to a reader, best replica first.
func (s *State) locateChunk(slot namespace.ChunkSlot) LocatedChunk {
	c := s.files.Chunk(slot)
	located := LocatedChunk{Chunk: c.ID(), Generation: c.Generation(), Index: c.Index(),
		Offset: s.files.Offset(c), Length: c.Length(), Open: c.Open(), Replicas: s.replicas.OpenChunks.Readable(slot)}
	if c.Open() {
		// Until the pipeline stands, members still hold the generation before.
		located.Generation = s.files.OpenChunk(slot).Minimum
	}
	return located
}

func (s *State) summary(r *Summary) (any, *fault.Error) {
	slot, err := s.find("summary", r.Path)
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

func (s *State) clusterStatus() (any, *fault.Error) {
	s.effects.Reply.AfterTxid = s.step.Txid
	totals, counts := s.tree.Totals(), s.replicas.Counts()
	return &ClusterStatusResult{ClusterID: s.clusterID, Epoch: s.epoch, Txid: s.step.Txid,
		SafeMode: s.replicas.SafeMode.On(), SafeModeReason: s.replicas.SafeMode.Reason(), Nodes: s.replicas.Nodes.Status(),
		Files: totals.Files, Directories: totals.Directories, Chunks: uint64(s.files.Chunks()),
		UnderReplicated: counts.UnderReplicated, Missing: counts.Missing, CorruptReplicas: counts.Unusable,
		OpenFiles: uint64(s.leases.Count()), Version: s.config.Version,
		DefaultReplication: s.config.DefaultReplication, DefaultChunkSize: s.config.DefaultChunkSize}, nil
}
