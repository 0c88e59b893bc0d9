package actor

import (
	"fmt"
	"math"
	"slices"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// held finds a file that the command's client must hold the lease of.
func (s *State) held(op string, id uint64) (namespace.InodeSlot, *leases.Lease, *fault.Error) {
	slot := s.tree.Find(id)
	if slot == 0 || s.tree.Inode(slot).Directory() {
		return 0, nil, &fault.Error{Kind: fault.LeaseLost, Op: op, Reason: fmt.Sprintf("file %d does not exist (any more)", id),
			Hint: "it was removed, replaced, or abandoned after its lease ran out; write it again"}
	}
	o := s.leases.Of(id)
	switch {
	case o == nil:
		return 0, nil, &fault.Error{Kind: fault.LeaseLost, Op: op, Reason: fmt.Sprintf("file %d is closed", id), Hint: "open it for append"}
	case o.Client != s.command.Client:
		return 0, nil, &fault.Error{Kind: fault.LeaseLost, Op: op, Path: o.KnownPath(), Reason: fmt.Sprintf("file %d has another lease holder now", id),
			Holder: o.HolderName(), Hint: "the lease was not renewed in time"}
	}
	return slot, o, nil
}

// commits validates a writer's commits. It gives the seals to log, the nodes of
// each, and the length of every chunk named (also of those sealed before).
// limit is the number of chunks that the file has or will have: all but the
// last must be full, unless only empty ones follow (Complete checks that).
func (s *State) commits(op string, file namespace.InodeSlot, o *leases.Lease, commits []ChunkCommit) (seals []codec.Sealing, err *fault.Error) {
	if len(commits) > limits.CommitsPerCallMax {
		return nil, limits.TooMany(op, "commits in one call", len(commits), limits.CommitsPerCallMax)
	}
	size := s.tree.Inode(file).ChunkSize()
	for n := range commits {
		c := &commits[n]
		fail := func(kind fault.Kind, format string, args ...any) ([]codec.Sealing, *fault.Error) {
			e := fault.New(kind, op, format, args...)
			e.Path, e.Chunk = o.KnownPath(), c.Chunk.String()
			return nil, e
		}
		slot := s.files.Of(file, c.Chunk)
		if slot == 0 {
			return fail(fault.Invalid, "the chunk is not one of file %d", s.tree.Inode(file).ID())
		}
		k := s.files.Chunk(slot)
		known := 0
		for _, id := range c.NodeIDs {
			if s.replicas.Nodes.Find(id) != 0 {
				known++
			}
		}
		switch {
		case c.Length < 0 || c.Length > size:
			return fail(fault.Invalid, "length %d is not in 0..%d", c.Length, size)
		case len(c.NodeIDs) > limits.NodesPerCallMax:
			return fail(fault.Invalid, "%s", limits.CheckCount("nodes", len(c.NodeIDs), limits.NodesPerCallMax))
		case known == 0 && c.Length > 0:
			return fail(fault.Invalid, "no node that holds the chunk is named or known (%d names)", len(c.NodeIDs))
		case slices.ContainsFunc(seals, func(q codec.Sealing) bool { return q.Index == k.Index() }):
			return fail(fault.Invalid, "the chunk is committed twice")
		}
		if !k.Open() {
			if c.Generation != k.Generation() || c.Length != k.Length() {
				return fail(fault.StaleGeneration, "the chunk was sealed at generation %d with %d bytes, not at %d with %d",
					k.Generation(), k.Length(), c.Generation, c.Length)
			}
			continue
		}
		w := s.files.OpenChunk(slot)
		unchanged := w.Strict && c.Generation == w.Minimum && c.Length == w.Base
		if c.Generation != k.Generation() && !unchanged {
			return fail(fault.StaleGeneration, "generation %d is committed, the chunk is at %d", c.Generation, k.Generation())
		}
		if c.Length < w.Base {
			return fail(fault.Invalid, "length %d is below the %d bytes known", c.Length, w.Base)
		}
		seals = append(seals, codec.Sealing{Index: k.Index(), Generation: uint64(c.Generation), Length: uint32(c.Length)})
	}
	return seals, nil
}

// lengthAfter is a chunk's length once seals are applied, and whether it is
// sealed then.
func (s *State) lengthAfter(slot namespace.ChunkSlot, seals []codec.Sealing) (length int64, sealed bool) {
	c := s.files.Chunk(slot)
	for _, q := range seals {
		if q.Index == c.Index() {
			return int64(q.Length), true
		}
	}
	return c.Length(), !c.Open()
}

// checkFull refuses seals that leave a short chunk before the chunk at index
// last.
func (s *State) checkFull(op string, file namespace.InodeSlot, o *leases.Lease, seals []codec.Sealing, last uint32) *fault.Error {
	size := s.tree.Inode(file).ChunkSize()
	for _, q := range seals {
		if q.Index < last && int64(q.Length) != size {
			return &fault.Error{Kind: fault.Invalid, Op: op, Path: o.KnownPath(),
				Reason: fmt.Sprintf("chunk %d has %d bytes; only a file's last chunk may have fewer than %d", q.Index, q.Length, size)}
		}
	}
	return nil
}

func (s *State) addMore(r *AddChunks) (any, *fault.Error) {
	const op = "add chunks"
	slot, o, err := s.held(op, r.FileID)
	if err != nil {
		return nil, err
	}
	fail := func(kind fault.Kind, format string, args ...any) (any, *fault.Error) {
		e := fault.New(kind, op, format, args...)
		e.Path = o.KnownPath()
		return nil, e
	}
	i := *s.tree.Inode(slot)
	replace := !r.ReplaceChunk.IsZero()
	if r.Count > limits.ChunksPerCallMax {
		return fail(fault.Invalid, "%s", limits.CheckCount("chunks in one call", int(r.Count), limits.ChunksPerCallMax))
	}
	if len(r.ExcludeNodes) > limits.NodesPerCallMax {
		return fail(fault.Invalid, "%s", limits.CheckCount("excluded nodes", len(r.ExcludeNodes), limits.NodesPerCallMax))
	}
	seals, err := s.commits(op, slot, o, r.Commits)
	if err != nil {
		return nil, err
	}
	last := i.Chunks() + r.Count
	switch {
	case replace:
		old := s.files.Of(slot, r.ReplaceChunk)
		if old == 0 || r.Count != 1 || r.FirstIndex != s.files.Chunk(old).Index() {
			return fail(fault.Invalid, "chunk %s cannot be replaced: it must be chunk %d of the file, and the count 1", r.ReplaceChunk, r.FirstIndex)
		}
		if _, sealed := s.lengthAfter(old, seals); sealed {
			return fail(fault.Invalid, "chunk %s is committed and cannot be replaced", r.ReplaceChunk)
		}
		if w := s.files.OpenChunk(old); w.Base > 0 {
			return fail(fault.Invalid, "chunk %s holds %d committed bytes and cannot be replaced", r.ReplaceChunk, w.Base)
		}
		last = i.Chunks()
	case r.FirstIndex != i.Chunks():
		return fail(fault.Invalid, "the first new chunk has index %d, the file has %d chunks", r.FirstIndex, i.Chunks())
	case last > chunksPerFileMax:
		return fail(fault.Invalid, "the file would have %d chunks, at most %d are allowed", last, chunksPerFileMax)
	case r.Count > 0 && i.Last() != 0:
		if length, sealed := s.lengthAfter(i.Last(), seals); sealed && length != i.ChunkSize() {
			return fail(fault.Invalid, "the last chunk has %d bytes and is no longer the last; only a file's last chunk may have fewer than %d", length, i.ChunkSize())
		}
	}
	if err := s.checkFull(op, slot, o, seals, last-min(last, 1)); err != nil {
		return nil, err
	}
	record := &codec.AddChunksRecord{Prefix: s.prefix(), File: r.FileID, Commits: seals, Replace: replace, Index: r.FirstIndex}
	if r.Count > 0 {
		if err := s.replicas.Chooser.EnoughNodes(op, o.KnownPath(), i.Replication()); err != nil {
			return nil, err
		}
		record.Chunks, err = s.replicas.Chooser.Place(op, o.KnownPath(), replicas.Wish{Count: int(r.Count), Replication: i.Replication(),
			Size: i.ChunkSize(), Exclude: r.ExcludeNodes})
		if err != nil {
			return nil, err
		}
	} else if len(seals) == 0 {
		s.locateCommits(slot, r.Commits)
		return &AddChunksResult{}, nil
	}
	return s.logCommits(slot, r.Commits, math.MaxUint32, record)
}

// logCommits logs the record that seals a writer's commits, of which the chunks
// from index keep on are dropped, and believes the writer where the replicas are.
//
// Before the record is applied, it must find replicas at their generation if nodes
// said something else before, and those of the chunks that it drops, so that they
// are ordered deleted; for the others it is enough afterwards.
func (s *State) logCommits(file namespace.InodeSlot, commits []ChunkCommit, keep uint32, r codec.Record) (any, *fault.Error) {
	open := &s.replicas.OpenChunks
	for i := range commits {
		c := &commits[i]
		slot := s.files.Of(file, c.Chunk)
		if slot != 0 && s.files.Chunk(slot).Open() && (s.files.Chunk(slot).Index() >= keep || open.Reported(c.Chunk)) {
			open.Trust(slot, chunk.Replica{State: chunk.Sealed, Generation: c.Generation, Length: c.Length}, c.NodeIDs)
		}
	}
	result, err := s.log(r)
	if err == nil {
		s.locateCommits(file, commits)
	}
	return result, err
}

// locateCommits notes where a client says that its chunks are sealed.
func (s *State) locateCommits(file namespace.InodeSlot, commits []ChunkCommit) {
	for i := range commits {
		slot := s.files.Of(file, commits[i].Chunk)
		if slot != 0 && !s.files.Chunk(slot).Open() {
			s.replicas.OpenChunks.Sealed(slot, commits[i].NodeIDs)
		}
	}
}

func (s *State) complete(r *Complete) (any, *fault.Error) {
	const op = "complete"
	slot, o, err := s.held(op, r.FileID)
	if err != nil {
		return nil, err
	}
	seals, err := s.commits(op, slot, o, r.Commits)
	if err != nil {
		return nil, err
	}
	keep := uint32(0)
	for c := s.tree.Inode(slot).First(); c != 0; c = s.files.Chunk(c).Next() {
		length, sealed := s.lengthAfter(c, seals)
		if !sealed {
			return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: o.KnownPath(), Chunk: s.files.Chunk(c).ID().String(),
				Reason: fmt.Sprintf("chunk %d is not committed", s.files.Chunk(c).Index()), Hint: "commit every chunk, also one without bytes"}
		}
		if length > 0 {
			keep = s.files.Chunk(c).Index() + 1
		}
	}
	size := s.tree.Inode(slot).ChunkSize()
	for c := s.tree.Inode(slot).First(); c != 0 && s.files.Chunk(c).Index()+1 < keep; c = s.files.Chunk(c).Next() {
		if length, _ := s.lengthAfter(c, seals); length != size {
			return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: o.KnownPath(), Chunk: s.files.Chunk(c).ID().String(),
				Reason: fmt.Sprintf("chunk %d has %d bytes; only a file's last chunk may have fewer than %d", s.files.Chunk(c).Index(), length, size)}
		}
	}
	seals = slices.DeleteFunc(seals, func(q codec.Sealing) bool { return q.Index >= keep })
	record := &codec.CompleteRecord{Prefix: s.prefix(), File: r.FileID, Commits: seals, Keep: keep}
	if s.tree.Inode(slot).Hidden() {
		t, err := s.tree.FindTarget(op, o.Path, false)
		if err != nil {
			err.Hint = "the directory was moved or removed while the file was written; make it again and complete once more, or abandon the file"
			return nil, err
		}
		record.Parent, record.Name = s.tree.Inode(t.Parent).ID(), t.Name
		if record.Replaced, err = s.replaceable(op, o.Path, t.Existing, o.Overwrite); err != nil {
			if err.Kind == fault.LeaseHeld {
				return nil, err
			}
			err.Hint = "the target appeared while the file was written; remove or rename it and complete once more, or abandon the file"
			return nil, err
		}
	}
	return s.logCommits(slot, r.Commits, keep, record)
}

