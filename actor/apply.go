package actor

import (
	"github.com/whispering-woods/ww/internal/chunk"
)

func (r *formatRecord) apply(s *State) (any, error) {
	if r.ClusterID == "" || len(r.ClusterID) > nodeNameBytesMax {
		return nil, inconsistent(r, "cluster id of %d bytes", len(r.ClusterID))
	}
	s.clusterID = r.ClusterID
	s.created = s.time
	s.newInode(inode{id: rootID, created: s.time, modified: s.time, flags: flagDirectory})
	return &FormatResult{ClusterID: r.ClusterID}, nil
}

func (r *epochRecord) apply(s *State) (any, error) {
	if r.Epoch <= s.epoch {
		return nil, inconsistent(r, "epoch %d follows %d", r.Epoch, s.epoch)
	}
	s.epoch = r.Epoch
	return &BecomeActiveResult{Epoch: r.Epoch}, nil
}

func (r *nodeRecord) apply(s *State) (any, error) {
	if known := s.nodeIndex[r.ID]; known != 0 {
		if known != r.Index {
			return nil, inconsistent(r, "node %q has index %d, not %d", r.ID, known, r.Index)
		}
		s.nodes[known].address = r.Address
		return &RegisterResult{ClusterID: s.clusterID}, nil
	}
	if int(r.Index) != len(s.nodes) || r.Index > nodesMax || r.ID == "" || len(r.ID) > nodeNameBytesMax {
		return nil, inconsistent(r, "node %q gets index %d of %d", r.ID, r.Index, len(s.nodes))
	}
	s.nodes = append(s.nodes, newNode(r.Index, r.ID, r.Address))
	s.nodeIndex[r.ID] = r.Index
	return &RegisterResult{ClusterID: s.clusterID}, nil
}

// directoryOf finds a directory that a record names.
func (s *State) directoryOf(r record, id uint64) (uint32, error) {
	slot := s.inodeOf(id)
	if slot == 0 || !s.inodes.at(slot).directory() {
		return 0, inconsistent(r, "directory %d does not exist", id)
	}
	return slot, nil
}

// fileOf finds a file that a record names, and its lease (nil if closed).
func (s *State) fileOf(r record, id uint64) (uint32, *openFile, error) {
	slot := s.inodeOf(id)
	if slot == 0 || s.inodes.at(slot).directory() {
		return 0, nil, inconsistent(r, "file %d does not exist", id)
	}
	return slot, s.open[id], nil
}

// openFileOf is fileOf for a file that must have a lease.
func (s *State) openFileOf(r record, id uint64) (uint32, *openFile, error) {
	slot, o, err := s.fileOf(r, id)
	if err == nil && o == nil {
		err = inconsistent(r, "file %d is closed", id)
	}
	return slot, o, err
}

// freeName checks that a directory has no entry of a name, except the one that
// the record replaces.
func (s *State) freeName(r record, directory uint32, name string, replaced uint64) error {
	if reason := checkName(name); reason != "" {
		return inconsistent(r, "name: %s", reason)
	}
	slot, there := s.entries.Get(s.lookupKey(s.inodes.at(directory).id, name))
	switch {
	case !there && replaced != 0:
		return inconsistent(r, "file %d to replace is not at %q", replaced, name)
	case there && (s.inodes.at(slot).id != replaced || s.inodes.at(slot).directory()):
		return inconsistent(r, "%q exists", name)
	}
	return nil
}

// newIDs checks a record's fresh inode ids and directory names.
func (s *State) newIDs(r record, first uint64, names []string) error {
	if first < s.nextInode || first > 1<<62 {
		return inconsistent(r, "inode id %d, next is %d", first, s.nextInode)
	}
	for _, name := range names {
		if reason := checkName(name); reason != "" {
			return inconsistent(r, "name: %s", reason)
		}
	}
	return nil
}

