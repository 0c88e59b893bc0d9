package actor

import (
	"cmp"
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
func held(state *State, op string, id uint64) (openFile, *fault.Error) {
	slot := state.tree.Find(id)
	if slot == 0 || state.tree.Inode(slot).Directory() {
		return openFile{}, where{op: op}.refuse(fault.LeaseLost,
			"it was removed, replaced, or abandoned after its lease ran out; write it again",
			"file %d does not exist (any more)", id)
	}
	lease := state.leases.Of(id)
	if lease == nil {
		return openFile{}, where{op: op}.refuse(fault.LeaseLost, "open it for append", "file %d is closed", id)
	}
	f := openFile{where: where{op, lease.KnownPath()}, s: state, slot: slot, id: id, lease: lease}
	if lease.Client != state.command.Client {
		e := f.refuse(fault.LeaseLost, "the lease was not renewed in time", "file %d has another lease holder now", id)
		e.Holder = lease.HolderName()
		return openFile{}, e
	}
	return f, nil
}

func (f *openFile) inode() *namespace.Inode { return f.s.tree.Inode(f.slot) }

func (f *openFile) chunk(id chunk.ID) (namespace.ChunkSlot, *fault.Error) {
	slot := f.s.files.Of(f.slot, id)
	switch {
	case slot == 0:
		return 0, f.refuseChunk(fault.Invalid, id, "", "the chunk is not one of file %d", f.id)
	case !f.s.files.Chunk(slot).Open():
		return 0, f.refuseChunk(fault.Invalid, id, "", "the chunk is sealed")
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
			return nil, f.refuseChunk(fault.Invalid, commit.Chunk, "", "the chunk is not one of file %d", f.id)
		}
		c := f.s.files.Chunk(slot)
		if slices.ContainsFunc(seals, func(q codec.Sealing) bool { return q.Index == c.Index() }) {
			return nil, f.refuseChunk(fault.Invalid, commit.Chunk, "", "the chunk is committed twice")
		}
		if err := f.checkCommit(commit, slot); err != nil {
			return nil, err
		}
		if c.Open() {
			seals = append(seals, codec.Sealing{Index: c.Index(), Generation: commit.Generation,
				Length: uint32(commit.Length)})
		}
	}
	return seals, nil
}

func (f *openFile) checkCommit(commit *ChunkCommit, slot namespace.ChunkSlot) *fault.Error {
	record, size := f.s.files.Chunk(slot), f.inode().ChunkSize()
	least := f.s.replicas.CopiesLeast(f.inode().Replication())
	fail := func(kind fault.Kind, format string, args ...any) *fault.Error {
		return f.refuseChunk(kind, commit.Chunk, "", format, args...)
	}
	switch {
	case commit.Length < 0 || commit.Length > size:
		return fail(fault.Invalid, "length %d is not in 0..%d", commit.Length, size)
	case len(commit.NodeIDs) > limits.NodesPerCallMax:
		return fail(fault.Invalid, "%s", limits.CheckCount("nodes", len(commit.NodeIDs), limits.NodesPerCallMax))
	case !record.Open() && (commit.Generation != record.Generation() || commit.Length != record.Length()):
		return fail(fault.StaleGeneration, "the chunk was sealed at generation %d with %d bytes, not at %d with %d",
			record.Generation(), record.Length(), commit.Generation, commit.Length)
	case !record.Open():
		return nil
	}
	open := f.s.files.OpenChunk(slot)
	unchanged := open.Strict && commit.Generation == open.Minimum && commit.Length == open.Base
	known := len(f.s.replicas.Nodes.Known(commit.NodeIDs))
	switch {
	case known < least && commit.Length > 0 && !unchanged:
		return fail(fault.TooFewNodes, "%d known nodes that hold the chunk are named, %d copies are needed "+
			"(namenode.write_copies_min)", known, least)
	case commit.Generation != record.Generation() && !unchanged:
		return fail(fault.StaleGeneration, "generation %d is committed, the chunk is at %d", commit.Generation,
			record.Generation())
	case commit.Length < open.Base:
		return fail(fault.Invalid, "length %d is below the %d bytes known", commit.Length, open.Base)
	}
	return nil
}

// lengthAfter is a chunk's length once seals are applied, and whether it is sealed then.
func lengthAfter(c *namespace.Chunk, seals []codec.Sealing) (length int64, sealed bool) {
	for _, q := range seals {
		if q.Index == c.Index() {
			return int64(q.Length), true
		}
	}
	return c.Length(), !c.Open()
}

