package actor

import (
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/limits"
)

func (r *formatRecord) apply(s *State) (any, error) {
	if r.ClusterID == "" || len(r.ClusterID) > nodeNameBytesMax {
		return nil, namespace.Inconsistent("cluster id of %d bytes", len(r.ClusterID))
	}
	s.clusterID = r.ClusterID
	s.created = s.time
	s.tree.Add(namespace.Attributes{ID: namespace.RootID, Created: s.time, Modified: s.time, Flags: namespace.FlagDirectory})
	return &FormatResult{ClusterID: r.ClusterID}, nil
}

func (r *epochRecord) apply(s *State) (any, error) {
	if r.Epoch <= s.epoch {
		return nil, namespace.Inconsistent("epoch %d follows %d", r.Epoch, s.epoch)
	}
	s.epoch = r.Epoch
	return &BecomeActiveResult{Epoch: r.Epoch}, nil
}

func (r *nodeRecord) apply(s *State) (any, error) {
	if known := s.nodeIndex[r.ID]; known != 0 {
		if known != r.Index {
			return nil, namespace.Inconsistent("node %q has index %d, not %d", r.ID, known, r.Index)
		}
		s.nodes[known].address = r.Address
		return &RegisterResult{ClusterID: s.clusterID}, nil
	}
	if int(r.Index) != len(s.nodes) || r.Index > nodesMax || r.ID == "" || len(r.ID) > nodeNameBytesMax {
		return nil, namespace.Inconsistent("node %q gets index %d of %d", r.ID, r.Index, len(s.nodes))
	}
	s.nodes = append(s.nodes, newNode(r.Index, r.ID, r.Address))
	s.nodeIndex[r.ID] = r.Index
	return &RegisterResult{ClusterID: s.clusterID}, nil
}

// openFileOf finds a file with a lease that a record names.
func (s *State) openFileOf(id uint64) (namespace.InodeSlot, *leases.Lease, error) {
	slot, err := s.tree.File(id)
	o := s.leases.Of(id)
	if err == nil && o == nil {
		err = namespace.Inconsistent("file %d is closed", id)
	}
	return slot, o, err
}

func (r *mkdirRecord) apply(s *State) (any, error) {
	parent, err := s.tree.Directory(r.Parent)
	if err != nil {
		return nil, err
	}
	if len(r.Names) == 0 {
		return nil, namespace.Inconsistent("no name")
	}
	if err := s.tree.CheckNew(r.FirstID, r.Names); err != nil {
		return nil, err
	}
	if err := s.tree.CheckFree(parent, r.Names[0], 0); err != nil {
		return nil, err
	}
	slot := s.tree.MakeDirectories(parent, r.FirstID, r.Names)
	return &MkdirResult{Info: s.info(slot, r.Names[len(r.Names)-1])}, nil
}

