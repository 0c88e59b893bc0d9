package actor

import (
	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/limits"
)

func applyFormat(s *State, record *codec.FormatRecord) (any, error) {
	if record.ClusterID == "" || len(record.ClusterID) > limits.TextBytesMax {
		return nil, namespace.Inconsistent("cluster id of %d bytes", len(record.ClusterID))
	}
	s.clusterID = record.ClusterID
	s.created = s.time
	s.tree.Add(namespace.Attributes{ID: namespace.RootID, Created: s.time, Modified: s.time, Flags: namespace.FlagDirectory})
	return &FormatResult{ClusterID: record.ClusterID}, nil
}

func applyEpoch(s *State, record *codec.EpochRecord) (any, error) {
	if record.Epoch <= s.epoch {
		return nil, namespace.Inconsistent("epoch %d follows %d", record.Epoch, s.epoch)
	}
	s.epoch = record.Epoch
	return &BecomeActiveResult{Epoch: record.Epoch}, nil
}

func applyNode(s *State, record *codec.NodeRecord) (any, error) {
	nodes := &s.replicas.Nodes
	if known := nodes.Find(record.ID); known != 0 {
		if known != record.Index {
			return nil, namespace.Inconsistent("node %q has index %d, not %d", record.ID, known, record.Index)
		}
		nodes.Put(known, record.ID, record.Address)
		return &RegisterResult{ClusterID: s.clusterID}, nil
	}
	if record.Index != nodes.Next() || record.Index > replicas.NodesMax || record.ID == "" || len(record.ID) > limits.TextBytesMax {
		return nil, namespace.Inconsistent("node %q gets index %d of %d", record.ID, record.Index, nodes.Next())
	}
	nodes.Put(record.Index, record.ID, record.Address)
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

func applyMkdir(s *State, record *codec.MkdirRecord) (*MkdirResult, error) {
	parent, err := s.tree.Directory(record.Parent)
	if err != nil {
		return nil, err
	}
	if len(record.Names) == 0 {
		return nil, namespace.Inconsistent("no name")
	}
	if err := s.tree.CheckNew(record.FirstID, record.Names); err != nil {
		return nil, err
	}
	if err := s.tree.CheckFree(parent, record.Names[0], 0); err != nil {
		return nil, err
	}
	slot := s.tree.MakeDirectories(parent, record.FirstID, record.Names)
	return &MkdirResult{Info: s.info(slot, record.Names[len(record.Names)-1])}, nil
}

// checkPlacements checks new chunks of a record.
func (s *State) checkPlacements(placements []codec.Placement) error {
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
	if len(nodes) > limits.NodesPerCallMax {
		return namespace.Inconsistent("%d nodes", len(nodes))
	}
	for _, n := range nodes {
		if !s.replicas.Nodes.Knows(n) {
			return namespace.Inconsistent("node index %d is not known", n)
		}
	}
	return nil
}

func applyCreate(s *State, record *codec.CreateRecord) (*CreateResult, error) {
	parent, err := s.tree.Directory(record.Parent)
	if err != nil {
		return nil, err
	}
	if err := s.tree.CheckNew(record.FirstID, record.Directories); err != nil {
		return nil, err
	}
	first := record.Name
	if len(record.Directories) > 0 {
		first = record.Directories[0]
		if record.Replaced != 0 {
			return nil, namespace.Inconsistent("replaces a file in a new directory")
		}
	}
	switch {
	case record.Head.Client == (ClientID{}):
		return nil, namespace.Inconsistent("a lease for no client")
	case record.Hidden && limits.CheckPath("create", record.Path) != nil:
		return nil, namespace.Inconsistent("path of a hidden file")
	case limits.CheckName(record.Name) != "":
		return nil, namespace.Inconsistent("name: %s", limits.CheckName(record.Name))
	case len(record.Directories) > 0 || !record.Hidden:
		if err := s.tree.CheckFree(parent, first, record.Replaced); err != nil {
			return nil, err
		}
	}
	if record.Replication == 0 || record.Replication > limits.ReplicationMax || limits.CheckChunkSize(int64(record.Blocks)*chunk.ChecksumBlockBytes) != "" {
		return nil, namespace.Inconsistent("replication %d, chunk size of %d blocks", record.Replication, record.Blocks)
	}
	if err := s.checkPlacements(record.Chunks); err != nil {
		return nil, err
	}
	if record.Replaced != 0 {
		s.replace(parent, record.Name)
	}
	parent = s.tree.MakeDirectories(parent, record.FirstID, record.Directories)
	id := record.FirstID + uint64(len(record.Directories))
	i := namespace.Attributes{ID: id, Created: s.time, Modified: s.time, Blocks: record.Blocks, Replication: record.Replication}
	o := &leases.Lease{Client: record.Head.Client, Holder: record.Holder, Since: s.time, Leaf: record.Name}
	if record.Hidden {
		i.Flags |= namespace.FlagHidden
		o.Path, o.Overwrite = record.Path, record.Overwrite
	}
	slot := s.tree.Add(i)
	if !record.Hidden {
		s.tree.Attach(parent, record.Name, slot)
	}
	s.leases.Grant(id, o, s.step.Mono)
	chunks := s.addChunks(slot, record.Chunks)
	return &CreateResult{Info: s.info(slot, record.Name), Chunks: chunks}, nil
}

// replace removes the file at an entry, which CheckFree checked.
func (s *State) replace(directory namespace.InodeSlot, name string) {
	slot, _ := s.tree.Entry(s.tree.Inode(directory).ID(), name)
	s.tree.Detach(directory, name, slot)
	s.dropFile(slot)
}

// addChunks allocates chunks at a file's end and describes them to the writer.
func (s *State) addChunks(file namespace.InodeSlot, placements []codec.Placement) []LocatedChunk {
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
		Replicas: s.replicas.Nodes.Locations(members)}
}