func (s *State) abandon(r *Abandon) (any, *fault.Error) {
	const op = "abandon"
	slot, o, err := s.held(op, r.FileID)
	if err != nil {
		return nil, err
	}
	if s.tree.Inode(slot).Completed() {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: o.KnownPath(), Reason: "the file was completed before and is only open for append",
			Hint: "complete it, or recover its lease"}
	}
	return s.log(&codec.AbandonRecord{Prefix: s.prefix(), File: r.FileID})
}

func (s *State) append(r *Append) (any, *fault.Error) {
	const op = "append"
	slot, err := s.findFile(op, r.Path)
	if err != nil {
		return nil, err
	}
	id := s.tree.Inode(slot).ID()
	if o := s.leases.Of(id); o != nil {
		if !r.RecoverLease {
			return nil, s.leaseHeld(op, r.Path, o)
		}
		closed, err := s.takeOver(op, r.Path, slot, s.ownPrefix(), r.ClientName, false)
		if err != nil {
			return nil, err
		}
		if !closed {
			return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Path: r.Path, Reason: "lease recovery is under way: " + s.recoveryReason(slot),
				Hint: "try again in a moment"}
		}
	}
	i := *s.tree.Inode(slot)
	if s.leases.Count() >= openFilesMax {
		return nil, &fault.Error{Kind: fault.Busy, Op: op, Path: r.Path, Reason: fmt.Sprintf("%d files are open, the limit", s.leases.Count())}
	}
	if err := s.replicas.Chooser.EnoughNodes(op, r.Path, i.Replication()); err != nil {
		return nil, err
	}
	_, name := namespace.SplitPath(r.Path)
	record := &codec.AppendRecord{Prefix: s.prefix(), File: id, Name: name, Holder: limits.Clip(r.ClientName, limits.TextBytesMax)}
	if i.Last() != 0 && s.files.Chunk(i.Last()).Length() < i.ChunkSize() {
		c := s.files.Chunk(i.Last())
		var away string
		record.Members, away = s.replicas.OpenChunks.Located(i.Last())
		if len(record.Members) == 0 {
			e := &fault.Error{Kind: fault.Unavailable, Op: op, Path: r.Path, Chunk: c.ID().String(), Hint: "start the nodes that hold it"}
			e.Reason = "no datanode has reported the file's last chunk"
			if away != "" {
				e.Reason = fmt.Sprintf("all holders of the file's last chunk are away: %s", away)
			}
			return nil, e
		}
		// Replicas that are not members are stale from here on, also those on nodes
		// that have not yet had time to report them.
		if len(record.Members) < int(i.Replication()) && s.step.Mono-s.step.ActiveSince < s.config.RecoverWait && s.replicas.Nodes.ReportsMissing() {
			return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Path: r.Path, Chunk: c.ID().String(),
				Reason: fmt.Sprintf("%d of %d replicas of the file's last chunk are known, and not all datanodes have reported yet", len(record.Members), i.Replication())}
		}
		s.replicas.OpenChunks.Order(record.Members)
		record.Reopen = true
		record.Generation = uint64(c.Promised() + 1)
	}
	return s.log(record)
}

