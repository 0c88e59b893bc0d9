package actor

import (
	"math"
	"slices"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// openFile is the file that a request of its lease holder is about.
type openFile struct {
	where // the path is what is known of it
	s     *State
	slot  namespace.InodeSlot
	id    uint64
	lease *leases.Lease
}

// held finds a file that the command's client must hold the lease of.
func held(s *State, op string, id uint64) (openFile, *fault.Error) {
	slot := s.tree.Find(id)
	if slot == 0 || s.tree.Inode(slot).Directory() {
		return openFile{}, where{op: op}.refuse(fault.LeaseLost,
			"it was removed, replaced, or abandoned after its lease ran out; write it again", "file %d does not exist (any more)", id)
	}
	lease := s.leases.Of(id)
	if lease == nil {
		return openFile{}, where{op: op}.refuse(fault.LeaseLost, "open it for append", "file %d is closed", id)
	}
	f := openFile{where: where{op, lease.KnownPath()}, s: s, slot: slot, id: id, lease: lease}
	if lease.Client != s.command.Client {
		e := f.refuse(fault.LeaseLost, "the lease was not renewed in time", "file %d has another lease holder now", id)
		e.Holder = lease.HolderName()
		return openFile{}, e
	}
	return f, nil
}

// inode for reading.
func (f *openFile) inode() *namespace.Inode { return f.s.tree.Inode(f.slot) }

// refuseChunk is refuse for one chunk of the file.
func (f *openFile) refuseChunk(kind fault.Kind, id chunk.ID, format string, args ...any) *fault.Error {
	e := f.refuse(kind, "", format, args...)
	e.Chunk = id.String()
	return e
}

// chunk finds an open chunk of the file.
func (f *openFile) chunk(id chunk.ID) (namespace.ChunkSlot, *fault.Error) {
	slot := f.s.files.Of(f.slot, id)
	switch {
	case slot == 0:
		return 0, f.refuseChunk(fault.Invalid, id, "the chunk is not one of file %d", f.id)
	case !f.s.files.Chunk(slot).Open():
		return 0, f.refuseChunk(fault.Invalid, id, "the chunk is sealed")
	}
	return slot, nil
}

// seals validates a writer's commits and returns what to log: the chunks that are
// still open. Whether the lengths fit together is checked by the callers.
func (f *openFile) seals(commits []ChunkCommit) (seals []codec.Sealing, err *fault.Error) {
	if len(commits) > limits.CommitsPerCallMax {
		return nil, limits.TooMany(f.op, "commits in one call", len(commits), limits.CommitsPerCallMax)
	}
	for n := range commits {
		commit := &commits[n]
		slot := f.s.files.Of(f.slot, commit.Chunk)
		if slot == 0 {
			return nil, f.refuseChunk(fault.Invalid, commit.Chunk, "the chunk is not one of file %d", f.id)
		}
		c := f.s.files.Chunk(slot)
		if slices.ContainsFunc(seals, func(q codec.Sealing) bool { return q.Index == c.Index() }) {
			return nil, f.refuseChunk(fault.Invalid, commit.Chunk, "the chunk is committed twice")
		}
		if err := f.checkCommit(commit, slot); err != nil {
			return nil, err
		}
		if c.Open() {
			seals = append(seals, codec.Sealing{Index: c.Index(), Generation: uint64(commit.Generation), Length: uint32(commit.Length)})
		}
	}
	return seals, nil
}

// checkCommit compares a commit with what is known of its chunk.
func (f *openFile) checkCommit(commit *ChunkCommit, slot namespace.ChunkSlot) *fault.Error {
	c, size := f.s.files.Chunk(slot), f.inode().ChunkSize()
	known := slices.ContainsFunc(commit.NodeIDs, func(id string) bool { return f.s.replicas.Nodes.Find(id) != 0 })
	fail := func(kind fault.Kind, format string, args ...any) *fault.Error {
		return f.refuseChunk(kind, commit.Chunk, format, args...)
	}
	switch {
	case commit.Length < 0 || commit.Length > size:
		return fail(fault.Invalid, "length %d is not in 0..%d", commit.Length, size)
	case len(commit.NodeIDs) > limits.NodesPerCallMax:
		return fail(fault.Invalid, "%s", limits.CheckCount("nodes", len(commit.NodeIDs), limits.NodesPerCallMax))
	case !known && commit.Length > 0:
		return fail(fault.Invalid, "no node that holds the chunk is named or known (%d names)", len(commit.NodeIDs))
	case !c.Open() && (commit.Generation != c.Generation() || commit.Length != c.Length()):
		return fail(fault.StaleGeneration, "the chunk was sealed at generation %d with %d bytes, not at %d with %d",
			c.Generation(), c.Length(), commit.Generation, commit.Length)
	case !c.Open():
		return nil
	}
	open := f.s.files.OpenChunk(slot)
	unchanged := open.Strict && commit.Generation == open.Minimum && commit.Length == open.Base
	switch {
	case commit.Generation != c.Generation() && !unchanged:
		return fail(fault.StaleGeneration, "generation %d is committed, the chunk is at %d", commit.Generation, c.Generation())
	case commit.Length < open.Base:
		return fail(fault.Invalid, "length %d is below the %d bytes known", commit.Length, open.Base)
	}
	return nil
}

// lengthAfter is a chunk's length once seals are applied, and whether it is
// sealed then.
func lengthAfter(c *namespace.Chunk, seals []codec.Sealing) (length int64, sealed bool) {
	for _, q := range seals {
		if q.Index == c.Index() {
			return int64(q.Length), true
		}
	}
	return c.Length(), !c.Open()
}

const shortFormat = "chunk %d has %d bytes; only a file's last chunk may have fewer than %d"

// checkFull refuses seals that leave a short chunk before the chunk at index
// last.
func (f *openFile) checkFull(seals []codec.Sealing, last uint32) *fault.Error {
	size := f.inode().ChunkSize()
	for _, q := range seals {
		if q.Index < last && int64(q.Length) != size {
			return f.refuse(fault.Invalid, "", shortFormat, q.Index, q.Length, size)
		}
	}
	return nil
}

// logCommits logs the record that seals a writer's commits, of which the chunks
// from index keep on are dropped, and believes the writer where the replicas are.
//
// Before the record is applied, it must find replicas at their generation if nodes
// said something else before, and those of the chunks that it drops, so that they
// are ordered deleted; for the others it is enough afterwards.
func (f *openFile) logCommits(commits []ChunkCommit, keep uint32, r codec.Record) (any, *fault.Error) {
	open, files := &f.s.replicas.OpenChunks, f.s.files
	for i := range commits {
		commit := &commits[i]
		slot := files.Of(f.slot, commit.Chunk)
		if slot != 0 && files.Chunk(slot).Open() && (files.Chunk(slot).Index() >= keep || open.Reported(commit.Chunk)) {
			open.Trust(slot, chunk.Replica{State: chunk.Sealed, Generation: commit.Generation, Length: commit.Length}, commit.NodeIDs)
		}
	}
	result, err := f.s.log(r)
	if err == nil {
		f.locate(commits)
	}
	return result, err
}

// locate notes where a client says that its chunks are sealed.
func (f *openFile) locate(commits []ChunkCommit) {
	for i := range commits {
		slot := f.s.files.Of(f.slot, commits[i].Chunk)
		if slot != 0 && !f.s.files.Chunk(slot).Open() {
			f.s.replicas.OpenChunks.Sealed(slot, commits[i].NodeIDs)
		}
	}
}

func addChunks(s *State, r *AddChunks) (any, *fault.Error) {
	f, err := held(s, "add chunks", r.FileID)
	if err != nil {
		return nil, err
	}
	inode := *f.inode()
	switch {
	case r.Count > limits.ChunksPerCallMax:
		return nil, f.tooMany("chunks in one call", int(r.Count), limits.ChunksPerCallMax)
	case len(r.ExcludeNodes) > limits.NodesPerCallMax:
		return nil, f.tooMany("excluded nodes", len(r.ExcludeNodes), limits.NodesPerCallMax)
	}
	seals, err := f.seals(r.Commits)
	if err != nil {
		return nil, err
	}
	replace := !r.ReplaceChunk.IsZero()
	chunks := inode.Chunks()
	if replace {
		err = f.checkReplace(r, seals)
	} else {
		chunks += r.Count
		err = f.checkAdd(r, seals)
	}
	if err == nil {
		err = f.checkFull(seals, chunks-min(chunks, 1))
	}
	if err != nil {
		return nil, err
	}
	record := &codec.AddChunksRecord{Prefix: s.prefix(), File: r.FileID, Commits: seals, Replace: replace, Index: r.FirstIndex}
	if r.Count > 0 {
		if err := s.replicas.Chooser.EnoughNodes(f.op, f.path, inode.Replication()); err != nil {
			return nil, err
		}
		record.Chunks, err = s.replicas.Chooser.Place(f.op, f.path, replicas.Wish{Count: int(r.Count), Replication: inode.Replication(),
			Size: inode.ChunkSize(), Exclude: r.ExcludeNodes})
		if err != nil {
			return nil, err
		}
	} else if len(seals) == 0 {
		f.locate(r.Commits)
		return &AddChunksResult{}, nil
	}
	return f.logCommits(r.Commits, math.MaxUint32, record)
}

// checkAdd checks that the new chunks of a request may follow the file's last.
func (f *openFile) checkAdd(r *AddChunks, seals []codec.Sealing) *fault.Error {
	inode := f.inode()
	if r.FirstIndex != inode.Chunks() {
		return f.refuse(fault.Invalid, "", "the first new chunk has index %d, the file has %d chunks", r.FirstIndex, inode.Chunks())
	}
	if chunks := inode.Chunks() + r.Count; chunks > chunksPerFileMax {
		return f.refuse(fault.Invalid, "", "the file would have %d chunks, at most %d are allowed", chunks, chunksPerFileMax)
	}
	if r.Count == 0 || inode.Last() == 0 {
		return nil
	}
	if length, sealed := lengthAfter(f.s.files.Chunk(inode.Last()), seals); sealed && length != inode.ChunkSize() {
		return f.refuse(fault.Invalid, "", "the last chunk has %d bytes and is no longer the last; "+
			"only a file's last chunk may have fewer than %d", length, inode.ChunkSize())
	}
	return nil
}

// checkReplace checks that a request may replace an open chunk.
func (f *openFile) checkReplace(r *AddChunks, seals []codec.Sealing) *fault.Error {
	old := f.s.files.Of(f.slot, r.ReplaceChunk)
	if old == 0 || r.Count != 1 || r.FirstIndex != f.s.files.Chunk(old).Index() {
		return f.refuse(fault.Invalid, "", "chunk %s cannot be replaced: it must be chunk %d of the file, and the count 1",
			r.ReplaceChunk, r.FirstIndex)
	}
	if _, sealed := lengthAfter(f.s.files.Chunk(old), seals); sealed {
		return f.refuse(fault.Invalid, "", "chunk %s is committed and cannot be replaced", r.ReplaceChunk)
	}
	if base := f.s.files.OpenChunk(old).Base; base > 0 {
		return f.refuse(fault.Invalid, "", "chunk %s holds %d committed bytes and cannot be replaced", r.ReplaceChunk, base)
	}
	return nil
}

func complete(s *State, r *Complete) (any, *fault.Error) {
	f, err := held(s, "complete", r.FileID)
	if err != nil {
		return nil, err
	}
	seals, err := f.seals(r.Commits)
	if err != nil {
		return nil, err
	}
	keep, err := f.kept(seals)
	if err != nil {
		return nil, err
	}
	seals = slices.DeleteFunc(seals, func(q codec.Sealing) bool { return q.Index >= keep })
	record := &codec.CompleteRecord{Prefix: s.prefix(), File: r.FileID, Commits: seals, Keep: keep}
	if f.inode().Hidden() {
		target, err := s.tree.FindTarget(f.op, f.lease.Path, false)
		if err != nil {
			err.Hint = "the directory was moved or removed while the file was written; make it again and complete once more, or abandon the file"
			return nil, err
		}
		record.Parent, record.Name = s.tree.Inode(target.Parent).ID(), target.Name
		record.Replaced, err = s.replaceable(where{f.op, f.lease.Path}, target.Existing, f.lease.Overwrite)
		if err != nil && err.Kind != fault.LeaseHeld {
			err.Hint = "the target appeared while the file was written; remove or rename it and complete once more, or abandon the file"
		}
		if err != nil {
			return nil, err
		}
	}
	return f.logCommits(r.Commits, keep, record)
}

// kept is how many chunks stay when the file is completed: empty ones at its end
// go. All must be sealed, and all but the last full.
func (f *openFile) kept(seals []codec.Sealing) (keep uint32, err *fault.Error) {
	files := f.s.files
	for slot := f.inode().First(); slot != 0; slot = files.Chunk(slot).Next() {
		c := files.Chunk(slot)
		length, sealed := lengthAfter(c, seals)
		if !sealed {
			e := f.refuseChunk(fault.Invalid, c.ID(), "chunk %d is not committed", c.Index())
			e.Hint = "commit every chunk, also one without bytes"
			return 0, e
		}
		if length > 0 {
			keep = c.Index() + 1
		}
	}
	size := f.inode().ChunkSize()
	for slot := f.inode().First(); slot != 0 && files.Chunk(slot).Index()+1 < keep; slot = files.Chunk(slot).Next() {
		c := files.Chunk(slot)
		if length, _ := lengthAfter(c, seals); length != size {
			return 0, f.refuseChunk(fault.Invalid, c.ID(), shortFormat, c.Index(), length, size)
		}
	}
	return keep, nil
}

func abandon(s *State, r *Abandon) (any, *fault.Error) {
	f, err := held(s, "abandon", r.FileID)
	if err != nil {
		return nil, err
	}
	if f.inode().Completed() {
		return nil, f.refuse(fault.Invalid, "complete it, or recover its lease", "the file was completed before and is only open for append")
	}
	return s.log(&codec.AbandonRecord{Prefix: s.prefix(), File: r.FileID})
}

func openForAppend(s *State, r *Append) (any, *fault.Error) {
	at := where{"append", r.Path}
	slot, err := s.findFile(at)
	if err != nil {
		return nil, err
	}
	id := s.tree.Inode(slot).ID()
	if lease := s.leases.Of(id); lease != nil {
		if !r.RecoverLease {
			return nil, s.leaseHeld(at, lease)
		}
		if err := s.checkTakeOver(at, lease, r.ClientName); err != nil {
			return nil, err
		}
		closed, err := s.takeOver(slot, s.ownPrefix())
		if err != nil {
			return nil, err
		}
		if !closed {
			return nil, at.refuse(fault.Unavailable, "try again in a moment", "lease recovery is under way: %s", s.recoveryReason(slot))
		}
	}
	inode := *s.tree.Inode(slot)
	if open := s.leases.Count(); open >= openFilesMax {
		return nil, at.refuse(fault.Busy, "", "%d files are open, the limit", open)
	}
	if err := s.replicas.Chooser.EnoughNodes(at.op, at.path, inode.Replication()); err != nil {
		return nil, err
	}
	_, name := namespace.SplitPath(r.Path)
	record := &codec.AppendRecord{Prefix: s.prefix(), File: id, Name: name, Holder: limits.Clip(r.ClientName, limits.TextBytesMax)}
	if last := inode.Last(); last != 0 && s.files.Chunk(last).Length() < inode.ChunkSize() {
		record.Reopen, record.Generation = true, uint64(s.files.Chunk(last).Promised()+1)
		if record.Members, err = s.membersOf(at, last); err != nil {
			return nil, err
		}
	}
	return s.log(record)
}

// membersOf finds the pipeline for a sealed chunk that is to be open again.
func (s *State) membersOf(at where, slot namespace.ChunkSlot) ([]datanode.Index, *fault.Error) {
	c := s.files.Chunk(slot)
	wanted := s.files.Inode(c).Replication()
	members, away := s.replicas.OpenChunks.Located(slot)
	refuse := func(hint, format string, args ...any) ([]datanode.Index, *fault.Error) {
		e := at.refuse(fault.Unavailable, hint, format, args...)
		e.Chunk = c.ID().String()
		return nil, e
	}
	switch {
	case len(members) == 0 && away != "":
		return refuse("start the nodes that hold it", "all holders of the file's last chunk are away: %s", away)
	case len(members) == 0:
		return refuse("start the nodes that hold it", "no datanode has reported the file's last chunk")
	case len(members) < wanted && s.step.Mono-s.step.ActiveSince < s.config.RecoverWait && s.replicas.Nodes.ReportsMissing():
		// Replicas that are not members are stale from here on, also those on nodes
		// that have not yet had time to report them.
		return refuse("", "%d of %d replicas of the file's last chunk are known, and not all datanodes have reported yet", len(members), wanted)
	}
	s.replicas.OpenChunks.Order(members)
	return members, nil
}

func recoverPipeline(s *State, r *RecoverPipeline) (any, *fault.Error) {
	f, err := held(s, "recover pipeline", r.FileID)
	if err != nil {
		return nil, err
	}
	slot, err := f.chunk(r.Chunk)
	if err != nil {
		return nil, err
	}
	if len(r.FailedNodes) > limits.NodesPerCallMax {
		return nil, limits.TooMany(f.op, "failed nodes", len(r.FailedNodes), limits.NodesPerCallMax)
	}
	c := s.files.Chunk(slot)
	if r.Generation < c.Generation() || r.Generation > c.Promised() {
		return nil, f.refuseChunk(fault.StaleGeneration, r.Chunk, "generation %d is not in %d..%d", r.Generation, c.Generation(), c.Promised())
	}
	survivors, holders := s.replicas.OpenChunks.Survivors(slot, r.FailedNodes)
	if len(survivors) == 0 {
		e := f.refuseChunk(fault.Unavailable, r.Chunk, "no member of the pipeline is left: %s", holders)
		e.Hint = "if nothing of the chunk was acknowledged, replace it; otherwise wait for a member to return"
		return nil, e
	}
	return s.log(&codec.RecoverPipelineRecord{Prefix: s.prefix(), File: r.FileID, Index: c.Index(), Generation: uint64(c.Promised() + 1),
		Survivors: survivors, Replacements: s.replicas.Chooser.Replace(slot, survivors, r.FailedNodes)})
}

func updatePipeline(s *State, r *UpdatePipeline) (any, *fault.Error) {
	f, err := held(s, "update pipeline", r.FileID)
	if err != nil {
		return nil, err
	}
	slot, err := f.chunk(r.Chunk)
	if err != nil {
		return nil, err
	}
	var members []datanode.Index
	for _, id := range r.NodeIDs {
		if node := s.replicas.Nodes.Find(id); node != 0 && !slices.Contains(members, node) {
			members = append(members, node)
		}
	}
	c, size := s.files.Chunk(slot), f.inode().ChunkSize()
	switch {
	case r.Generation != c.Promised():
		return nil, f.refuseChunk(fault.StaleGeneration, r.Chunk, "generation %d is not the last one issued, %d", r.Generation, c.Promised())
	case r.Length < c.Length() || r.Length > size:
		return nil, f.refuseChunk(fault.Invalid, r.Chunk, "length %d is not in %d..%d", r.Length, c.Length(), size)
	case len(members) == 0 || len(r.NodeIDs) > limits.NodesPerCallMax:
		return nil, f.refuseChunk(fault.Invalid, r.Chunk, "the pipeline has %d known members", len(members))
	}
	result, err := s.log(&codec.UpdatePipelineRecord{Prefix: s.prefix(), File: r.FileID, Index: c.Index(),
		Generation: uint64(r.Generation), Length: uint32(r.Length), Members: members})
	if err == nil {
		s.replicas.OpenChunks.Trust(slot, chunk.Replica{State: chunk.Open, Generation: r.Generation, Length: r.Length}, r.NodeIDs)
	}
	return result, err
}

func truncate(s *State, r *Truncate) (any, *fault.Error) {
	at := where{"truncate", r.Path}
	slot, err := s.findFile(at)
	if err != nil {
		return nil, err
	}
	inode := *s.tree.Inode(slot)
	if lease := s.leases.Of(inode.ID()); lease != nil {
		return nil, s.leaseHeld(at, lease)
	}
	_, name := namespace.SplitPath(r.Path)
	switch {
	case r.Length < 0 || r.Length > inode.Length():
		return nil, at.refuse(fault.Invalid, "", "the file has %d bytes, it cannot be cut to %d", inode.Length(), r.Length)
	case r.Length == inode.Length():
		return &TruncateResult{Info: s.info(slot, name), Done: true}, nil
	}
	cut := r.Length%inode.ChunkSize() != 0
	result, err := s.log(&codec.TruncateRecord{Prefix: s.prefix(), File: inode.ID(), Name: name, Length: r.Length, Cut: cut})
	if err == nil && cut {
		s.recoverFile(slot)
	}
	return result, err
}