// applyCommits seals the chunks of a record.
func (s *State) applyCommits(file namespace.InodeSlot, commits []codec.Sealing) error {
	for _, c := range commits {
		if err := s.files.SealAt(file, c.Index, chunk.Generation(c.Generation), int64(c.Length)); err != nil {
			return err
		}
	}
	return nil
}

func applyAddChunks(s *State, record *codec.AddChunksRecord) (*AddChunksResult, error) {
	slot, _, err := s.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	if err := s.checkPlacements(record.Chunks); err != nil {
		return nil, err
	}
	if err := s.applyCommits(slot, record.Commits); err != nil {
		return nil, err
	}
	s.tree.Modify(slot)
	if !record.Replace {
		return &AddChunksResult{Chunks: s.addChunks(slot, record.Chunks)}, nil
	}
	old := s.files.At(slot, record.Index)
	if old == 0 || !s.files.Chunk(old).Open() || len(record.Chunks) != 1 {
		return nil, namespace.Inconsistent("chunk %d cannot be replaced", record.Index)
	}
	replacement := s.files.Replace(slot, record.Index, record.Chunks[0].ID, record.Chunks[0].Nodes)
	return &AddChunksResult{Chunks: []LocatedChunk{s.newChunk(replacement, record.Chunks[0].Nodes)}}, nil
}

func applyComplete(s *State, record *codec.CompleteRecord) (*CompleteResult, error) {
	slot, o, err := s.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	s.files.Keep(slot, record.Keep)
	if err := s.applyCommits(slot, record.Commits); err != nil {
		return nil, err
	}
	if s.files.FirstOpen(slot) != 0 {
		return nil, namespace.Inconsistent("file %d has an open chunk", record.File)
	}
	if s.tree.Inode(slot).Hidden() {
		parent, err := s.tree.Directory(record.Parent)
		if err != nil {
			return nil, err
		}
		if err := s.tree.CheckFree(parent, record.Name, record.Replaced); err != nil {
			return nil, err
		}
		if record.Replaced != 0 {
			s.replace(parent, record.Name)
		}
		s.tree.Attach(parent, record.Name, slot)
	}
	leaf := o.Leaf
	s.closeFile(slot)
	return &CompleteResult{Info: s.info(slot, leaf)}, nil
}