func (r *mkdirRecord) apply(s *State) (any, error) {
	parent, err := s.directoryOf(r, r.Parent)
	if err != nil {
		return nil, err
	}
	if len(r.Names) == 0 {
		return nil, inconsistent(r, "no name")
	}
	if err := s.newIDs(r, r.FirstID, r.Names); err != nil {
		return nil, err
	}
	if err := s.freeName(r, parent, r.Names[0], 0); err != nil {
		return nil, err
	}
	slot := s.makeDirectories(parent, r.FirstID, r.Names)
	return &MkdirResult{Info: s.info(slot, r.Names[len(r.Names)-1])}, nil
}

// checkPlacements checks new chunks of a record.
func (s *State) checkPlacements(r record, placements []placement) error {
	for n, p := range placements {
		if p.ID.IsZero() || s.chunkSlot[p.ID] != 0 {
			return inconsistent(r, "chunk id %s is not new", p.ID)
		}
		for _, q := range placements[:n] {
			if p.ID == q.ID {
				return inconsistent(r, "chunk id %s is there twice", p.ID)
			}
		}
		if err := s.checkNodes(r, p.Nodes); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkNodes(r record, nodes []uint16) error {
	if len(nodes) > nodesPerCallMax {
		return inconsistent(r, "%d nodes", len(nodes))
	}
	for _, n := range nodes {
		if n == 0 || int(n) >= len(s.nodes) {
			return inconsistent(r, "node index %d is not known", n)
		}
	}
	return nil
}

func (r *createRecord) apply(s *State) (any, error) {
	parent, err := s.directoryOf(r, r.Parent)
	if err != nil {
		return nil, err
	}
	if err := s.newIDs(r, r.FirstID, r.Directories); err != nil {
		return nil, err
	}
	first := r.Name
	if len(r.Directories) > 0 {
		first = r.Directories[0]
		if r.Replaced != 0 {
			return nil, inconsistent(r, "replaces a file in a new directory")
		}
	}
	switch {
	case r.Head.Client == (ClientID{}):
		return nil, inconsistent(r, "a lease for no client")
	case r.Hidden && checkPath("create", r.Path) != nil:
		return nil, inconsistent(r, "path of a hidden file")
	case checkName(r.Name) != "":
		return nil, inconsistent(r, "name: %s", checkName(r.Name))
	case len(r.Directories) > 0 || !r.Hidden:
		if err := s.freeName(r, parent, first, r.Replaced); err != nil {
			return nil, err
		}
	}
	if r.Replication == 0 || r.Replication > replicationMax || checkChunkSize(int64(r.Blocks)*chunk.ChecksumBlockBytes) != "" {
		return nil, inconsistent(r, "replication %d, chunk size of %d blocks", r.Replication, r.Blocks)
	}
	if err := s.checkPlacements(r, r.Chunks); err != nil {
		return nil, err
	}
	if r.Replaced != 0 {
		s.replace(parent, r.Name)
	}
	parent = s.makeDirectories(parent, r.FirstID, r.Directories)
	id := r.FirstID + uint64(len(r.Directories))
	i := inode{id: id, created: s.time, modified: s.time, blocks: r.Blocks, replication: r.Replication}
	o := &openFile{client: r.Head.Client, holder: r.Holder, since: s.time, leaf: r.Name}
	if r.Hidden {
		i.flags |= flagHidden
		o.path, o.overwrite = r.Path, r.Overwrite
	}
	slot := s.newInode(i)
	if !r.Hidden {
		s.attach(parent, r.Name, slot)
	}
	s.setLease(id, o)
	chunks := s.addChunks(slot, r.Chunks, false, 0)
	return &CreateResult{Info: s.info(slot, r.Name), Chunks: chunks}, nil
}

// replace removes the file at an entry, which freeName checked.
func (s *State) replace(directory uint32, name string) {
	slot, _ := s.entries.Get(s.lookupKey(s.inodes.at(directory).id, name))
	s.detach(directory, name, slot)
	s.dropFile(slot)
}

// addChunks allocates chunks and describes them to the writer.
func (s *State) addChunks(file uint32, placements []placement, replace bool, index uint32) []LocatedChunk {
	if len(placements) == 0 {
		return nil
	}
	located := make([]LocatedChunk, 0, len(placements))
	for _, p := range placements {
		s.addChunk(file, p, replace, index)
		c := s.chunks.at(s.chunkSlot[p.ID])
		located = append(located, LocatedChunk{Chunk: p.ID, Generation: 1, Index: c.index,
			Offset: s.chunkOffset(c), Open: true, Replicas: s.replicasOf(p.Nodes)})
	}
	return located
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
func (s *State) applyCommits(r record, file uint32, commits []sealing) error {
	size := s.inodes.at(file).chunkSize()
	for _, c := range commits {
		slot := s.chunkAt(file, c.Index)
		if slot == 0 {
			return inconsistent(r, "chunk %d does not exist", c.Index)
		}
		k := s.chunks.at(slot)
		if !k.open() || c.Generation > k.promised || c.Generation == 0 || int64(c.Length) > size {
			return inconsistent(r, "chunk %d: open %v, promised %d, sealed at generation %d length %d",
				c.Index, k.open(), k.promised, c.Generation, c.Length)
		}
		s.seal(slot, c.Generation, int64(c.Length))
	}
	return nil
}

func (r *addChunksRecord) apply(s *State) (any, error) {
	slot, _, err := s.openFileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	if err := s.checkPlacements(r, r.Chunks); err != nil {
		return nil, err
	}
	if err := s.applyCommits(r, slot, r.Commits); err != nil {
		return nil, err
	}
	if r.Replace {
		old := s.chunkAt(slot, r.Index)
		if old == 0 || !s.chunks.at(old).open() || len(r.Chunks) != 1 {
			return nil, inconsistent(r, "chunk %d cannot be replaced", r.Index)
		}
		s.dropChunk(old)
	}
	s.change(slot).modified = s.time
	return &AddChunksResult{Chunks: s.addChunks(slot, r.Chunks, r.Replace, r.Index)}, nil
}

func (r *completeRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	s.keepChunks(slot, r.Keep)
	if err := s.applyCommits(r, slot, r.Commits); err != nil {
		return nil, err
	}
	if s.firstOpenChunk(slot) != 0 {
		return nil, inconsistent(r, "file %d has an open chunk", r.File)
	}
	if s.inodes.at(slot).hidden() {
		parent, err := s.directoryOf(r, r.Parent)
		if err != nil {
			return nil, err
		}
		if err := s.freeName(r, parent, r.Name, r.Replaced); err != nil {
			return nil, err
		}
		if r.Replaced != 0 {
			s.replace(parent, r.Name)
		}
		s.change(slot).flags &^= flagHidden
		s.attach(parent, r.Name, slot)
	}
	leaf := o.leaf
	s.closeFile(slot)
	return &CompleteResult{Info: s.info(slot, leaf)}, nil
}

func (r *abandonRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	if i := s.inodes.at(slot); !i.hidden() {
		parent, err := s.directoryOf(r, i.parent)
		if err != nil {
			return nil, err
		}
		s.detach(parent, o.leaf, slot)
	}
	s.dropFile(slot)
	return &AbandonResult{}, nil
}

func (r *appendRecord) apply(s *State) (any, error) {
	slot, o, err := s.fileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	i := *s.inodes.at(slot)
	if o != nil || i.hidden() || r.Head.Client == (ClientID{}) {
		return nil, inconsistent(r, "file %d is open, or no client opens it", r.File)
	}
	if err := s.checkNodes(r, r.Members); err != nil {
		return nil, err
	}
	leaf := r.Name
	s.setLease(r.File, &openFile{client: r.Head.Client, holder: r.Holder, since: s.time, leaf: leaf})
	s.change(slot)
	result := &AppendResult{}
	if r.Reopen {
		c := s.chunks.at(max(i.last, 1))
		if i.last == 0 || c.open() || r.Generation <= c.promised {
			return nil, inconsistent(r, "last chunk cannot be reopened under generation %d", r.Generation)
		}
		previous := c.generation
		s.reopen(i.last, &openChunk{minimum: previous, strict: true, base: c.length(), cut: -1, members: r.Members})
		m := s.chunks.mut(i.last)
		m.generation, m.promised = r.Generation, r.Generation
		result.HasLast = true
		result.PreviousGeneration = chunk.Generation(previous)
		result.Last = LocatedChunk{Chunk: m.id, Generation: chunk.Generation(r.Generation), Index: m.index,
			Offset: s.chunkOffset(m), Length: m.length(), Open: true, Replicas: s.replicasOf(r.Members)}
	}
	result.Info = s.info(slot, leaf)
	return result, nil
}

func (r *recoverPipelineRecord) apply(s *State) (any, error) {
	slot, c, err := s.openChunkOf(r, r.File, r.Index, r.Generation)
	if err != nil {
		return nil, err
	}
	if err := s.checkNodes(r, r.Survivors); err != nil {
		return nil, err
	}
	if err := s.checkNodes(r, r.Replacements); err != nil {
		return nil, err
	}
	s.chunks.mut(c).promised = r.Generation
	s.change(slot)
	return &RecoverPipelineResult{Generation: chunk.Generation(r.Generation),
		Survivors: s.replicasOf(r.Survivors), Replacements: s.replicasOf(r.Replacements)}, nil
}

// openChunkOf finds an open chunk for which a record issues a new generation.
func (s *State) openChunkOf(r record, file uint64, index uint32, generation uint64) (uint32, uint32, error) {
	slot, _, err := s.openFileOf(r, file)
	if err != nil {
		return 0, 0, err
	}
	c := s.chunkAt(slot, index)
	if c == 0 || !s.chunks.at(c).open() {
		return 0, 0, inconsistent(r, "chunk %d of file %d is not open", index, file)
	}
	if promised := s.chunks.at(c).promised; generation <= promised {
		return 0, 0, inconsistent(r, "generation %d after %d", generation, promised)
	}
	return slot, c, nil
}

func (r *updatePipelineRecord) apply(s *State) (any, error) {
	slot, _, err := s.openFileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	if err := s.checkNodes(r, r.Members); err != nil {
		return nil, err
	}
	k := s.chunkAt(slot, r.Index)
	if k == 0 {
		return nil, inconsistent(r, "chunk %d of file %d does not exist", r.Index, r.File)
	}
	c := s.chunks.mut(k)
	old := s.openChunk[k]
	if old == nil || r.Generation != c.promised || int64(r.Length) < c.length() || int64(r.Length) > s.inodes.at(slot).chunkSize() {
		return nil, inconsistent(r, "chunk %d: generation %d of %d, length %d of %d", r.Index, r.Generation, c.promised, r.Length, c.length())
	}
	delta := int64(r.Length) - c.length()
	c.generation = r.Generation
	c.setLength(int64(r.Length))
	s.openChunk[k] = &openChunk{minimum: r.Generation, base: int64(r.Length), cut: -1, members: r.Members}
	s.grow(slot, delta)
	return &UpdatePipelineResult{}, nil
}

func (r *renameRecord) apply(s *State) (any, error) {
	slot := s.inodeOf(r.Inode)
	source, err := s.directoryOf(r, r.SourceParent)
	if err != nil {
		return nil, err
	}
	target, err := s.directoryOf(r, r.TargetParent)
	if err != nil {
		return nil, err
	}
	if at, ok := s.entries.Get(s.lookupKey(r.SourceParent, r.SourceName)); !ok || at != slot || slot == 0 {
		return nil, inconsistent(r, "inode %d is not at %q", r.Inode, r.SourceName)
	}
	if err := s.freeName(r, target, r.TargetName, r.Replaced); err != nil {
		return nil, err
	}
	for up := r.TargetParent; s.inodes.at(slot).directory() && up != rootID; up = s.inodes.at(s.inodeOf(up)).parent {
		if up == r.Inode {
			return nil, inconsistent(r, "inode %d would move below itself", r.Inode)
		}
	}
	if r.Replaced != 0 {
		if r.Replaced == r.Inode || s.inodes.at(slot).directory() {
			return nil, inconsistent(r, "inode %d replaces %d", r.Inode, r.Replaced)
		}
		s.replace(target, r.TargetName)
	}
	s.detach(source, r.SourceName, slot)
	s.attach(target, r.TargetName, slot)
	if o := s.open[r.Inode]; o != nil {
		renamed := *o
		renamed.leaf = r.TargetName
		s.open[r.Inode] = &renamed
	}
	return &RenameResult{}, nil
}

func (r *removeRecord) apply(s *State) (any, error) {
	parent, err := s.directoryOf(r, r.Parent)
	if err != nil {
		return nil, err
	}
	slot, ok := s.entries.Get(s.lookupKey(r.Parent, r.Name))
	if !ok || s.inodes.at(slot).id != r.Inode {
		return nil, inconsistent(r, "inode %d is not at %q", r.Inode, r.Name)
	}
	s.detach(parent, r.Name, slot)
	removed := s.dropTree(slot)
	return &removed, nil
}

func (r *recoverLeaseRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	if s.inodes.at(slot).hidden() {
		return nil, inconsistent(r, "file %d is hidden", r.File)
	}
	if r.Attempt {
		_, c, err := s.openChunkOf(r, r.File, r.Index, r.Generation)
		if err != nil {
			return nil, err
		}
		s.chunks.mut(c).promised = r.Generation
	}
	if !o.recovering() {
		s.setLease(r.File, &openFile{holder: "lease recovery", since: s.time, leaf: o.leaf})
	}
	s.change(slot)
	if s.firstOpenChunk(slot) == 0 {
		s.closeRecovered(slot)
		return &RecoverLeaseResult{Closed: true}, nil
	}
	return &RecoverLeaseResult{}, nil
}

// closeRecovered closes a file without open chunks after a lease recovery: it
// ends with its first chunk that is not full.
func (s *State) closeRecovered(slot uint32) {
	size := s.inodes.at(slot).chunkSize()
	keep := uint32(0)
	for c := s.inodes.at(slot).first; c != 0; c = s.chunks.at(c).next {
		length := s.chunks.at(c).length()
		if length > 0 {
			keep++
		}
		if length < size {
			break
		}
	}
	s.keepChunks(slot, keep)
	s.closeFile(slot)
}

func (r *recoveredRecord) apply(s *State) (any, error) {
	slot, o, err := s.openFileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	k := s.chunkAt(slot, r.Index)
	if k == 0 || !o.recovering() || !s.chunks.at(k).open() {
		return nil, inconsistent(r, "chunk %d of file %d is not in recovery", r.Index, r.File)
	}
	size := s.inodes.at(slot).chunkSize()
	if r.Generation > s.chunks.at(k).promised || int64(r.Length) > size {
		return nil, inconsistent(r, "chunk %d: generation %d, length %d", r.Index, r.Generation, r.Length)
	}
	s.seal(k, r.Generation, int64(r.Length))
	if int64(r.Length) < size {
		keep := r.Index
		if r.Length > 0 {
			keep++
		}
		s.keepChunks(slot, keep)
	}
	if s.firstOpenChunk(slot) == 0 {
		s.closeRecovered(slot)
	}
	return nil, nil
}

func (r *truncateRecord) apply(s *State) (any, error) {
	slot, o, err := s.fileOf(r, r.File)
	if err != nil {
		return nil, err
	}
	i := *s.inodes.at(slot)
	if o != nil || i.hidden() || r.Length < 0 || r.Length > i.length {
		return nil, inconsistent(r, "file %d of %d bytes cannot be cut to %d", r.File, i.length, r.Length)
	}
	size := i.chunkSize()
	s.keepChunks(slot, uint32((r.Length+size-1)/size))
	m := s.change(slot)
	m.modified = s.time
	leaf := r.Name
	if r.Cut {
		last := m.last
		if last == 0 {
			return nil, inconsistent(r, "nothing to cut")
		}
		c := s.chunks.at(last)
		cut := r.Length - s.chunkOffset(c)
		old := c.length()
		if cut <= 0 || cut >= old {
			return nil, inconsistent(r, "cut of a chunk of %d bytes to %d", old, cut)
		}
		s.setLease(r.File, &openFile{holder: "truncate", since: s.time, leaf: leaf})
		s.reopen(last, &openChunk{minimum: c.generation, base: cut, cut: cut})
		s.chunks.mut(last).setLength(cut)
		s.grow(slot, cut-old)
	}
	return &TruncateResult{Info: s.info(slot, leaf), Done: !r.Cut}, nil
}