// checkPlacements checks new chunks of a record.
func (s *State) checkPlacements(placements []placement) error {
	for n, p := range placements {
		if p.ID.IsZero() || s.files.Find(p.ID) != 0 {
			return namespace.Inconsistent("chunk id %s is not new", p.ID)
		}
		for _, q := range placements[:n] {
			if p.ID == q.ID {
				return namespace.Inconsistent("chunk id %s is there twice", p.ID)
			}
		}
		if err := s.checkNodes(p.Nodes); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkNodes(nodes []uint16) error {
	if len(nodes) > nodesPerCallMax {
		return namespace.Inconsistent("%d nodes", len(nodes))
	}
	for _, n := range nodes {
		if n == 0 || int(n) >= len(s.nodes) {
			return namespace.Inconsistent("node index %d is not known", n)
		}
	}
	return nil
}

func (r *createRecord) apply(s *State) (any, error) {
	parent, err := s.tree.Directory(r.Parent)
	if err != nil {
		return nil, err
	}
	if err := s.tree.CheckNew(r.FirstID, r.Directories); err != nil {
		return nil, err
	}
	first := r.Name
	if len(r.Directories) > 0 {
		first = r.Directories[0]
		if r.Replaced != 0 {
			return nil, namespace.Inconsistent("replaces a file in a new directory")
		}
	}
	switch {
	case r.Head.Client == (ClientID{}):
		return nil, namespace.Inconsistent("a lease for no client")
	case r.Hidden && limits.CheckPath("create", r.Path) != nil:
		return nil, namespace.Inconsistent("path of a hidden file")
	case limits.CheckName(r.Name) != "":
		return nil, namespace.Inconsistent("name: %s", limits.CheckName(r.Name))
	case len(r.Directories) > 0 || !r.Hidden:
		if err := s.tree.CheckFree(parent, first, r.Replaced); err != nil {
			return nil, err
		}
	}
	if r.Replication == 0 || r.Replication > replicationMax || limits.CheckChunkSize(int64(r.Blocks)*chunk.ChecksumBlockBytes) != "" {
		return nil, namespace.Inconsistent("replication %d, chunk size of %d blocks", r.Replication, r.Blocks)
	}
	if err := s.checkPlacements(r.Chunks); err != nil {
		return nil, err
	}
	if r.Replaced != 0 {
		s.replace(parent, r.Name)
	}
	parent = s.tree.MakeDirectories(parent, r.FirstID, r.Directories)
	id := r.FirstID + uint64(len(r.Directories))
	i := namespace.Attributes{ID: id, Created: s.time, Modified: s.time, Blocks: r.Blocks, Replication: r.Replication}
	o := &leases.Lease{Client: r.Head.Client, Holder: r.Holder, Since: s.time, Leaf: r.Name}
	if r.Hidden {
		i.Flags |= namespace.FlagHidden
		o.Path, o.Overwrite = r.Path, r.Overwrite
	}
	slot := s.tree.Add(i)
	if !r.Hidden {
		s.tree.Attach(parent, r.Name, slot)
	}
	s.leases.Grant(id, o, s.mono)
	chunks := s.addChunks(slot, r.Chunks)
	return &CreateResult{Info: s.info(slot, r.Name), Chunks: chunks}, nil
}

// replace removes the file at an entry, which CheckFree checked.
func (s *State) replace(directory namespace.InodeSlot, name string) {
	slot, _ := s.tree.Entry(s.tree.Inode(directory).ID(), name)
	s.tree.Detach(directory, name, slot)
	s.dropFile(slot)
}

// addChunks allocates chunks at a file's end and describes them to the writer.
func (s *State) addChunks(file namespace.InodeSlot, placements []placement) []LocatedChunk {
	if len(placements) == 0 {
		return nil
	}
	located := make([]LocatedChunk, 0, len(placements))
	for _, p := range placements {
		located = append(located, s.newChunk(s.files.Add(file, p.ID, p.Nodes), p.Nodes))
	}
	return located
}

// newChunk describes a chunk to the writer that asked for it.
func (s *State) newChunk(slot namespace.ChunkSlot, members []uint16) LocatedChunk {
	c := s.files.Chunk(slot)
	return LocatedChunk{Chunk: c.ID(), Generation: c.Generation(), Index: c.Index(), Offset: s.files.Offset(c), Length: c.Length(), Open: true,
		Replicas: s.replicasOf(members)}
}

// replicasOf names nodes for a message or result.
func (s *State) replicasOf(nodes []uint16) []chunk.Location {
	if len(nodes) == 0 {
		return nil
	}
	replicas := make([]chunk.Location, len(nodes))
	for i, n := range nodes {
		replicas[i] = chunk.Location{NodeID: s.nodes[n].id, Address: s.nodes[n].address}
	}
	return replicas
}

// applyCommits seals the chunks of a record.
func (s *State) applyCommits(file namespace.InodeSlot, commits []sealing) error {
	for _, c := range commits {
		if err := s.files.SealAt(file, c.Index, chunk.Generation(c.Generation), int64(c.Length)); err != nil {
			return err
		}
	}
	return nil
}

func (r *addChunksRecord) apply(s *State) (any, error) {
	slot, _, err := s.openFileOf(r.File)
	if err != nil {
		return nil, err
	}
	if err := s.checkPlacements(r.Chunks); err != nil {
		return nil, err
	}
	if err := s.applyCommits(slot, r.Commits); err != nil {
		return nil, err
	}
	s.tree.Modify(slot)
	if !r.Replace {
		return &AddChunksResult{Chunks: s.addChunks(slot, r.Chunks)}, nil
	}
	old := s.files.At(slot, r.Index)
	if old == 0 || !s.files.Chunk(old).Open() || len(r.Chunks) != 1 {
		return nil, namespace.Inconsistent("chunk %d cannot be replaced", r.Index)
	}
	replacement := s.files.Replace(slot, r.Index, r.Chunks[0].ID, r.Chunks[0].Nodes)
	return &AddChunksResult{Chunks: []LocatedChunk{s.newChunk(replacement, r.Chunks[0].Nodes)}}, nil
}

func (r *completeRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r.File)
	if err != nil {
		return nil, err
	}
	s.files.Keep(slot, r.Keep)
	if err := s.applyCommits(slot, r.Commits); err != nil {
		return nil, err
	}
	if s.files.FirstOpen(slot) != 0 {
		return nil, namespace.Inconsistent("file %d has an open chunk", r.File)
	}
	if s.tree.Inode(slot).Hidden() {
		parent, err := s.tree.Directory(r.Parent)
		if err != nil {
			return nil, err
		}
		if err := s.tree.CheckFree(parent, r.Name, r.Replaced); err != nil {
			return nil, err
		}
		if r.Replaced != 0 {
			s.replace(parent, r.Name)
		}
		s.tree.Attach(parent, r.Name, slot)
	}
	leaf := o.Leaf
	s.closeFile(slot)
	return &CompleteResult{Info: s.info(slot, leaf)}, nil
}

func (r *abandonRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r.File)
	if err != nil {
		return nil, err
	}
	if i := s.tree.Inode(slot); !i.Hidden() {
		parent, err := s.tree.Directory(i.Parent())
		if err != nil {
			return nil, err
		}
		s.tree.Detach(parent, o.Leaf, slot)
	}
	s.dropFile(slot)
	return &AbandonResult{}, nil
}