func (s *State) recoverPipeline(r *RecoverPipeline) (any, *fault.Error) {
	const op = "recover pipeline"
	slot, o, err := s.held(op, r.FileID)
	if err != nil {
		return nil, err
	}
	k, err := s.heldChunk(op, slot, o, r.Chunk)
	if err != nil {
		return nil, err
	}
	if len(r.FailedNodes) > limits.NodesPerCallMax {
		return nil, limits.TooMany(op, "failed nodes", len(r.FailedNodes), limits.NodesPerCallMax)
	}
	c := *s.files.Chunk(k)
	if r.Generation < c.Generation() || r.Generation > c.Promised() {
		return nil, &fault.Error{Kind: fault.StaleGeneration, Op: op, Path: o.KnownPath(), Chunk: c.ID().String(),
			Reason: fmt.Sprintf("generation %d is not in %d..%d", r.Generation, c.Generation(), c.Promised())}
	}
	record := &codec.RecoverPipelineRecord{Prefix: s.prefix(), File: r.FileID, Index: c.Index(), Generation: uint64(c.Promised() + 1)}
	survivors, holders := s.replicas.OpenChunks.Survivors(k, r.FailedNodes)
	if len(survivors) == 0 {
		return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Path: o.KnownPath(), Chunk: c.ID().String(),
			Reason: fmt.Sprintf("no member of the pipeline is left: %s", holders),
			Hint:   "if nothing of the chunk was acknowledged, replace it; otherwise wait for a member to return"}
	}
	record.Survivors, record.Replacements = survivors, s.replicas.Chooser.Replace(k, survivors, r.FailedNodes)
	return s.log(record)
}