const shortFormat = "chunk %d has %d bytes; only a file's last chunk may have fewer than %d"

// checkFull refuses seals that leave a short chunk before the chunk at index last.
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
// Before the record is applied, it must find replicas at their generation if nodes said something else before, and
// those of the chunks that it drops, so that they are ordered deleted; for the others it is enough afterwards.
func (f *openFile) logCommits(commits []ChunkCommit, keep uint32, r codec.Record) (any, *fault.Error) {
	open, files := &f.s.replicas.OpenChunks, f.s.files
	for i := range commits {
		commit := &commits[i]
		slot := files.Of(f.slot, commit.Chunk)
		if slot != 0 && files.Chunk(slot).Open() && (files.Chunk(slot).Index() >= keep || open.Reported(commit.Chunk)) {
			open.Trust(slot, chunk.Replica{State: chunk.Sealed, Generation: commit.Generation, Length: commit.Length},
				commit.NodeIDs)
		}
	}
	result, err := f.s.log(r)
	if err == nil {
		f.locate(commits)
	}
	return result, err
}

func (f *openFile) locate(commits []ChunkCommit) {
	for i := range commits {
		slot := f.s.files.Of(f.slot, commits[i].Chunk)
		if slot != 0 && !f.s.files.Chunk(slot).Open() {
			f.s.replicas.OpenChunks.Sealed(slot, commits[i].NodeIDs)
		}
	}
}

func addChunks(state *State, request *AddChunks) (any, *fault.Error) {
	file, err := held(state, "add chunks", request.FileID)
	if err != nil {
		return nil, err
	}
	inode := *file.inode()
	if problem := cmp.Or(limits.CheckCount("chunks in one call", int(request.Count), limits.ChunksPerCallMax),
		limits.CheckCount("excluded nodes", len(request.ExcludeNodes), limits.NodesPerCallMax),
		limits.CheckCount("avoided nodes", len(request.AvoidNodes), limits.NodesPerCallMax)); problem != "" {
		return nil, file.refuse(fault.Invalid, "", "%s", problem)
	}
	seals, err := file.seals(request.Commits)
	if err != nil {
		return nil, err
	}
	replace := !request.ReplaceChunk.IsZero()
	chunks := inode.Chunks()
	if replace {
		err = file.checkReplace(request, seals)
	} else {
		chunks += request.Count
		err = file.checkAdd(request, seals)
	}
	if err == nil {
		err = file.checkFull(seals, chunks-min(chunks, 1))
	}
	if err != nil {
		return nil, err
	}
	record := &codec.AddChunksRecord{Prefix: state.prefix(), File: request.FileID, Commits: seals, Replace: replace,
		Index: request.FirstIndex}
	if request.Count > 0 {
		if err := state.replicas.Chooser.EnoughNodes(file.op, file.path, inode.Replication()); err != nil {
			return nil, err
		}
		record.Chunks, err = state.replicas.Chooser.Place(file.op, file.path,
			replicas.Wish{Count: int(request.Count), Replication: inode.Replication(),
				Size: roomFor(request.ChunkBytesMax, inode.ChunkSize()), Exclude: request.ExcludeNodes,
				Avoid: request.AvoidNodes, Strict: replace})
		if err != nil {
			return nil, err
		}
	} else if len(seals) == 0 {
		file.locate(request.Commits)
		return &AddChunksResult{}, nil
	}
	return file.logCommits(request.Commits, math.MaxUint32, record)
}

