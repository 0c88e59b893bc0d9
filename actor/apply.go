package actor

import (
	"cmp"
	"slices"
	"strings"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/limits"
)

func applyFormat(s *State, record *codec.FormatRecord) (any, error) {
	if record.ClusterID == "" || len(record.ClusterID) > limits.TextBytesMax {
		return nil, namespace.Inconsistent("cluster id of %d bytes", len(record.ClusterID))
	}
	s.clusterID, s.created = record.ClusterID, s.time
	s.tree.Add(namespace.Attributes{ID: namespace.RootID, Created: s.time, Modified: s.time,
		Flags: namespace.FlagDirectory})
	return &FormatResult{ClusterID: record.ClusterID}, nil
}

func applyEpoch(s *State, record *codec.EpochRecord) (any, error) {
	if record.Epoch <= s.epoch {
		return nil, namespace.Inconsistent("epoch %d follows %d", record.Epoch, s.epoch)
	}
	s.epoch = record.Epoch
	return &BecomeActiveResult{Epoch: record.Epoch}, nil
}

func applyNode(state *State, record *codec.NodeRecord) (any, error) {
	nodes := &state.replicas.Nodes
	known := nodes.Find(record.ID)
	switch {
	case known != 0 && known != record.Index:
		return nil, namespace.Inconsistent("node %q has index %d, not %d", record.ID, known, record.Index)
	case known == 0 && (record.Index != nodes.Next() || record.Index > replicas.NodesMax || record.ID == "" ||
		len(record.ID) > limits.TextBytesMax):
		return nil, namespace.Inconsistent("node %q gets index %d of %d", record.ID, record.Index, nodes.Next())
	}
	nodes.Put(record.Index, record.ID, record.Address)
	return &RegisterResult{ClusterID: state.clusterID}, nil
}

func applyNodeDuty(state *State, record *codec.NodeDutyRecord) (any, error) {
	if !state.replicas.Nodes.Knows(record.Index) || record.Duty > datanode.DutyForgotten ||
		(record.Duty == datanode.DutyMaintenance) != (record.Until > 0) {
		return nil, namespace.Inconsistent("node index %d, duty %d, until %d", record.Index, record.Duty, record.Until)
	}
	state.replicas.Duties.Set(record.Index,
		replicas.Assignment{Duty: record.Duty, Since: state.time, Until: record.Until})
	return &SetDutyResult{}, nil
}