func (r *appendRecord) apply(s *State) (any, error) {
	slot, err := s.tree.File(r.File)
	if err != nil {
		return nil, err
	}
	i := *s.tree.Inode(slot)
	if s.leases.Of(r.File) != nil || i.Hidden() || r.Head.Client == (ClientID{}) {
		return nil, namespace.Inconsistent("file %d is open, or no client opens it", r.File)
	}
	if err := s.checkNodes(r.Members); err != nil {
		return nil, err
	}
	leaf := r.Name
	s.leases.Grant(r.File, &leases.Lease{Client: r.Head.Client, Holder: r.Holder, Since: s.time, Leaf: leaf}, s.mono)
	s.tree.Touch(slot)
	result := &AppendResult{}
	if r.Reopen {
		last, generation := i.Last(), chunk.Generation(r.Generation)
		if last == 0 || s.files.Chunk(last).Open() || generation <= s.files.Chunk(last).Promised() {
			return nil, namespace.Inconsistent("last chunk cannot be reopened under generation %d", r.Generation)
		}
		result.HasLast = true
		result.PreviousGeneration = s.files.Chunk(last).Generation()
		s.files.Reopen(last, generation, r.Members)
		result.Last = s.newChunk(last, r.Members)
	}
	result.Info = s.info(slot, leaf)
	return result, nil
}

func (r *recoverPipelineRecord) apply(s *State) (any, error) {
	slot, err := s.openChunkOf(r.File, r.Index, r.Generation)
	if err != nil {
		return nil, err
	}
	if err := s.checkNodes(r.Survivors); err != nil {
		return nil, err
	}
	if err := s.checkNodes(r.Replacements); err != nil {
		return nil, err
	}
	s.files.Promise(slot, chunk.Generation(r.Generation))
	return &RecoverPipelineResult{Generation: chunk.Generation(r.Generation),
		Survivors: s.replicasOf(r.Survivors), Replacements: s.replicasOf(r.Replacements)}, nil
}

// openChunkOf finds an open chunk for which a record issues a new generation.
func (s *State) openChunkOf(file uint64, index uint32, generation uint64) (namespace.ChunkSlot, error) {
	slot, _, err := s.openFileOf(file)
	if err != nil {
		return 0, err
	}
	c := s.files.At(slot, index)
	if c == 0 || !s.files.Chunk(c).Open() {
		return 0, namespace.Inconsistent("chunk %d of file %d is not open", index, file)
	}
	if promised := s.files.Chunk(c).Promised(); chunk.Generation(generation) <= promised {
		return 0, namespace.Inconsistent("generation %d after %d", generation, promised)
	}
	return c, nil
}

func (r *updatePipelineRecord) apply(s *State) (any, error) {
	slot, _, err := s.openFileOf(r.File)
	if err != nil {
		return nil, err
	}
	if err := s.checkNodes(r.Members); err != nil {
		return nil, err
	}
	k := s.files.At(slot, r.Index)
	if k == 0 {
		return nil, namespace.Inconsistent("chunk %d of file %d does not exist", r.Index, r.File)
	}
	c := s.files.Chunk(k)
	if !c.Open() || chunk.Generation(r.Generation) != c.Promised() || int64(r.Length) < c.Length() || int64(r.Length) > s.tree.Inode(slot).ChunkSize() {
		return nil, namespace.Inconsistent("chunk %d: generation %d of %d, length %d of %d", r.Index, r.Generation, c.Promised(), r.Length, c.Length())
	}
	s.files.SetPipeline(k, int64(r.Length), r.Members)
	return &UpdatePipelineResult{}, nil
}

