package actor

import (
	"fmt"
	"math"
	"slices"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// held finds a file that the command's client must hold the lease of.
func (s *State) held(op string, id uint64) (uint32, *openFile, *fault.Error) {
	slot := s.inodeOf(id)
	if slot == 0 || s.inodes.at(slot).directory() {
		return 0, nil, &fault.Error{Kind: fault.LeaseLost, Op: op, Reason: fmt.Sprintf("file %d does not exist (any more)", id),
			Hint: "it was removed, replaced, or abandoned after its lease ran out; write it again"}
	}
	o := s.open[id]
	switch {
	case o == nil:
		return 0, nil, &fault.Error{Kind: fault.LeaseLost, Op: op, Reason: fmt.Sprintf("file %d is closed", id), Hint: "open it for append"}
	case o.client != s.command.Client:
		return 0, nil, &fault.Error{Kind: fault.LeaseLost, Op: op, Path: s.openPath(o), Reason: fmt.Sprintf("file %d has another lease holder now", id),
			Holder: s.holderName(o), Hint: "the lease was not renewed in time"}
	}
	return slot, o, nil
}

// openPath is what is known of an open file's path, for messages.
func (s *State) openPath(o *openFile) string {
	if o.path != "" {
		return o.path
	}
	return o.leaf
}

// commits validates a writer's commits. It gives the seals to log, the nodes of
// each, and the length of every chunk named (also of those sealed before).
// limit is the number of chunks that the file has or will have: all but the
// last must be full, unless only empty ones follow (Complete checks that).
func (s *State) commits(op string, file uint32, o *openFile, commits []ChunkCommit) (seals []sealing, err *fault.Error) {
	if len(commits) > commitsPerCallMax {
		return nil, fault.New(fault.Invalid, op, "%d commits in one call, at most %d are allowed", len(commits), commitsPerCallMax)
	}
	size := s.inodes.at(file).chunkSize()
	for n := range commits {
		c := &commits[n]
		fail := func(kind fault.Kind, format string, args ...any) ([]sealing, *fault.Error) {
			e := fault.New(kind, op, format, args...)
			e.Path, e.Chunk = s.openPath(o), c.Chunk.String()
			return nil, e
		}
		slot := s.findChunk(file, c.Chunk)
		if slot == 0 {
			return fail(fault.Invalid, "the chunk is not one of file %d", s.inodes.at(file).id)
		}
		k := s.chunks.at(slot)
		known := 0
		for _, id := range c.NodeIDs {
			if s.nodeIndex[id] != 0 {
				known++
			}
		}
		switch {
		case c.Length < 0 || c.Length > size:
			return fail(fault.Invalid, "length %d is not in 0..%d", c.Length, size)
		case len(c.NodeIDs) > nodesPerCallMax:
			return fail(fault.Invalid, "%d nodes, at most %d are allowed", len(c.NodeIDs), nodesPerCallMax)
		case known == 0 && c.Length > 0:
			return fail(fault.Invalid, "no node that holds the chunk is named or known (%d names)", len(c.NodeIDs))
		case slices.ContainsFunc(seals, func(q sealing) bool { return q.Index == k.index }):
			return fail(fault.Invalid, "the chunk is committed twice")
		}
		if !k.open() {
			if uint64(c.Generation) != k.generation || c.Length != k.length() {
				return fail(fault.StaleGeneration, "the chunk was sealed at generation %d with %d bytes, not at %d with %d",
					k.generation, k.length(), c.Generation, c.Length)
			}
			continue
		}
		w := s.openChunk[slot]
		unchanged := w.strict && uint64(c.Generation) == w.minimum && c.Length == w.base
		if uint64(c.Generation) != k.generation && !unchanged {
			return fail(fault.StaleGeneration, "generation %d is committed, the chunk is at %d", c.Generation, k.generation)
		}
		if c.Length < w.base {
			return fail(fault.Invalid, "length %d is below the %d bytes known", c.Length, w.base)
		}
		seals = append(seals, sealing{Index: k.index, Generation: uint64(c.Generation), Length: uint32(c.Length)})
	}
	return seals, nil
}

// lengthAfter is a chunk's length once seals are applied, and whether it is
// sealed then.
func (s *State) lengthAfter(slot uint32, seals []sealing) (length int64, sealed bool) {
	c := s.chunks.at(slot)
	for _, q := range seals {
		if q.Index == c.index {
			return int64(q.Length), true
		}
	}
	return c.length(), !c.open()
}

// checkFull refuses seals that leave a short chunk before the chunk at index
// last.
func (s *State) checkFull(op string, file uint32, o *openFile, seals []sealing, last uint32) *fault.Error {
	size := s.inodes.at(file).chunkSize()
	for _, q := range seals {
		if q.Index < last && int64(q.Length) != size {
			return &fault.Error{Kind: fault.Invalid, Op: op, Path: s.openPath(o),
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
		e.Path = s.openPath(o)
		return nil, e
	}
	i := *s.inodes.at(slot)
	replace := !r.ReplaceChunk.IsZero()
	if r.Count > chunksPerCallMax {
		return fail(fault.Invalid, "%d chunks in one call, at most %d are allowed", r.Count, chunksPerCallMax)
	}
	if len(r.ExcludeNodes) > nodesPerCallMax {
		return fail(fault.Invalid, "%d excluded nodes, at most %d are allowed", len(r.ExcludeNodes), nodesPerCallMax)
	}
	seals, err := s.commits(op, slot, o, r.Commits)
	if err != nil {
		return nil, err
	}
	last := i.chunks + r.Count
	switch {
	case replace:
		old := s.findChunk(slot, r.ReplaceChunk)
		if old == 0 || r.Count != 1 || r.FirstIndex != s.chunks.at(old).index {
			return fail(fault.Invalid, "chunk %s cannot be replaced: it must be chunk %d of the file, and the count 1", r.ReplaceChunk, r.FirstIndex)
		}
		if _, sealed := s.lengthAfter(old, seals); sealed {
			return fail(fault.Invalid, "chunk %s is committed and cannot be replaced", r.ReplaceChunk)
		}
		if w := s.openChunk[old]; w.base > 0 {
			return fail(fault.Invalid, "chunk %s holds %d committed bytes and cannot be replaced", r.ReplaceChunk, w.base)
		}
		last = i.chunks
	case r.FirstIndex != i.chunks:
		return fail(fault.Invalid, "the first new chunk has index %d, the file has %d chunks", r.FirstIndex, i.chunks)
	case last > chunksPerFileMax:
		return fail(fault.Invalid, "the file would have %d chunks, at most %d are allowed", last, chunksPerFileMax)
	case r.Count > 0 && i.last != 0:
		if length, sealed := s.lengthAfter(i.last, seals); sealed && length != i.chunkSize() {
			return fail(fault.Invalid, "the last chunk has %d bytes and is no longer the last; only a file's last chunk may have fewer than %d", length, i.chunkSize())
		}
	}
	if err := s.checkFull(op, slot, o, seals, last-min(last, 1)); err != nil {
		return nil, err
	}
	record := &addChunksRecord{Version: recordVersion, Head: s.head(), File: r.FileID, Commits: seals, Replace: replace, Index: r.FirstIndex}
	if r.Count > 0 {
		if err := s.enoughNodes(op, s.openPath(o), uint32(i.replication)); err != nil {
			return nil, err
		}
		record.Chunks, err = s.place(op, s.openPath(o), int(r.Count), int(i.replication), i.chunkSize(), r.ExcludeNodes)
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
// from index keep on are dropped, and takes the writer's word on where the
// replicas are.
func (s *State) logCommits(file uint32, commits []ChunkCommit, keep uint32, r record) (any, *fault.Error) {
	s.trustCommits(file, commits, keep)
	result, err := s.log(r)
	if err == nil {
		s.locateCommits(file, commits)
	}
	return result, err
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
	for c := s.inodes.at(slot).first; c != 0; c = s.chunks.at(c).next {
		length, sealed := s.lengthAfter(c, seals)
		if !sealed {
			return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: s.openPath(o), Chunk: s.chunks.at(c).id.String(),
				Reason: fmt.Sprintf("chunk %d is not committed", s.chunks.at(c).index), Hint: "commit every chunk, also one without bytes"}
		}
		if length > 0 {
			keep = s.chunks.at(c).index + 1
		}
	}
	size := s.inodes.at(slot).chunkSize()
	for c := s.inodes.at(slot).first; c != 0 && s.chunks.at(c).index+1 < keep; c = s.chunks.at(c).next {
		if length, _ := s.lengthAfter(c, seals); length != size {
			return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: s.openPath(o), Chunk: s.chunks.at(c).id.String(),
				Reason: fmt.Sprintf("chunk %d has %d bytes; only a file's last chunk may have fewer than %d", s.chunks.at(c).index, length, size)}
		}
	}
	seals = slices.DeleteFunc(seals, func(q sealing) bool { return q.Index >= keep })
	record := &completeRecord{Version: recordVersion, Head: s.head(), File: r.FileID, Commits: seals, Keep: keep}
	if s.inodes.at(slot).hidden() {
		t, err := s.findTarget(op, o.path, false)
		if err != nil {
			err.Hint = "the directory was moved or removed while the file was written; make it again and complete once more, or abandon the file"
			return nil, err
		}
		record.Parent, record.Name = s.inodes.at(t.parent).id, t.name
		if record.Replaced, err = s.replaceable(op, o.path, t.existing, o.overwrite); err != nil {
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
	if s.inodes.at(slot).flags&flagCompleted != 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: s.openPath(o), Reason: "the file was completed before and is only open for append",
			Hint: "complete it, or recover its lease"}
	}
	return s.log(&abandonRecord{Version: recordVersion, Head: s.head(), File: r.FileID})
}

func (s *State) append(r *Append) (any, *fault.Error) {
	const op = "append"
	slot, err := s.findFile(op, r.Path)
	if err != nil {
		return nil, err
	}
	id := s.inodes.at(slot).id
	if o := s.open[id]; o != nil {
		if !r.RecoverLease {
			return nil, s.leaseHeld(op, r.Path, o)
		}
		closed, err := s.takeOver(op, r.Path, slot, s.ownHead(), r.ClientName, false)
		if err != nil {
			return nil, err
		}
		if !closed {
			return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Path: r.Path, Reason: "lease recovery is under way: " + s.recoveryReason(slot),
				Hint: "try again in a moment"}
		}
	}
	i := *s.inodes.at(slot)
	if len(s.open) >= openFilesMax {
		return nil, &fault.Error{Kind: fault.Busy, Op: op, Path: r.Path, Reason: fmt.Sprintf("%d files are open, the limit", len(s.open))}
	}
	if err := s.enoughNodes(op, r.Path, uint32(i.replication)); err != nil {
		return nil, err
	}
	_, name := splitPath(r.Path)
	record := &appendRecord{Version: recordVersion, Head: s.head(), File: id, Name: name, Holder: clip(r.ClientName, clientNameBytesMax)}
	if i.last != 0 && s.chunks.at(i.last).length() < i.chunkSize() {
		c := s.chunks.at(i.last)
		var away []string
		for _, n := range s.locationsOf(i.last) {
			if s.nodes[n].liveness == nodeLive {
				record.Members = append(record.Members, n)
			} else {
				away = append(away, s.nodes[n].describe())
			}
		}
		if len(record.Members) == 0 {
			e := &fault.Error{Kind: fault.Unavailable, Op: op, Path: r.Path, Chunk: c.id.String(), Hint: "start the nodes that hold it"}
			e.Reason = "no datanode has reported the file's last chunk"
			if len(away) > 0 {
				e.Reason = fmt.Sprintf("all holders of the file's last chunk are away: %s", joinSome(away))
			}
			return nil, e
		}
		// Replicas that are not members are stale from here on, also those on nodes
		// that have not yet had time to report them.
		if len(record.Members) < int(i.replication) && s.mono-s.activeSince < s.config.RecoverWait && s.reportsOut() {
			return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Path: r.Path, Chunk: c.id.String(),
				Reason: fmt.Sprintf("%d of %d replicas of the file's last chunk are known, and not all datanodes have reported yet", len(record.Members), i.replication)}
		}
		s.shuffleByLoad(record.Members)
		record.Reopen = true
		record.Generation = c.promised + 1
	}
	return s.log(record)
}

// reportsOut tells whether a live datanode has not yet reported in full to this
// namenode.
func (s *State) reportsOut() bool {
	return slices.ContainsFunc(s.nodes, func(n *node) bool { return n != nil && n.liveness == nodeLive && !n.reported })
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
	if len(r.FailedNodes) > nodesPerCallMax {
		return nil, fault.New(fault.Invalid, op, "%d failed nodes, at most %d are allowed", len(r.FailedNodes), nodesPerCallMax)
	}
	c := *s.chunks.at(k)
	if uint64(r.Generation) < c.generation || uint64(r.Generation) > c.promised {
		return nil, &fault.Error{Kind: fault.StaleGeneration, Op: op, Path: s.openPath(o), Chunk: c.id.String(),
			Reason: fmt.Sprintf("generation %d is not in %d..%d", r.Generation, c.generation, c.promised)}
	}
	failed := func(n uint16) bool { return slices.Contains(r.FailedNodes, s.nodes[n].id) }
	record := &recoverPipelineRecord{Version: recordVersion, Head: s.head(), File: r.FileID, Index: c.index, Generation: c.promised + 1}
	holders := s.openHolders(k)
	for _, n := range holders {
		if !failed(n) && s.nodes[n].liveness != nodeDead {
			record.Survivors = append(record.Survivors, n)
		}
	}
	if len(record.Survivors) == 0 {
		return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Path: s.openPath(o), Chunk: c.id.String(),
			Reason: fmt.Sprintf("no member of the pipeline is left: %s", joinSome(s.describeNodes(holders))),
			Hint:   "if nothing of the chunk was acknowledged, replace it; otherwise wait for a member to return"}
	}
	i := s.inodes.at(slot)
	if missing := int(i.replication) - len(record.Survivors); missing > 0 {
		record.Replacements = s.chooseNodes(missing, i.chunkSize(), func(n *node) bool {
			return failed(n.index) || slices.Contains(holders, n.index) || s.holds(n.index, k)
		}, s.racksOf(record.Survivors))
	}
	return s.log(record)
}