// heldChunk finds an open chunk of a file.
func (s *State) heldChunk(op string, file namespace.InodeSlot, o *leases.Lease, id chunk.ID) (namespace.ChunkSlot, *fault.Error) {
	k := s.files.Of(file, id)
	if k == 0 || !s.files.Chunk(k).Open() {
		reason := fmt.Sprintf("the chunk is not one of file %d", s.tree.Inode(file).ID())
		if k != 0 {
			reason = "the chunk is sealed"
		}
		return 0, &fault.Error{Kind: fault.Invalid, Op: op, Path: o.KnownPath(), Chunk: id.String(), Reason: reason}
	}
	return k, nil
}

func (s *State) updatePipeline(r *UpdatePipeline) (any, *fault.Error) {
	const op = "update pipeline"
	slot, o, err := s.held(op, r.FileID)
	if err != nil {
		return nil, err
	}
	k, err := s.heldChunk(op, slot, o, r.Chunk)
	if err != nil {
		return nil, err
	}
	c := *s.files.Chunk(k)
	fail := func(kind fault.Kind, format string, args ...any) (any, *fault.Error) {
		e := fault.New(kind, op, format, args...)
		e.Path, e.Chunk = o.KnownPath(), c.ID().String()
		return nil, e
	}
	var members []uint16
	for _, id := range r.NodeIDs {
		if n := s.replicas.Nodes.Find(id); n != 0 && !slices.Contains(members, n) {
			members = append(members, n)
		}
	}
	switch {
	case r.Generation != c.Promised():
		return fail(fault.StaleGeneration, "generation %d is not the last one issued, %d", r.Generation, c.Promised())
	case r.Length < c.Length() || r.Length > s.tree.Inode(slot).ChunkSize():
		return fail(fault.Invalid, "length %d is not in %d..%d", r.Length, c.Length(), s.tree.Inode(slot).ChunkSize())
	case len(members) == 0 || len(r.NodeIDs) > limits.NodesPerCallMax:
		return fail(fault.Invalid, "the pipeline has %d known members", len(members))
	}
	result, err := s.log(&codec.UpdatePipelineRecord{Prefix: s.prefix(), File: r.FileID, Index: c.Index(),
		Generation: uint64(r.Generation), Length: uint32(r.Length), Members: members})
	if err == nil {
		s.replicas.OpenChunks.Trust(k, chunk.Replica{State: chunk.Open, Generation: r.Generation, Length: r.Length}, r.NodeIDs)
	}
	return result, err
}

func (s *State) truncate(r *Truncate) (any, *fault.Error) {
	const op = "truncate"
	slot, err := s.findFile(op, r.Path)
	if err != nil {
		return nil, err
	}
	i := *s.tree.Inode(slot)
	if o := s.leases.Of(i.ID()); o != nil {
		return nil, s.leaseHeld(op, r.Path, o)
	}
	_, name := namespace.SplitPath(r.Path)
	switch {
	case r.Length < 0 || r.Length > i.Length():
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: fmt.Sprintf("the file has %d bytes, it cannot be cut to %d", i.Length(), r.Length)}
	case r.Length == i.Length():
		return &TruncateResult{Info: s.info(slot, name), Done: true}, nil
	}
	cut := r.Length%i.ChunkSize() != 0
	result, err := s.log(&codec.TruncateRecord{Prefix: s.prefix(), File: i.ID(), Name: name, Length: r.Length, Cut: cut})
	if err == nil && cut {
		s.recoverFile(slot)
	}
	return result, err
}
