package actor

import (
	"slices"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Reads change nothing durable. Each notes in Reply.AfterTxid the latest record
// among the inodes that it saw, so that it waits for those and for no others.

// saw makes the reply wait for an inode's last change.
func (s *State) saw(i *inode) {
	s.effects.Reply.AfterTxid = max(s.effects.Reply.AfterTxid, i.txid)
}

func (s *State) list(r *List) (any, *fault.Error) {
	const op = "list"
	slot, err := s.find(op, r.Path)
	if err != nil {
		return nil, err
	}
	i := s.inodes.at(slot)
	if !i.directory() {
		return nil, &fault.Error{Kind: fault.NotDirectory, Op: op, Path: r.Path, Reason: "a directory is wanted"}
	}
	if r.After != "" {
		if reason := checkName(r.After); reason != "" {
			return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: "the name to go on after: " + reason}
		}
	}
	limit := int(r.Limit)
	if limit == 0 || limit > listLimitMax {
		limit = listLimitMax
	}
	result := &ListResult{Entries: make([]FileInfo, 0, min(limit, int(i.length)))}
	after := entryKey(i.id, r.After)
	s.entries.Ascend(after, func(key string, child uint32) bool {
		switch {
		case entryDirectory(key) != i.id:
			return false
		case r.After != "" && key == after:
			return true
		case len(result.Entries) == limit:
			result.More = true
			return false
		}
		s.saw(s.inodes.at(child))
		result.Entries = append(result.Entries, s.info(child, key[8:]))
		return true
	})
	return result, nil
}

func (s *State) stat(r *Stat) (any, *fault.Error) {
	slot, err := s.find("stat", r.Path)
	if err != nil {
		return nil, err
	}
	_, name := splitPath(r.Path)
	result := &StatResult{Info: s.info(slot, name)}
	if o := s.open[result.Info.FileID]; o != nil {
		result.Holder, result.Since = o.holder, o.since
	}
	return result, nil
}

func (s *State) locate(r *Locate) (any, *fault.Error) {
	const op = "locate"
	slot, name, err := s.locateFile(op, r)
	if err != nil {
		return nil, err
	}
	if r.Offset < 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: "the offset is negative"}
	}
	s.saw(s.inodes.at(slot))
	result := &LocateResult{Info: s.info(slot, name)}
	size, chunks := s.inodes.at(slot).chunkSize(), s.inodes.at(slot).chunks
	if r.Offset/size >= int64(chunks) {
		return result, nil
	}
	first := uint32(r.Offset / size)
	end := chunks
	if rest := int64(chunks)*size - r.Offset; r.Length > 0 && r.Length < rest {
		end = uint32((r.Offset+r.Length-1)/size) + 1
	}
	end = min(end, first+locateMax)
	result.Chunks = make([]LocatedChunk, 0, end-first)
	at := s.chunkAt(slot, first)
	for index := first; index < end && at != 0; index++ {
		result.Chunks = append(result.Chunks, s.locatedForReader(at))
		at = s.chunks.at(at).next
	}
	return result, nil
}

// locateFile finds the file of a Locate, by path or by id.
func (s *State) locateFile(op string, r *Locate) (slot uint32, name string, err *fault.Error) {
	if r.Path != "" {
		slot, err = s.findFile(op, r.Path)
		_, name = splitPath(r.Path)
		return slot, name, err
	}
	slot = s.inodeOf(r.FileID)
	switch {
	case slot == 0:
		return 0, "", fault.New(fault.NotFound, op, "no file has the id %d", r.FileID)
	case s.inodes.at(slot).directory():
		return 0, "", fault.New(fault.IsDirectory, op, "the id %d is a directory's", r.FileID)
	}
	return slot, "", nil
}

// locatedForReader describes a chunk with its replicas, best first.
func (s *State) locatedForReader(slot uint32) LocatedChunk {
	c := s.chunks.at(slot)
	var nodes []uint16
	if c.open() {
		nodes = s.openHolders(slot)
	} else {
		nodes = slices.Clone(s.locationsOf(slot))
	}
	if len(nodes) == 0 { // a reader that finds them bad can say what is wrong, and where
		for _, o := range s.odd[c.id] {
			if o.bad() && o.generation == c.generation {
				nodes = append(nodes, o.node)
			}
		}
	}
	s.shuffleByLoad(nodes)
	return LocatedChunk{
		Chunk: c.id, Generation: chunk.Generation(c.generation), Index: c.index, Offset: s.chunkOffset(c),
		Length: c.length(), Open: c.open(), Replicas: s.replicasOf(nodes),
	}
}