// heldChunk finds an open chunk of a file.
func (s *State) heldChunk(op string, file uint32, o *openFile, id chunk.ID) (uint32, *fault.Error) {
	k := s.findChunk(file, id)
	if k == 0 || !s.chunks.at(k).open() {
		reason := fmt.Sprintf("the chunk is not one of file %d", s.inodes.at(file).id)
		if k != 0 {
			reason = "the chunk is sealed"
		}
		return 0, &fault.Error{Kind: fault.Invalid, Op: op, Path: s.openPath(o), Chunk: id.String(), Reason: reason}
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
	c := *s.chunks.at(k)
	fail := func(kind fault.Kind, format string, args ...any) (any, *fault.Error) {
		e := fault.New(kind, op, format, args...)
		e.Path, e.Chunk = s.openPath(o), c.id.String()
		return nil, e
	}
	var members []uint16
	for _, id := range r.NodeIDs {
		if n := s.nodeIndex[id]; n != 0 && !slices.Contains(members, n) {
			members = append(members, n)
		}
	}
	switch {
	case uint64(r.Generation) != c.promised:
		return fail(fault.StaleGeneration, "generation %d is not the last one issued, %d", r.Generation, c.promised)
	case r.Length < c.length() || r.Length > s.inodes.at(slot).chunkSize():
		return fail(fault.Invalid, "length %d is not in %d..%d", r.Length, c.length(), s.inodes.at(slot).chunkSize())
	case len(members) == 0 || len(r.NodeIDs) > nodesPerCallMax:
		return fail(fault.Invalid, "the pipeline has %d known members", len(members))
	}
	result, err := s.log(&updatePipelineRecord{Version: recordVersion, Head: s.head(), File: r.FileID, Index: c.index,
		Generation: uint64(r.Generation), Length: uint32(r.Length), Members: members})
	if err == nil {
		s.trustReplicas(k, oddReplica{state: chunk.Open, generation: uint64(r.Generation), length: r.Length}, r.NodeIDs)
	}
	return result, err
}

func (s *State) truncate(r *Truncate) (any, *fault.Error) {
	const op = "truncate"
	slot, err := s.findFile(op, r.Path)
	if err != nil {
		return nil, err
	}
	i := *s.inodes.at(slot)
	if o := s.open[i.id]; o != nil {
		return nil, s.leaseHeld(op, r.Path, o)
	}
	_, name := splitPath(r.Path)
	switch {
	case r.Length < 0 || r.Length > i.length:
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: fmt.Sprintf("the file has %d bytes, it cannot be cut to %d", i.length, r.Length)}
	case r.Length == i.length:
		return &TruncateResult{Info: s.info(slot, name), Done: true}, nil
	}
	cut := r.Length%i.chunkSize() != 0
	result, err := s.log(&truncateRecord{Version: recordVersion, Head: s.head(), File: i.id, Name: name, Length: r.Length, Cut: cut})
	if err == nil && cut {
		s.recoverFile(slot)
	}
	return result, err
}
