package client

import (
	"context"
	"errors"
	"slices"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// recovery is what a stream knows about its broken pipelines.
type recovery struct {
	opened   bool // some session at this chunk id was accepted by all hops
	existing bool // a hop said that it has the replica already
	attempts int  // since the last progress; at most recoveriesMax
	total    int  // at most recoveriesTotalMax
	// failures: every hop that failed, once, with its latest reason.
	failures []hopFailure
	// excluded nodes are not used again, unless no other is left.
	excluded []string
	last     error // what happened last, for the final error
	// alone: the namenode has no other nodes to place the chunk on.
	alone bool
}

// note remembers the blame of a failure.
func (r *recovery) note(p *pipelineError) {
	r.last = p.err
	for _, f := range p.failed {
		if errors.Is(f.err, fault.Exists) {
			r.existing = true
			continue // the node is well; the session has to open in another mode
		}
		r.blame(f)
	}
}

// blame excludes a hop and remembers why.
func (r *recovery) blame(f hopFailure) {
	if !slices.Contains(r.excluded, f.hop.NodeID) {
		r.excluded = append(r.excluded, f.hop.NodeID)
	}
	i := slices.IndexFunc(r.failures, func(g hopFailure) bool { return g.hop.NodeID == f.hop.NodeID })
	if i >= 0 {
		r.failures[i] = f
	} else {
		r.failures = append(r.failures, f)
	}
}

// recover puts the stream's pipeline up again:
//
//	seal lost:        if all nodes that still answer did seal, the chunk is done
//	nothing acked:    the chunk is replaced by one on other nodes
//	else:             the namenode gives a new generation; the survivors cut
//	                  their replicas to the acknowledged length and go on, with
//	                  nodes that copy those bytes in the places of the lost ones
//
// Then the caller sends what was not acknowledged. An error that is neither a
// *pipelineError nor the context's is final. An attempt that only its caller's
// context ended does not count: nothing failed.
func (s *stream) recover(ctx context.Context) (err error) {
	r := &s.recovery
	c := s.client
	defer func() {
		if err != nil && ctx.Err() != nil && s.life.Err() == nil && !s.dead() {
			r.attempts, r.total = r.attempts-1, r.total-1
		}
	}()
	r.attempts++
	if r.total++; r.attempts > recoveriesMax || r.total > recoveriesTotalMax {
		return s.giveUp("no pipeline stood up")
	}
	if r.attempts > 1 {
		wait := backoff.Exponential{First: retryInitialDefault, Max: retryMaximumDefault}.After(r.attempts - 1)
		if err := clock.Sleep(ctx, c.clock, wait); err != nil {
			return err
		}
	}
	c.logger.Warn("write pipeline broken", "path", s.path, "chunk", s.id.String(), "gen", uint64(s.generation),
		"state", s.state.String(), "acked", s.acked, "failed_nodes", r.excluded, "attempt", r.attempts, "err", r.last)
	if s.sealing && s.sealLost(ctx) {
		return nil
	}
	if s.canReplace() {
		switch err := s.replace(ctx); {
		case err == nil:
			return nil
		case errors.Is(err, fault.TooFewNodes):
			r.alone = true // no others to place it on: go on with the survivors
		default:
			return err
		}
	}
	return s.resume(ctx)
}

// canReplace: no reader can have seen a byte of the chunk, or the writer can
// send it again, and there may be nodes for it.
func (s *stream) canReplace() bool {
	return !s.recovery.alone && s.previous == 0 && (s.startOver || s.acked == 0)
}

// replace drops the chunk and places another one in its stead, without the
// nodes that failed. Unless the caller has to start over, the new chunk's first
// session is opened next.
func (s *stream) replace(ctx context.Context) error {
	before, old := s.state, s.id
	s.state = streamReplacing
	defer func() {
		if s.state == streamReplacing {
			s.state = before // there are no others
		}
	}()
	var refused bool
	a, err := mutate(ctx, s.client, call{op: "replace chunk", path: s.path, impatient: []fault.Kind{fault.TooFewNodes}, refused: &refused}, controlpb.NamenodeClient.AddChunks,
		func(h *controlpb.MutationHeader) *controlpb.AddChunksRequest {
			return &controlpb.AddChunksRequest{Header: h, FileId: s.file, FirstIndex: uint32(s.index), Count: 1,
				ExcludeNodes: union(s.recovery.excluded, s.client.nodes.avoid(s.width)), ReplaceChunkId: old[:]}
		})
	if err != nil {
		return err
	}
	if len(a.GetChunks()) != 1 {
		return fault.New(fault.Protocol, "replace chunk", "asked for 1 chunk, got %d", len(a.GetChunks()))
	}
	l, err := chunkLocation(a.GetChunks()[0])
	if err != nil {
		return &fault.Error{Kind: fault.Protocol, Op: "replace chunk", Err: err}
	}
	over := s.startOver && s.acked > 0
	s.place(l)
	s.recovery.existing = false
	if over {
		s.length, s.sealing = 0, false
		for _, p := range s.backlog {
			p.release()
		}
		s.backlog = nil
		return errStartOver
	}
	return nil
}

// resume goes on with the survivors of the pipeline, and replacements of the
// others, under a new generation.
func (s *stream) resume(ctx context.Context) error {
	r := &s.recovery
	s.state = streamResuming
	var refused bool
	what := call{op: "recover pipeline", path: s.path, impatient: []fault.Kind{fault.Unavailable}, refused: &refused}
	a, err := mutate(ctx, s.client, what, controlpb.NamenodeClient.RecoverPipeline, func(h *controlpb.MutationHeader) *controlpb.RecoverPipelineRequest {
		return &controlpb.RecoverPipelineRequest{Header: h, FileId: s.file, ChunkId: s.id[:], Generation: uint64(s.generation), FailedNodes: r.excluded}
	})
	if refused {
		// No member is left. One that only restarted may come back.
		r.excluded = nil
		return &pipelineError{err: err}
	}
	if err != nil {
		return err
	}
	generation := chunk.Generation(a.GetGeneration())
	mode, previous := s.resumeMode()
	hops, err := s.members(ctx, a, mode, previous)
	if err != nil {
		return err
	}
	if len(hops) < s.client.options.PipelineNodesLeast {
		return s.tooFew(hops)
	}
	session, err := s.client.openSession(ctx, s.life, s.target(mode, generation, previous, hops), nil, s.report)
	if err != nil {
		return err
	}
	if err := session.opened(ctx); err != nil {
		session.close() // it has no packets
		return err
	}
	r.opened = true
	what.impatient = nil
	// The new generation counts before anything written under it is
	// acknowledged; else a namenode that restarts would know only the old one.
	_, err = mutate(ctx, s.client, what, controlpb.NamenodeClient.UpdatePipeline, func(h *controlpb.MutationHeader) *controlpb.UpdatePipelineRequest {
		return &controlpb.UpdatePipelineRequest{Header: h, FileId: s.file, ChunkId: s.id[:], Generation: uint64(generation), Length: s.acked, NodeIds: nodeIDs(hops)}
	})
	if err != nil {
		session.close()
		return err
	}
	s.session, s.generation, s.hops = session, generation, hops
	s.mode, s.state = wire.ModeResume, streamWriting
	s.client.logger.Info("write pipeline recovered", "path", s.path, "chunk", s.id.String(), "gen", uint64(generation), "length", s.acked, "nodes", nodeIDs(hops))
	return nil
}

// union joins two lists of node ids.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// resumeMode is how the survivors' replicas are opened, and from which
// generation on. If no session ever stood, a new chunk may not exist at all on
// some of them, and one opened for append may still be sealed.
func (s *stream) resumeMode() (mode wire.Mode, previous chunk.Generation) {
	switch {
	case s.mode == wire.ModeAppend && !s.recovery.opened:
		return wire.ModeResume, s.previous
	case s.mode == wire.ModeCreate && !s.recovery.opened && !s.recovery.existing && s.acked == 0:
		return wire.ModeCreate, 0
	}
	return wire.ModeResume, s.generation
}

// sealLost asks the nodes of a pipeline that broke after FlagSeal was sent
// which of them sealed the whole chunk. If all did that are not known to have
// failed, the chunk is done: what a node sealed is durable there. Else it is
// sealed anew, so that it does not end with fewer replicas than nodes that live.
func (s *stream) sealLost(ctx context.Context) bool {
	var sealed []string
	for _, hop := range s.hops {
		if slices.Contains(s.recovery.excluded, hop.NodeID) {
			continue
		}
		at := Replica{NodeID: hop.NodeID, Address: hop.Address}
		short, cancel := context.WithTimeout(ctx, s.client.options.DialTimeout)
		reply, err := s.client.statReplica(short, at, s.id, false)
		cancel()
		if err != nil || chunk.State(reply.State) != chunk.Sealed || reply.Generation != uint64(s.generation) || reply.Length != s.length {
			return false
		}
		sealed = append(sealed, hop.NodeID)
	}
	if len(sealed) == 0 {
		return false
	}
	for _, p := range s.backlog {
		p.release()
	}
	s.backlog, s.sealedBy, s.acked, s.state = nil, sealed, s.length, streamSealed
	return true
}

// giveUp is the one clear error at the end of all attempts.
func (s *stream) giveUp(why string) error {
	e := &fault.Error{Kind: fault.Unavailable, Op: "write", Path: s.path, Chunk: s.id.String(), Reason: why, Err: s.recovery.last,
		Hint: "everything acknowledged so far stays readable while one replica lives"}
	if len(s.recovery.failures) > 0 {
		e.Reason += ": " + reasons(s.recovery.failures)
		e.Err = nil
	}
	return e
}