func applyAbandon(s *State, record *codec.AbandonRecord) (*AbandonResult, error) {
	slot, o, err := s.openFileOf(record.File)
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

func applyAppend(s *State, record *codec.AppendRecord) (*AppendResult, error) {
	slot, err := s.tree.File(record.File)
	if err != nil {
		return nil, err
	}
	i := *s.tree.Inode(slot)
	if s.leases.Of(record.File) != nil || i.Hidden() || record.Head.Client == (ClientID{}) {
		return nil, namespace.Inconsistent("file %d is open, or no client opens it", record.File)
	}
	if err := s.checkNodes(record.Members); err != nil {
		return nil, err
	}
	leaf := record.Name
	s.leases.Grant(record.File, &leases.Lease{Client: record.Head.Client, Holder: record.Holder, Since: s.time, Leaf: leaf}, s.step.Mono)
	s.tree.Touch(slot)
	result := &AppendResult{}
	if record.Reopen {
		last, generation := i.Last(), chunk.Generation(record.Generation)
		if last == 0 || s.files.Chunk(last).Open() || generation <= s.files.Chunk(last).Promised() {
			return nil, namespace.Inconsistent("last chunk cannot be reopened under generation %d", record.Generation)
		}
		result.HasLast = true
		result.PreviousGeneration = s.files.Chunk(last).Generation()
		s.files.Reopen(last, generation, record.Members)
		result.Last = s.newChunk(last, record.Members)
	}
	result.Info = s.info(slot, leaf)
	return result, nil
}

func applyRecoverPipeline(s *State, record *codec.RecoverPipelineRecord) (*RecoverPipelineResult, error) {
	slot, err := s.openChunkOf(record.File, record.Index, record.Generation)
	if err != nil {
		return nil, err
	}
	if err := s.checkNodes(record.Survivors); err != nil {
		return nil, err
	}
	if err := s.checkNodes(record.Replacements); err != nil {
		return nil, err
	}
	s.files.Promise(slot, chunk.Generation(record.Generation))
	return &RecoverPipelineResult{Generation: chunk.Generation(record.Generation),
		Survivors: s.replicas.Nodes.Locations(record.Survivors), Replacements: s.replicas.Nodes.Locations(record.Replacements)}, nil
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

func applyUpdatePipeline(s *State, record *codec.UpdatePipelineRecord) (*UpdatePipelineResult, error) {
	slot, _, err := s.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	if err := s.checkNodes(record.Members); err != nil {
		return nil, err
	}
	k := s.files.At(slot, record.Index)
	if k == 0 {
		return nil, namespace.Inconsistent("chunk %d of file %d does not exist", record.Index, record.File)
	}
	c := s.files.Chunk(k)
	if !c.Open() || chunk.Generation(record.Generation) != c.Promised() || int64(record.Length) < c.Length() || int64(record.Length) > s.tree.Inode(slot).ChunkSize() {
		return nil, namespace.Inconsistent("chunk %d: generation %d of %d, length %d of %d", record.Index, record.Generation, c.Promised(), record.Length, c.Length())
	}
	s.files.SetPipeline(k, int64(record.Length), record.Members)
	return &UpdatePipelineResult{}, nil
}

func applyRename(s *State, record *codec.RenameRecord) (*RenameResult, error) {
	slot := s.tree.Find(record.Inode)
	source, err := s.tree.Directory(record.SourceParent)
	if err != nil {
		return nil, err
	}
	target, err := s.tree.Directory(record.TargetParent)
	if err != nil {
		return nil, err
	}
	if at, ok := s.tree.Entry(record.SourceParent, record.SourceName); !ok || at != slot || slot == 0 {
		return nil, namespace.Inconsistent("inode %d is not at %q", record.Inode, record.SourceName)
	}
	if err := s.tree.CheckFree(target, record.TargetName, record.Replaced); err != nil {
		return nil, err
	}
	if err := s.tree.CheckMove(slot, record.TargetParent); err != nil {
		return nil, err
	}
	if record.Replaced != 0 {
		if record.Replaced == record.Inode || s.tree.Inode(slot).Directory() {
			return nil, namespace.Inconsistent("inode %d replaces %d", record.Inode, record.Replaced)
		}
		s.replace(target, record.TargetName)
	}
	s.tree.Detach(source, record.SourceName, slot)
	s.tree.Attach(target, record.TargetName, slot)
	s.leases.Rename(record.Inode, record.TargetName)
	return &RenameResult{}, nil
}

func applyRemove(s *State, record *codec.RemoveRecord) (*RemoveResult, error) {
	parent, err := s.tree.Directory(record.Parent)
	if err != nil {
		return nil, err
	}
	slot, ok := s.tree.Entry(record.Parent, record.Name)
	if !ok || s.tree.Inode(slot).ID() != record.Inode {
		return nil, namespace.Inconsistent("inode %d is not at %q", record.Inode, record.Name)
	}
	s.tree.Detach(parent, record.Name, slot)
	removed := s.tree.Remove(slot, s.dropFile)
	return &RemoveResult{Files: removed.Files, Directories: removed.Directories, Bytes: removed.Bytes}, nil
}

func applyRecoverLease(s *State, record *codec.RecoverLeaseRecord) (*RecoverLeaseResult, error) {
	slot, o, err := s.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	if s.tree.Inode(slot).Hidden() {
		return nil, namespace.Inconsistent("file %d is hidden", record.File)
	}
	if record.Attempt {
		c, err := s.openChunkOf(record.File, record.Index, record.Generation)
		if err != nil {
			return nil, err
		}
		s.files.Promise(c, chunk.Generation(record.Generation))
	}
	if !o.Recovering() {
		s.leases.Grant(record.File, &leases.Lease{Holder: "lease recovery", Since: s.time, Leaf: o.Leaf}, s.step.Mono)
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

func applyRecovered(s *State, record *codec.RecoveredRecord) (any, error) {
	slot, o, err := s.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	k := s.files.At(slot, record.Index)
	if k == 0 || !o.Recovering() || !s.files.Chunk(k).Open() {
		return nil, namespace.Inconsistent("chunk %d of file %d is not in recovery", record.Index, record.File)
	}
	size := s.tree.Inode(slot).ChunkSize()
	generation := chunk.Generation(record.Generation)
	if generation > s.files.Chunk(k).Promised() || int64(record.Length) > size {
		return nil, namespace.Inconsistent("chunk %d: generation %d, length %d", record.Index, record.Generation, record.Length)
	}
	s.files.Seal(k, generation, int64(record.Length))
	if int64(record.Length) < size {
		keep := record.Index
		if record.Length > 0 {
			keep++
		}
		s.files.Keep(slot, keep)
	}
	if s.files.FirstOpen(slot) == 0 {
		s.closeRecovered(slot)
	}
	return nil, nil
}

func applyTruncate(s *State, record *codec.TruncateRecord) (*TruncateResult, error) {
	slot, err := s.tree.File(record.File)
	if err != nil {
		return nil, err
	}
	i := s.tree.Inode(slot)
	if s.leases.Of(record.File) != nil || i.Hidden() || record.Length < 0 || record.Length > i.Length() {
		return nil, namespace.Inconsistent("file %d of %d bytes cannot be cut to %d", record.File, i.Length(), record.Length)
	}
	size := i.ChunkSize()
	s.files.Keep(slot, uint32((record.Length+size-1)/size))
	s.tree.Modify(slot)
	leaf := record.Name
	if record.Cut {
		last := s.tree.Inode(slot).Last()
		if last == 0 {
			return nil, namespace.Inconsistent("nothing to cut")
		}
		c := s.files.Chunk(last)
		cut := record.Length - s.files.Offset(c)
		if cut <= 0 || cut >= c.Length() {
			return nil, namespace.Inconsistent("cut of a chunk of %d bytes to %d", c.Length(), cut)
		}
		s.leases.Grant(record.File, &leases.Lease{Holder: "truncate", Since: s.time, Leaf: leaf}, s.step.Mono)
		s.files.Cut(last, cut)
	}
	return &TruncateResult{Info: s.info(slot, leaf), Done: !record.Cut}, nil
}