// checkAdd checks that the new chunks of a request may follow the file's last.
func (f *openFile) checkAdd(r *AddChunks, seals []codec.Sealing) *fault.Error {
	inode := f.inode()
	if r.FirstIndex != inode.Chunks() {
		return f.refuse(fault.Invalid, "", "the first new chunk has index %d, the file has %d chunks", r.FirstIndex,
			inode.Chunks())
	}
	if chunks := inode.Chunks() + r.Count; chunks > chunksPerFileMax {
		return f.refuse(fault.Invalid, "", "the file would have %d chunks, at most %d are allowed", chunks,
			chunksPerFileMax)
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

func (f *openFile) checkReplace(request *AddChunks, seals []codec.Sealing) *fault.Error {
	old := f.s.files.Of(f.slot, request.ReplaceChunk)
	if old == 0 || request.Count != 1 || request.FirstIndex != f.s.files.Chunk(old).Index() {
		return f.refuse(fault.Invalid, "",
			"chunk %s cannot be replaced: it must be chunk %d of the file, and the count 1",
			request.ReplaceChunk, request.FirstIndex)
	}
	if _, sealed := lengthAfter(f.s.files.Chunk(old), seals); sealed {
		return f.refuse(fault.Invalid, "", "chunk %s is committed and cannot be replaced", request.ReplaceChunk)
	}
	if base := f.s.files.OpenChunk(old).Base; base > 0 {
		return f.refuse(fault.Invalid, "", "chunk %s holds %d committed bytes and cannot be replaced",
			request.ReplaceChunk, base)
	}
	return nil
}

func complete(state *State, request *Complete) (any, *fault.Error) {
	file, err := held(state, "complete", request.FileID)
	if err != nil {
		return nil, err
	}
	seals, err := file.seals(request.Commits)
	if err != nil {
		return nil, err
	}
	keep, err := file.kept(seals)
	if err != nil {
		return nil, err
	}
	seals = slices.DeleteFunc(seals, func(q codec.Sealing) bool { return q.Index >= keep })
	record := &codec.CompleteRecord{Prefix: state.prefix(), File: request.FileID, Commits: seals, Keep: keep}
	if file.inode().Hidden() {
		target, err := state.tree.FindTarget(file.op, file.lease.Path, false)
		if err != nil {
			err.Hint = "the directory was moved or removed while the file was written; " +
				"make it again and complete once more, or abandon the file"
			return nil, err
		}
		record.Parent, record.Name = state.tree.Inode(target.Parent).ID(), target.Name
		record.Replaced, err = state.replaceable(where{file.op, file.lease.Path}, target.Existing, file.lease.Overwrite)
		if err != nil && err.Kind != fault.LeaseHeld {
			err.Hint = "the target appeared while the file was written; " +
				"remove or rename it and complete once more, or abandon the file"
		}
		if err != nil {
			return nil, err
		}
	}
	return file.logCommits(request.Commits, keep, record)
}

// kept is how many chunks stay when the file is completed: empty ones at its end
// go. All must be sealed, and all but the last full.
func (f *openFile) kept(seals []codec.Sealing) (keep uint32, err *fault.Error) {
	files := f.s.files
	for slot := f.inode().First(); slot != 0; slot = files.Chunk(slot).Next() {
		c := files.Chunk(slot)
		length, sealed := lengthAfter(c, seals)
		if !sealed {
			return 0, f.refuseChunk(fault.Invalid, c.ID(), "commit every chunk, also one without bytes",
				"chunk %d is not committed", c.Index())
		}
		if length > 0 {
			keep = c.Index() + 1
		}
	}
	size := f.inode().ChunkSize()
	for slot := f.inode().First(); slot != 0 && files.Chunk(slot).Index()+1 < keep; slot = files.Chunk(slot).Next() {
		c := files.Chunk(slot)
		if length, _ := lengthAfter(c, seals); length != size {
			return 0, f.refuseChunk(fault.Invalid, c.ID(), "", shortFormat, c.Index(), length, size)
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
		return nil, f.refuse(fault.Invalid, "complete it, or recover its lease",
			"the file was completed before and is only open for append")
	}
	return s.log(&codec.AbandonRecord{Prefix: s.prefix(), File: r.FileID})
}

func openForAppend(state *State, request *Append) (any, *fault.Error) {
	at := where{"append", request.Path}
	slot, err := state.findFile(at)
	if err != nil {
		return nil, err
	}
	if err := expired(at); err != nil {
		return nil, err
	}
	id := state.tree.Inode(slot).ID()
	if lease := state.leases.Of(id); lease != nil {
		if !request.RecoverLease {
			return nil, state.leaseHeld(at, lease)
		}
		if err := state.checkTakeOver(at, lease, request.ClientName); err != nil {
			return nil, err
		}
		closed, err := state.takeOver(slot, state.ownPrefix())
		if err != nil {
			return nil, err
		}
		if !closed {
			return nil, at.refuse(fault.Unavailable, "try again in a moment", "lease recovery is under way: %s",
				state.recoveryReason(slot))
		}
	}
	inode := *state.tree.Inode(slot)
	if open := state.leases.Count(); open >= openFilesMax {
		return nil, at.refuse(fault.Busy, "", "%d files are open, the limit", open)
	}
	if err := state.replicas.Chooser.EnoughNodes(at.op, at.path, inode.Replication()); err != nil {
		return nil, err
	}
	_, name := namespace.SplitPath(request.Path)
	record := &codec.AppendRecord{Prefix: state.prefix(), File: id, Name: name,
		Holder: limits.Clip(request.ClientName, limits.TextBytesMax)}
	if last := inode.Last(); last != 0 && state.files.Chunk(last).Length() < inode.ChunkSize() {
		record.Reopen, record.Generation = true, state.files.Chunk(last).Promised()+1
		if record.Members, err = state.membersOf(at, last); err != nil {
			return nil, err
		}
	}
	return state.log(record)
}

// membersOf finds the pipeline for a sealed chunk that is to be open again.
func (s *State) membersOf(at where, slot namespace.ChunkSlot) ([]datanode.Index, *fault.Error) {
	c := s.files.Chunk(slot)
	wanted := s.files.Inode(c).Replication()
	members, stale, dead := s.replicas.OpenChunks.Located(slot)
	least, away := s.replicas.CopiesLeast(wanted), s.replicas.Nodes.Describe(slices.Concat(stale, dead))
	refuse := func(hint, format string, args ...any) ([]datanode.Index, *fault.Error) {
		return nil, at.refuseChunk(fault.Unavailable, c.ID(), hint, format, args...)
	}
	switch {
	case len(members) == 0 && away != "":
		return refuse("start the nodes that hold it", "all holders of the file's last chunk are away: %s", away)
	case len(members) == 0:
		return refuse("start the nodes that hold it", "no datanode has reported the file's last chunk")
	case len(members) < least && len(stale) > 0:
		// What they hold would be stale from here on, and what is acknowledged on too few.
		return refuse("try again in a moment", "%d copies are needed (namenode.write_copies_min), and holders of the "+
			"file's last chunk are away since a moment: %s", least, s.replicas.Nodes.Describe(stale))
	case len(members) < least && len(members)+s.replicas.Chooser.Spare(slot, least) < least:
		return refuse("start the nodes that hold it, or add datanodes",
			"%d copies are needed (namenode.write_copies_min), the file's last chunk is only on %s, and no other node "+
				"can take one", least, s.replicas.Nodes.Describe(members))
	}
	if err := s.allReported(at, slot, len(members)); err != nil {
		return nil, err
	}
	s.replicas.OpenChunks.Order(members)
	return members, nil
}

// allReported refuses, soon after the namenode's start, to change a sealed chunk of which only some replicas are known:
// those on nodes that have not yet had time to report them would be stale from here on.
func (s *State) allReported(at where, slot namespace.ChunkSlot, known int) *fault.Error {
	c := s.files.Chunk(slot)
	wanted, nodes := s.files.Inode(c).Replication(), &s.replicas.Nodes
	away := nodes.Awaited() != "" && (known < s.replicas.CopiesLeast(wanted) || nodes.Joining(nil))
	if known >= wanted || s.step.Mono-s.step.ActiveSince >= s.config.RecoverWait || !away && !nodes.ReportsMissing() {
		return nil
	}
	return at.refuseChunk(fault.Unavailable, c.ID(), "", "%d of %d replicas of the file's last chunk are known, "+
		"and not all datanodes have reported yet", known, wanted)
}

func recoverPipeline(state *State, request *RecoverPipeline) (any, *fault.Error) {
	file, err := held(state, "recover pipeline", request.FileID)
	if err != nil {
		return nil, err
	}
	slot, err := file.chunk(request.Chunk)
	if err != nil {
		return nil, err
	}
	if len(request.FailedNodes) > limits.NodesPerCallMax {
		return nil, limits.TooMany(file.op, "failed nodes", len(request.FailedNodes), limits.NodesPerCallMax)
	}
	record := state.files.Chunk(slot)
	if request.Generation < record.Generation() || request.Generation > record.Promised() {
		return nil, file.refuseChunk(fault.StaleGeneration, request.Chunk, "", "generation %d is not in %d..%d",
			request.Generation, record.Generation(), record.Promised())
	}
	survivors, awaited := state.replicas.OpenChunks.Survivors(slot, request.FailedNodes)
	describe := state.replicas.Nodes.Describe
	switch {
	case len(awaited) > 0:
		return nil, file.refuseChunk(fault.SafeMode, request.Chunk, "try again in a moment",
			"the namenode started a moment ago and waits for members of the pipeline: %s", describe(awaited))
	case len(survivors) == 0:
		return nil, file.refuseChunk(fault.Unavailable, request.Chunk,
			"if nothing of the chunk was acknowledged, replace it; otherwise wait for a member to return",
			"no member of the pipeline is left: %s", describe(state.replicas.OpenChunks.Holders(slot)))
	}
	replacements := state.replicas.Chooser.Replace(slot, survivors, request.FailedNodes,
		roomFor(request.ChunkBytesMax, file.inode().ChunkSize()))
	members, wanted := slices.Concat(survivors, replacements), file.inode().Replication()
	least := state.replicas.CopiesLeast(wanted)
	switch {
	case len(members) < wanted && state.replicas.Nodes.Joining(request.FailedNodes):
		return nil, file.refuseChunk(fault.SafeMode, request.Chunk, "try again in a moment",
			"the namenode started a moment ago and waits for %s", state.replicas.Nodes.Awaited())
	case len(members) < least:
		return nil, file.refuseChunk(fault.Unavailable, request.Chunk,
			"start the datanodes that are away, or add others; what was acknowledged is kept",
			"%d copies are needed (namenode.write_copies_min), there is only %s to write on", least, describe(members))
	case request.Grow && len(replacements) == 0:
		return nil, file.refuseChunk(fault.TooFewNodes, request.Chunk, "", "no other node can join %s",
			describe(members))
	}
	return state.log(&codec.RecoverPipelineRecord{Prefix: state.prefix(), File: request.FileID, Index: record.Index(),
		Generation: record.Promised() + 1, Survivors: survivors, Replacements: replacements})
}

func updatePipeline(state *State, request *UpdatePipeline) (any, *fault.Error) {
	file, err := held(state, "update pipeline", request.FileID)
	if err != nil {
		return nil, err
	}
	slot, err := file.chunk(request.Chunk)
	if err != nil {
		return nil, err
	}
	members := state.replicas.Nodes.Known(request.NodeIDs)
	least := state.replicas.CopiesLeast(file.inode().Replication())
	record, size := state.files.Chunk(slot), file.inode().ChunkSize()
	switch {
	case request.Generation != record.Promised():
		return nil, file.refuseChunk(fault.StaleGeneration, request.Chunk, "",
			"generation %d is not the last one issued, %d", request.Generation, record.Promised())
	case request.Length < record.Length() || request.Length > size:
		return nil, file.refuseChunk(fault.Invalid, request.Chunk, "", "length %d is not in %d..%d", request.Length,
			record.Length(), size)
	case len(request.NodeIDs) > limits.NodesPerCallMax:
		return nil, file.refuseChunk(fault.Invalid, request.Chunk, "", "%s",
			limits.CheckCount("nodes", len(request.NodeIDs), limits.NodesPerCallMax))
	case len(members) < least:
		return nil, file.refuseChunk(fault.TooFewNodes, request.Chunk, "", "the pipeline has %d known members, "+
			"%d copies are needed (namenode.write_copies_min)", len(members), least)
	}
	result, err := state.log(&codec.UpdatePipelineRecord{Prefix: state.prefix(), File: request.FileID,
		Index: record.Index(), Generation: request.Generation, Length: uint32(request.Length), Members: members})
	if err == nil {
		state.replicas.OpenChunks.Trust(slot, chunk.Replica{State: chunk.Open, Generation: request.Generation,
			Length: request.Length}, request.NodeIDs)
	}
	return result, err
}

func truncate(state *State, request *Truncate) (any, *fault.Error) {
	at := where{"truncate", request.Path}
	slot, err := state.findFile(at)
	if err != nil {
		return nil, err
	}
	if err := expired(at); err != nil {
		return nil, err
	}
	inode := *state.tree.Inode(slot)
	if lease := state.leases.Of(inode.ID()); lease != nil {
		return nil, state.leaseHeld(at, lease)
	}
	_, name := namespace.SplitPath(request.Path)
	switch {
	case request.Length < 0 || request.Length > inode.Length():
		return nil, at.refuse(fault.Invalid, "", "the file has %d bytes, it cannot be cut to %d", inode.Length(),
			request.Length)
	case request.Length == inode.Length():
		return &TruncateResult{Info: state.info(slot, name), Done: true}, nil
	}
	cut := request.Length%inode.ChunkSize() != 0
	if cut {
		last := state.files.At(slot, uint32(request.Length/inode.ChunkSize()))
		known, _, _ := state.replicas.OpenChunks.Located(last)
		if err := state.allReported(at, last, len(known)); err != nil {
			return nil, err
		}
	}
	result, err := state.log(&codec.TruncateRecord{Prefix: state.prefix(), File: inode.ID(), Name: name,
		Length: request.Length, Cut: cut})
	if err == nil && cut {
		state.recoverFile(slot)
	}
	return result, err
}