func (s *State) summary(r *Summary) (any, *fault.Error) {
	slot, err := s.find("summary", r.Path)
	if err != nil {
		return nil, err
	}
	result := &SummaryResult{}
	for stack := []uint32{slot}; len(stack) > 0; {
		i := s.inodes.at(stack[len(stack)-1])
		stack = stack[:len(stack)-1]
		s.saw(i)
		if !i.directory() {
			result.Files++
			result.Bytes += i.length
			result.StoredBytes += i.length * int64(i.replication)
			result.Chunks += uint64(i.chunks)
			continue
		}
		result.Directories++
		s.entries.Ascend(entryKey(i.id, ""), func(key string, child uint32) bool {
			if entryDirectory(key) != i.id {
				return false
			}
			stack = append(stack, child)
			return true
		})
	}
	return result, nil
}

// reportBadReplica takes a reader's word that a replica's bytes are bad: it is
// read no more, and replaced from a good one. Its node is told nothing here; the
// replica is deleted only under the rules of deletion.go.
func (s *State) reportBadReplica(r *ReportBadReplica) (any, *fault.Error) {
	const op = "report bad replica"
	if !s.active {
		return nil, s.notActive(op)
	}
	slot, n := s.chunkSlot[r.Chunk], s.nodeIndex[r.NodeID]
	refuse := func(kind fault.Kind, reason string) (any, *fault.Error) {
		return nil, &fault.Error{Kind: kind, Op: op, Chunk: r.Chunk.String(), Node: clip(r.NodeID, 64), Reason: reason}
	}
	switch {
	case slot == 0:
		return refuse(fault.NotFound, "no file has this chunk")
	case n == 0:
		return refuse(fault.NotFound, "no datanode has this id")
	}
	c := s.chunks.at(slot)
	if c.open() || uint64(r.Generation) != c.generation || !slices.Contains(s.locationsOf(slot), n) {
		return &ReportBadReplicaResult{}, nil // it is not read any more as it was
	}
	s.removeLocation(slot, n)
	s.setOdd(c.id, oddReplica{node: n, state: chunk.Sealed, generation: c.generation, length: c.length(), blamed: true})
	s.event(Event{Kind: EventBadReplica, NodeID: r.NodeID, Chunk: c.id, Text: clip(r.Reason, 256)})
	return &ReportBadReplicaResult{}, nil
}

func (s *State) clusterStatus() (any, *fault.Error) {
	r := &ClusterStatusResult{
		ClusterID: s.clusterID, Epoch: s.epoch, Txid: s.txid,
		SafeMode: s.safe.on || !s.active, SafeModeReason: s.safeModeReason(),
		Nodes: make([]NodeStatus, 0, len(s.nodes)-1),
		Files: s.files, Directories: s.directories, Chunks: uint64(s.chunks.count),
		UnderReplicated: uint64(s.repair.Len()), Missing: s.missing, CorruptReplicas: s.corrupt,
		OpenFiles: uint64(len(s.open)), Version: s.config.Version,
		DefReplication: s.config.DefaultReplication, DefaultChunkSize: s.config.DefaultChunkSize,
	}
	for _, n := range s.nodes[1:] {
		age := time.Duration(-1)
		if n.heard > 0 || n.connected {
			age = s.mono - n.heard
		}
		r.Nodes = append(r.Nodes, NodeStatus{
			NodeID: n.id, Address: n.address, Live: n.liveness == nodeLive,
			CapacityBytes: n.capacity, FreeBytes: n.free, UsedBytes: max(n.capacity-n.free, 0), Replicas: n.replicas,
			ActiveWrites: n.load.ActiveWrites, ActiveReads: n.load.ActiveReads, LastHeartbeatAge: age, Version: n.version,
		})
	}
	return r, nil
}