func applyNodeName(state *State, record *codec.NodeNameRecord) (any, error) {
	if !state.replicas.Nodes.Knows(record.Index) || limits.CheckText("name", record.Name, limits.TextBytesMax) != "" {
		return nil, namespace.Inconsistent("node index %d, a name of %d bytes", record.Index, len(record.Name))
	}
	state.replicas.Names.Set(record.Index, record.Name)
	return &RegisterResult{ClusterID: state.clusterID}, nil
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

func applyMkdir(state *State, record *codec.MkdirRecord) (*MkdirResult, error) {
	parent, err := state.tree.Directory(record.Parent)
	if err != nil {
		return nil, err
	}
	if len(record.Names) == 0 {
		return nil, namespace.Inconsistent("no name")
	}
	if err := cmp.Or(state.tree.CheckNew(record.FirstID, record.Names),
		state.tree.CheckFree(parent, record.Names[0], 0)); err != nil {
		return nil, err
	}
	slot := state.tree.MakeDirectories(parent, record.FirstID, record.Names)
	return &MkdirResult{Info: state.info(slot, record.Names[len(record.Names)-1])}, nil
}

func (s *State) checkPlacements(placements []codec.Placement) error {
	for n, p := range placements {
		if p.ID.IsZero() || s.files.Find(p.ID) != 0 {
			return namespace.Inconsistent("chunk id %s is not new", p.ID)
		}
		if slices.ContainsFunc(placements[:n], func(q codec.Placement) bool { return q.ID == p.ID }) {
			return namespace.Inconsistent("chunk id %s is there twice", p.ID)
		}
		if err := s.checkNodes(p.Nodes); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkNodes(nodes []datanode.Index) error {
	if len(nodes) > limits.NodesPerCallMax {
		return namespace.Inconsistent("%d nodes", len(nodes))
	}
	if at := slices.IndexFunc(nodes, func(n datanode.Index) bool { return !s.replicas.Nodes.Knows(n) }); at >= 0 {
		return namespace.Inconsistent("node index %d is not known", nodes[at])
	}
	return nil
}

func applyCreate(state *State, record *codec.CreateRecord) (*CreateResult, error) {
	parent, err := state.tree.Directory(record.Parent)
	if err != nil {
		return nil, err
	}
	if err := state.tree.CheckNew(record.FirstID, record.Directories); err != nil {
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
		if err := state.tree.CheckFree(parent, first, record.Replaced); err != nil {
			return nil, err
		}
	}
	if record.Replication == 0 || record.Replication > limits.ReplicationMax ||
		limits.CheckChunkSize(int64(record.Blocks)*chunk.ChecksumBlockBytes) != "" {
		return nil, namespace.Inconsistent("replication %d, chunk size of %d blocks", record.Replication, record.Blocks)
	}
	if err := state.checkPlacements(record.Chunks); err != nil {
		return nil, err
	}
	if record.Replaced != 0 {
		state.replace(parent, record.Name)
	}
	parent = state.tree.MakeDirectories(parent, record.FirstID, record.Directories)
	id := record.FirstID + uint64(len(record.Directories))
	i := namespace.Attributes{ID: id, Created: state.time, Modified: state.time, Blocks: record.Blocks,
		Replication: record.Replication}
	o := &leases.Lease{Client: record.Head.Client, Holder: record.Holder, Since: state.time, Leaf: record.Name}
	if record.Hidden {
		i.Flags |= namespace.FlagHidden
		o.Path, o.Overwrite = record.Path, record.Overwrite
	}
	slot := state.tree.Add(i)
	if !record.Hidden {
		state.tree.Attach(parent, record.Name, slot)
	}
	state.leases.Grant(id, o, state.step.Mono)
	chunks := state.addChunks(slot, record.Chunks)
	return &CreateResult{Info: state.info(slot, record.Name), Chunks: chunks}, nil
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
func (s *State) newChunk(slot namespace.ChunkSlot, members []datanode.Index) LocatedChunk {
	c := s.files.Chunk(slot)
	return LocatedChunk{Chunk: c.ID(), Generation: c.Generation(), Index: c.Index(), Offset: s.files.Offset(c),
		Length: c.Length(), Open: true, Replicas: s.replicas.Nodes.Locations(members)}
}

func (s *State) applyCommits(file namespace.InodeSlot, commits []codec.Sealing) error {
	for _, c := range commits {
		if err := s.files.SealAt(file, c.Index, c.Generation, int64(c.Length)); err != nil {
			return err
		}
	}
	return nil
}

func applyAddChunks(state *State, record *codec.AddChunksRecord) (*AddChunksResult, error) {
	slot, _, err := state.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	if err := state.checkPlacements(record.Chunks); err != nil {
		return nil, err
	}
	if err := state.applyCommits(slot, record.Commits); err != nil {
		return nil, err
	}
	state.tree.Modify(slot)
	if !record.Replace {
		return &AddChunksResult{Chunks: state.addChunks(slot, record.Chunks)}, nil
	}
	old := state.files.At(slot, record.Index)
	if old == 0 || !state.files.Chunk(old).Open() || len(record.Chunks) != 1 {
		return nil, namespace.Inconsistent("chunk %d cannot be replaced", record.Index)
	}
	replacement := state.files.Replace(slot, record.Index, record.Chunks[0].ID, record.Chunks[0].Nodes)
	return &AddChunksResult{Chunks: []LocatedChunk{state.newChunk(replacement, record.Chunks[0].Nodes)}}, nil
}

func applyComplete(state *State, record *codec.CompleteRecord) (*CompleteResult, error) {
	slot, lease, err := state.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	state.files.Keep(slot, record.Keep)
	if err := state.applyCommits(slot, record.Commits); err != nil {
		return nil, err
	}
	if state.files.FirstOpen(slot) != 0 {
		return nil, namespace.Inconsistent("file %d has an open chunk", record.File)
	}
	if state.tree.Inode(slot).Hidden() {
		parent, err := state.tree.Directory(record.Parent)
		if err != nil {
			return nil, err
		}
		if err := state.tree.CheckFree(parent, record.Name, record.Replaced); err != nil {
			return nil, err
		}
		if record.Replaced != 0 {
			state.replace(parent, record.Name)
		}
		state.tree.Attach(parent, record.Name, slot)
	}
	leaf := lease.Leaf
	state.closeFile(slot)
	return &CompleteResult{Info: state.info(slot, leaf)}, nil
}

func applyAbandon(state *State, record *codec.AbandonRecord) (*AbandonResult, error) {
	slot, o, err := state.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	if i := state.tree.Inode(slot); !i.Hidden() {
		parent, err := state.tree.Directory(i.Parent())
		if err != nil {
			return nil, err
		}
		state.tree.Detach(parent, o.Leaf, slot)
	}
	state.dropFile(slot)
	return &AbandonResult{}, nil
}

func applyAppend(state *State, record *codec.AppendRecord) (*AppendResult, error) {
	slot, err := state.tree.File(record.File)
	if err != nil {
		return nil, err
	}
	inode := *state.tree.Inode(slot)
	if state.leases.Of(record.File) != nil || inode.Hidden() || record.Head.Client == (ClientID{}) {
		return nil, namespace.Inconsistent("file %d is open, or no client opens it", record.File)
	}
	if err := state.checkNodes(record.Members); err != nil {
		return nil, err
	}
	state.leases.Grant(record.File, &leases.Lease{Client: record.Head.Client, Holder: record.Holder, Since: state.time,
		Leaf: record.Name}, state.step.Mono)
	state.tree.Touch(slot)
	result := &AppendResult{}
	if record.Reopen {
		last, generation := inode.Last(), record.Generation
		if last == 0 || state.files.Chunk(last).Open() || generation <= state.files.Chunk(last).Promised() {
			return nil, namespace.Inconsistent("last chunk cannot be reopened under generation %d", record.Generation)
		}
		result.HasLast, result.PreviousGeneration = true, state.files.Chunk(last).Generation()
		state.files.Reopen(last, generation, record.Members)
		result.Last = state.newChunk(last, record.Members)
	}
	result.Info = state.info(slot, record.Name)
	return result, nil
}

func applyRecoverPipeline(state *State, record *codec.RecoverPipelineRecord) (*RecoverPipelineResult, error) {
	slot, err := state.openChunkOf(record.File, record.Index, record.Generation)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(state.checkNodes(record.Survivors), state.checkNodes(record.Replacements)); err != nil {
		return nil, err
	}
	state.files.Promise(slot, record.Generation)
	return &RecoverPipelineResult{Generation: record.Generation,
		Survivors:    state.replicas.Nodes.Locations(record.Survivors),
		Replacements: state.replicas.Nodes.Locations(record.Replacements)}, nil
}

// openChunkOf finds an open chunk for which a record issues a new generation.
func (s *State) openChunkOf(file uint64, index uint32, generation chunk.Generation) (namespace.ChunkSlot, error) {
	slot, _, err := s.openFileOf(file)
	if err != nil {
		return 0, err
	}
	c := s.files.At(slot, index)
	if c == 0 || !s.files.Chunk(c).Open() {
		return 0, namespace.Inconsistent("chunk %d of file %d is not open", index, file)
	}
	if promised := s.files.Chunk(c).Promised(); generation <= promised {
		return 0, namespace.Inconsistent("generation %d after %d", generation, promised)
	}
	return c, nil
}

func applyUpdatePipeline(state *State, record *codec.UpdatePipelineRecord) (*UpdatePipelineResult, error) {
	slot, _, err := state.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	if err := state.checkNodes(record.Members); err != nil {
		return nil, err
	}
	chunkSlot := state.files.At(slot, record.Index)
	if chunkSlot == 0 {
		return nil, namespace.Inconsistent("chunk %d of file %d does not exist", record.Index, record.File)
	}
	c := state.files.Chunk(chunkSlot)
	if !c.Open() || record.Generation != c.Promised() || int64(record.Length) < c.Length() ||
		int64(record.Length) > state.tree.Inode(slot).ChunkSize() {
		return nil, namespace.Inconsistent("chunk %d: generation %d of %d, length %d of %d", record.Index,
			record.Generation, c.Promised(), record.Length, c.Length())
	}
	state.files.SetPipeline(chunkSlot, int64(record.Length), record.Members)
	return &UpdatePipelineResult{}, nil
}

func applyRename(state *State, record *codec.RenameRecord) (*RenameResult, error) {
	slot := state.tree.Find(record.Inode)
	source, err := state.tree.Directory(record.SourceParent)
	if err != nil {
		return nil, err
	}
	target, err := state.tree.Directory(record.TargetParent)
	if err != nil {
		return nil, err
	}
	if at, ok := state.tree.Entry(record.SourceParent, record.SourceName); !ok || at != slot || slot == 0 {
		return nil, namespace.Inconsistent("inode %d is not at %q", record.Inode, record.SourceName)
	}
	if err := cmp.Or(state.tree.CheckFree(target, record.TargetName, record.Replaced),
		state.tree.CheckMove(slot, record.TargetParent)); err != nil {
		return nil, err
	}
	if record.Replaced != 0 {
		if record.Replaced == record.Inode || state.tree.Inode(slot).Directory() {
			return nil, namespace.Inconsistent("inode %d replaces %d", record.Inode, record.Replaced)
		}
		state.replace(target, record.TargetName)
	}
	state.tree.Detach(source, record.SourceName, slot)
	state.tree.Attach(target, record.TargetName, slot)
	state.leases.Rename(record.Inode, record.TargetName)
	return &RenameResult{}, nil
}

func applyTrash(state *State, record *codec.TrashRecord) (*TrashedResult, error) {
	if limits.CheckPath("trash", record.Path) != nil {
		return nil, namespace.Inconsistent("a path of %d bytes", len(record.Path))
	}
	names := strings.Split(record.Path[1:], "/")
	if int64(record.Made) >= int64(len(names)) {
		return nil, namespace.Inconsistent("%d directories on the way to %q", record.Made, record.Path)
	}
	name := names[len(names)-1]
	slot, there := state.tree.Entry(record.SourceParent, name)
	if !there || state.tree.Inode(slot).ID() != record.Inode {
		return nil, namespace.Inconsistent("inode %d is not at %q", record.Inode, name)
	}
	source, err := state.tree.Directory(record.SourceParent)
	if err != nil {
		return nil, err
	}
	parent, err := state.tree.Directory(record.Parent)
	if err != nil {
		return nil, err
	}
	made := names[len(names)-1-int(record.Made) : len(names)-1]
	if err := cmp.Or(state.tree.CheckNew(record.FirstID, made),
		state.tree.CheckFree(parent, names[len(names)-1-int(record.Made)], 0),
		state.tree.CheckMove(slot, record.Parent)); err != nil {
		return nil, err
	}
	parent = state.tree.MakeDirectories(parent, record.FirstID, made)
	state.tree.Detach(source, name, slot)
	state.tree.Attach(parent, name, slot)
	state.tree.Trash(slot)
	return &TrashedResult{Path: record.Path}, nil
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

func applyRecoverLease(state *State, record *codec.RecoverLeaseRecord) (*RecoverLeaseResult, error) {
	slot, lease, err := state.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	if state.tree.Inode(slot).Hidden() {
		return nil, namespace.Inconsistent("file %d is hidden", record.File)
	}
	if record.Attempt {
		c, err := state.openChunkOf(record.File, record.Index, record.Generation)
		if err != nil {
			return nil, err
		}
		state.files.Promise(c, record.Generation)
	}
	if !lease.Recovering() {
		state.leases.Grant(record.File, &leases.Lease{Holder: "lease recovery", Since: state.time, Leaf: lease.Leaf},
			state.step.Mono)
	}
	state.tree.Touch(slot)
	return &RecoverLeaseResult{Closed: state.closeRecovered(slot)}, nil
}

// closeRecovered closes a file after a lease recovery, unless a chunk is still open: it ends with its first chunk
// that is not full.
func (s *State) closeRecovered(slot namespace.InodeSlot) (closed bool) {
	if s.files.FirstOpen(slot) != 0 {
		return false
	}
	s.files.KeepFull(slot)
	s.closeFile(slot)
	return true
}

func applyRecovered(state *State, record *codec.RecoveredRecord) (any, error) {
	_, err := applySettling(state, (*codec.SettlingRecord)(record))
	if err == nil {
		state.closeRecovered(state.tree.Find(record.File))
	}
	return nil, err
}

// applySettling seals a recovered chunk; the file stays open.
func applySettling(state *State, record *codec.SettlingRecord) (any, error) {
	slot, o, err := state.openFileOf(record.File)
	if err != nil {
		return nil, err
	}
	chunkSlot := state.files.At(slot, record.Index)
	if chunkSlot == 0 || !o.Recovering() || !state.files.Chunk(chunkSlot).Open() {
		return nil, namespace.Inconsistent("chunk %d of file %d is not in recovery", record.Index, record.File)
	}
	size := state.tree.Inode(slot).ChunkSize()
	if record.Generation > state.files.Chunk(chunkSlot).Promised() || int64(record.Length) > size {
		return nil, namespace.Inconsistent("chunk %d: generation %d, length %d", record.Index, record.Generation,
			record.Length)
	}
	state.files.Seal(chunkSlot, record.Generation, int64(record.Length))
	if int64(record.Length) < size {
		state.files.Keep(slot, record.Index+min(record.Length, 1))
	}
	return nil, nil
}

func applyTruncate(state *State, record *codec.TruncateRecord) (*TruncateResult, error) {
	slot, err := state.tree.File(record.File)
	if err != nil {
		return nil, err
	}
	i := state.tree.Inode(slot)
	if state.leases.Of(record.File) != nil || i.Hidden() || record.Length < 0 || record.Length > i.Length() {
		return nil, namespace.Inconsistent("file %d of %d bytes cannot be cut to %d", record.File, i.Length(),
			record.Length)
	}
	size := i.ChunkSize()
	state.files.Keep(slot, uint32((record.Length+size-1)/size))
	state.tree.Modify(slot)
	if record.Cut {
		last := state.tree.Inode(slot).Last()
		if last == 0 {
			return nil, namespace.Inconsistent("nothing to cut")
		}
		c := state.files.Chunk(last)
		cut := record.Length - state.files.Offset(c)
		if cut <= 0 || cut >= c.Length() {
			return nil, namespace.Inconsistent("cut of a chunk of %d bytes to %d", c.Length(), cut)
		}
		state.leases.Grant(record.File, &leases.Lease{Holder: "truncate", Since: state.time, Leaf: record.Name},
			state.step.Mono)
		state.files.Cut(last, cut)
	}
	return &TruncateResult{Info: state.info(slot, record.Name), Done: !record.Cut}, nil
}

func applyReplication(state *State, record *codec.ReplicationRecord) (*SetReplicationResult, error) {
	slot, err := state.tree.File(record.File)
	if err != nil {
		return nil, err
	}
	if limits.CheckReplication(uint32(record.Replication)) != "" || record.Replication == 0 {
		return nil, namespace.Inconsistent("file %d cannot have %d replicas", record.File, record.Replication)
	}
	state.tree.SetReplication(slot, record.Replication)
	for chunk := state.tree.Inode(slot).First(); chunk != 0; chunk = state.files.Chunk(chunk).Next() {
		state.replicas.Reassess(chunk)
	}
	return &SetReplicationResult{Info: state.info(slot, record.Name)}, nil
}