func (r *renameRecord) apply(s *State) (any, error) {
	slot := s.tree.Find(r.Inode)
	source, err := s.tree.Directory(r.SourceParent)
	if err != nil {
		return nil, err
	}
	target, err := s.tree.Directory(r.TargetParent)
	if err != nil {
		return nil, err
	}
	if at, ok := s.tree.Entry(r.SourceParent, r.SourceName); !ok || at != slot || slot == 0 {
		return nil, namespace.Inconsistent("inode %d is not at %q", r.Inode, r.SourceName)
	}
	if err := s.tree.CheckFree(target, r.TargetName, r.Replaced); err != nil {
		return nil, err
	}
	if err := s.tree.CheckMove(slot, r.TargetParent); err != nil {
		return nil, err
	}
	if r.Replaced != 0 {
		if r.Replaced == r.Inode || s.tree.Inode(slot).Directory() {
			return nil, namespace.Inconsistent("inode %d replaces %d", r.Inode, r.Replaced)
		}
		s.replace(target, r.TargetName)
	}
	s.tree.Detach(source, r.SourceName, slot)
	s.tree.Attach(target, r.TargetName, slot)
	s.leases.Rename(r.Inode, r.TargetName)
	return &RenameResult{}, nil
}

func (r *removeRecord) apply(s *State) (any, error) {
	parent, err := s.tree.Directory(r.Parent)
	if err != nil {
		return nil, err
	}
	slot, ok := s.tree.Entry(r.Parent, r.Name)
	if !ok || s.tree.Inode(slot).ID() != r.Inode {
		return nil, namespace.Inconsistent("inode %d is not at %q", r.Inode, r.Name)
	}
	s.tree.Detach(parent, r.Name, slot)
	removed := s.tree.Remove(slot, s.dropFile)
	return &RemoveResult{Files: removed.Files, Directories: removed.Directories, Bytes: removed.Bytes}, nil
}

func (r *recoverLeaseRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r.File)
	if err != nil {
		return nil, err
	}
	if s.tree.Inode(slot).Hidden() {
		return nil, namespace.Inconsistent("file %d is hidden", r.File)
	}
	if r.Attempt {
		c, err := s.openChunkOf(r.File, r.Index, r.Generation)
		if err != nil {
			return nil, err
		}
		s.files.Promise(c, chunk.Generation(r.Generation))
	}
	if !o.Recovering() {
		s.leases.Grant(r.File, &leases.Lease{Holder: "lease recovery", Since: s.time, Leaf: o.Leaf}, s.mono)
	}
	s.tree.Touch(slot)
	if s.files.FirstOpen(slot) == 0 {
		s.closeRecovered(slot)
		return &RecoverLeaseResult{Closed: true}, nil
	}
	return &RecoverLeaseResult{}, nil
}

// closeRecovered closes a file without open chunks after a lease recovery: it
// ends with its first chunk that is not full.
func (s *State) closeRecovered(slot namespace.InodeSlot) {
	s.files.KeepFull(slot)
	s.closeFile(slot)
}

func (r *recoveredRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r.File)
	if err != nil {
		return nil, err
	}
	k := s.files.At(slot, r.Index)
	if k == 0 || !o.Recovering() || !s.files.Chunk(k).Open() {
		return nil, namespace.Inconsistent("chunk %d of file %d is not in recovery", r.Index, r.File)
	}
	size := s.tree.Inode(slot).ChunkSize()
	generation := chunk.Generation(r.Generation)
	if generation > s.files.Chunk(k).Promised() || int64(r.Length) > size {
		return nil, namespace.Inconsistent("chunk %d: generation %d, length %d", r.Index, r.Generation, r.Length)
	}
	s.files.Seal(k, generation, int64(r.Length))
	if int64(r.Length) < size {
		keep := r.Index
		if r.Length > 0 {
			keep++
		}
		s.files.Keep(slot, keep)
	}
	if s.files.FirstOpen(slot) == 0 {
		s.closeRecovered(slot)
	}
	return nil, nil
}

func (r *truncateRecord) apply(s *State) (any, error) {
	slot, err := s.tree.File(r.File)
	if err != nil {
		return nil, err
	}
	i := s.tree.Inode(slot)
	if s.leases.Of(r.File) != nil || i.Hidden() || r.Length < 0 || r.Length > i.Length() {
		return nil, namespace.Inconsistent("file %d of %d bytes cannot be cut to %d", r.File, i.Length(), r.Length)
	}
	size := i.ChunkSize()
	s.files.Keep(slot, uint32((r.Length+size-1)/size))
	s.tree.Modify(slot)
	leaf := r.Name
	if r.Cut {
		last := s.tree.Inode(slot).Last()
		if last == 0 {
			return nil, namespace.Inconsistent("nothing to cut")
		}
		c := s.files.Chunk(last)
		cut := r.Length - s.files.Offset(c)
		if cut <= 0 || cut >= c.Length() {
			return nil, namespace.Inconsistent("cut of a chunk of %d bytes to %d", c.Length(), cut)
		}
		s.leases.Grant(r.File, &leases.Lease{Holder: "truncate", Since: s.time, Leaf: leaf}, s.mono)
		s.files.Cut(last, cut)
	}
	return &TruncateResult{Info: s.info(slot, leaf), Done: !r.Cut}, nil
}
