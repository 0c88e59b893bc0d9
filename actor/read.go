package actor

import (
	"cmp"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Reads answer from memory, which may be ahead of the log. Each reply carries the txid of the latest change among the
// inodes that it looked at, path elements included; a change of a directory's entries or of a file's chunks counts as a
// change of the directory or file. Where that would be costly (Summary, ClusterStatus) it carries the last txid.

func list(state *State, request *List) (any, *fault.Error) {
	at := where{"list", request.Path}
	slot, err := state.find(at)
	if err != nil {
		return nil, err
	}
	directory := *state.tree.Inode(slot)
	if !directory.Directory() {
		return nil, at.refuse(fault.NotDirectory, "", "a directory is wanted, this is a file")
	}
	if len(request.After) > limits.NameBytesMax {
		return nil, fault.New(fault.Invalid, at.op, "the name to go on after has %d bytes, names have at most %d",
			len(request.After), limits.NameBytesMax)
	}
	limit := int(min(cmp.Or(request.Limit, limits.EntriesPerListMax), limits.EntriesPerListMax))
	result := &ListResult{Entries: make([]FileInfo, 0, min(limit, int(directory.Length())))}
	state.tree.Children(directory.ID(), request.After, func(name string, child namespace.InodeSlot) bool {
		if request.After != "" && name == request.After {
			return true
		}
		if len(result.Entries) == limit {
			result.More = true
			return false
		}
		state.dependOn(state.tree.Inode(child).Txid())
		result.Entries = append(result.Entries, state.info(child, name))
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

func locate(state *State, request *Locate) (any, *fault.Error) {
	at := where{"locate", request.Path}
	var slot namespace.InodeSlot
	var name string
	switch {
	case request.Path != "" && request.FileID != 0:
		return nil, at.refuse(fault.Invalid, "", "both path and file id are set")
	case request.Path != "":
		var err *fault.Error
		if slot, err = state.findFile(at); err != nil {
			return nil, err
		}
		_, name = namespace.SplitPath(request.Path)
	default:
		slot = state.tree.Find(request.FileID)
		if slot == 0 || state.tree.Inode(slot).Directory() {
			return nil, fault.New(fault.NotFound, at.op, "file %d does not exist", request.FileID)
		}
		state.dependOn(state.tree.Inode(slot).Txid())
		if o := state.leases.Of(request.FileID); o != nil {
			name = o.Leaf
		}
	}
	i := *state.tree.Inode(slot)
	if request.Offset < 0 {
		return nil, at.refuse(fault.Invalid, "", "offset %d is below 0", request.Offset)
	}
	result := &LocateResult{Info: state.info(slot, name)}
	size := i.ChunkSize()
	if request.Offset/size >= int64(i.Chunks()) {
		return result, nil
	}
	first, last := uint32(request.Offset/size), i.Chunks()-1
	if request.Length > 0 && request.Length <= int64(i.Chunks())*size-request.Offset {
		last = min(last, uint32((request.Offset+request.Length-1)/size))
	}
	last = min(last, first+locateMax-1)
	result.Chunks = make([]LocatedChunk, 0, last-first+1)
	for slot := state.files.At(slot, first); slot != 0 &&
		state.files.Chunk(slot).Index() <= last; slot = state.files.Chunk(slot).Next() {
		result.Chunks = append(result.Chunks, state.located(slot))
	}
	return result, nil
}

// located describes a chunk to a reader, best replica first.
func (s *State) located(slot namespace.ChunkSlot) LocatedChunk {
	located := s.newChunk(slot, nil)
	located.Replicas = s.replicas.OpenChunks.Readable(slot)
	if located.Open = s.files.Chunk(slot).Open(); located.Open {
		// Until the pipeline stands, members still hold the generation before.
		located.Generation = s.files.OpenChunk(slot).Minimum
	}
	return located
}

func summary(state *State, r *Summary) (any, *fault.Error) {
	slot, err := state.find(where{"summary", r.Path})
	if err != nil {
		return nil, err
	}
	state.effects.Reply.AfterTxid = state.step.Txid
	result := &SummaryResult{}
	for stack := []namespace.InodeSlot{slot}; len(stack) > 0; {
		slot := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		i := state.tree.Inode(slot)
		if !i.Directory() {
			result.Files++
			result.Bytes += i.Length()
			result.StoredBytes += i.Length() * int64(i.Replication())
			result.Chunks += uint64(i.Chunks())
			continue
		}
		result.Directories++
		state.tree.Children(i.ID(), "", func(_ string, child namespace.InodeSlot) bool {
			stack = append(stack, child)
			return true
		})
	}
	return result, nil
}

func clusterStatus(s *State) (any, *fault.Error) {
	s.effects.Reply.AfterTxid = s.step.Txid
	totals := s.tree.Totals()
	return &ClusterStatusResult{ClusterID: s.clusterID, Epoch: s.epoch, Txid: s.step.Txid,
		SafeMode: s.replicas.SafeMode.On(), SafeModeReason: s.replicas.SafeMode.Reason(),
		Nodes: s.replicas.Nodes.Status(),
		Files: totals.Files, Directories: totals.Directories, Chunks: uint64(s.files.Chunks()),
		Overview:  s.replicas.Overview(),
		OpenFiles: uint64(s.leases.Count()), Version: s.config.Version,
		DefaultReplication: s.config.DefaultReplication, DefaultChunkSize: s.config.DefaultChunkSize}, nil
}
