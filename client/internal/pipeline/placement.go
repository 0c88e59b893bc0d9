package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// placement is where a chunk is, as agreed with the namenode, and what is known of its replicas. It belongs to one
// Stream.
type placement struct {
	pipelines *Pipelines
	file      uint64
	path      string
	index     int // of the chunk in the file

	id         chunk.ID
	generation chunk.Generation // of the pipeline that stands, or stood last
	previous   chunk.Generation // ModeAppend: that of the sealed replica
	mode       wire.Mode        // how the next session opens
	hops       []wire.Hop
	width      int   // hops of the chunk as it was placed
	copiesMin  int   // see namenode.Chunk
	sizeHint   int64 // the chunk's length if it is known; 0: it is not

	opened   bool // some session at this chunk id was accepted by all hops
	existing bool // a hop said that it has the replica already
	alone    bool // the namenode has no other nodes to place the chunk on
	avoided  bool // slow nodes of the placement were looked at
}

// put is called with an allocated chunk.
func (p *placement) put(c namenode.Chunk) {
	p.id, p.generation, p.previous, p.mode = c.ID, c.Generation, 0, wire.ModeCreate
	p.hops, p.copiesMin = c.Replicas, c.CopiesMin
	p.width = max(p.width, len(p.hops))
	p.opened = false
}

// replace drops the chunk and allocates another one in its stead, without the excluded nodes, and without slow ones
// while there are enough others. Error: fault.TooFewNodes at once if there are no others.
func (p *placement) replace(ctx context.Context, excluded []string) error {
	old := p.id
	other, err := p.pipelines.Namenode.ReplaceChunk(ctx, p.path, namenode.Allocation{File: p.file, First: p.index,
		Exclude: excluded, Avoid: p.pipelines.Nodes.SlowWrites.AvoidSlow(p.width), Replace: old[:],
		ChunkBytesMax: p.sizeHint})
	if err != nil {
		return err
	}
	p.put(other)
	p.pipelines.Nodes.SlowWrites.Placed(other.Replicas)
	p.existing = false
	return nil
}

// hasSlowNode tells, once, whether a node of a chunk that nothing was sent of was found slow since it was placed.
func (p *placement) hasSlowNode() bool {
	if p.avoided || p.mode != wire.ModeCreate {
		return false
	}
	avoid := p.pipelines.Nodes.SlowWrites.AvoidSlow(len(p.hops))
	p.avoided = slices.ContainsFunc(p.hops, func(h wire.Hop) bool { return slices.Contains(avoid, h.NodeID) })
	return p.avoided
}

// resumption is how a chunk is opened anew under a new generation.
type resumption struct {
	generation chunk.Generation
	survivors  []wire.Hop
	wanted     []wire.Hop // replacements, which have no replica yet
}

// recover asks the namenode for a new generation, without the nodes that failed; with grow, only if others can join.
// refused: no member is left, or too few nodes, or with grow no other can join.
func (p *placement) recover(ctx context.Context, failed []string,
	grow bool) (granted resumption, refused bool, err error) {
	what := namenode.Call{Op: "recover pipeline", Path: p.path,
		Impatient: []fault.Kind{fault.Unavailable, fault.TooFewNodes}, Refused: &refused}
	answer, err := namenode.Mutate(ctx, p.pipelines.Namenode, what, controlpb.NamenodeClient.RecoverPipeline,
		&controlpb.RecoverPipelineRequest{Header: &controlpb.MutationHeader{}, FileId: p.file, ChunkId: p.id[:],
			Generation: uint64(p.generation), FailedNodes: failed, Grow: grow,
			ChunkBytesMax: p.sizeHint})
	if err != nil {
		return resumption{}, refused, err
	}
	p.copiesMin = int(answer.GetWriteCopiesMin())
	granted.generation = chunk.Generation(answer.GetGeneration())
	granted.survivors = namenode.HopsFrom(answer.GetSurvivors())
	granted.wanted = namenode.HopsFrom(answer.GetReplacements())
	return granted, false, nil
}

// resumeMode is how the survivors' replicas are opened, and from which generation on. If no session was ever accepted,
// a new chunk may not exist at all on some of them, and one opened for append may still be sealed.
func (p *placement) resumeMode(acked int64) (mode wire.Mode, previous chunk.Generation) {
	switch {
	case p.mode == wire.ModeAppend && !p.opened:
		return wire.ModeResume, p.previous
	case p.mode == wire.ModeCreate && !p.opened && !p.existing && acked == 0:
		return wire.ModeCreate, 0
	}
	return wire.ModeResume, p.generation
}

// copyToReplacements has the replacements copy the acknowledged bytes. It returns the hops of the recovered pipeline,
// the survivors first, and the replacements that failed, which are left out. Error: that of ctx.
func (p *placement) copyToReplacements(ctx context.Context, granted resumption, target sessionTarget) (hops []wire.Hop,
	failed []HopFailure, err error) {
	// nothing is acknowledged: all begin empty
	if len(granted.survivors) == 0 || len(granted.wanted) == 0 || target.mode == wire.ModeCreate {
		return append(granted.survivors, granted.wanted...), nil, nil
	}
	order := &wire.CopyRange{BodyVersion: wire.BodyVersion, ChunkID: p.id[:], Generation: uint64(granted.generation),
		ChunkSize: target.chunkSize, Length: target.offset, SourceMinGeneration: uint64(target.previous),
		Sources: granted.survivors[:min(len(granted.survivors), wire.HopsMax)]}
	var patience time.Duration
	if len(granted.survivors) >= target.least { // the chunk could do without the replacements
		patience = copyPatience
	}
	good, failed := CopyToAll(granted.wanted, "copy replica", p.id, func(_ int, hop wire.Hop) error {
		return p.pipelines.Datanodes.Copy(ctx, hop, order, patience)
	})
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	for i, f := range failed {
		p.pipelines.Nodes.Failures.Failed(f.Hop.Address)
		if datanode.Stalled(f.Err) {
			failed[i].Slow = &SlowNode{NodeID: f.Hop.NodeID, Address: f.Hop.Address}
			p.pipelines.Nodes.SlowWrites.Slow(f.Hop.NodeID)
		}
		p.pipelines.Logger.Warn("replacement left out of the pipeline", "path", p.path, "chunk", p.id.String(),
			"node", f.Hop.NodeID, "peer", f.Hop.Address, "err", f.Err)
	}
	return append(granted.survivors, good...), failed, nil
}

// CopyToAll has all nodes of a list get their replicas of a chunk at the same time. It returns those that have it, and
// the others with reasons, each in the order of the list.
func CopyToAll(nodes []wire.Hop, op string, id chunk.ID,
	copyTo func(i int, node wire.Hop) error) (good []wire.Hop, failed []HopFailure) {
	errs := make([]error, len(nodes))
	var copies sync.WaitGroup
	for i, node := range nodes {
		copies.Go(func() { errs[i] = copyTo(i, node) })
	}
	copies.Wait()
	for i, node := range nodes {
		if errs[i] == nil {
			good = append(good, node)
		} else {
			failed = append(failed, HopFailure{Hop: node, Err: datanode.Fault(errs[i], op, node, id.String())})
		}
	}
	return good, failed
}

// update makes a new generation the chunk's in the namenode. It comes before anything written under it is acknowledged;
// else a namenode that restarts would know only the old one. Error: fault.TooFewNodes at once if more copies are needed
// since it was granted.
func (p *placement) update(ctx context.Context, generation chunk.Generation, length int64, hops []wire.Hop) error {
	what := namenode.Call{Op: "recover pipeline", Path: p.path, Impatient: []fault.Kind{fault.TooFewNodes}}
	_, err := namenode.Mutate(ctx, p.pipelines.Namenode, what, controlpb.NamenodeClient.UpdatePipeline,
		&controlpb.UpdatePipelineRequest{Header: &controlpb.MutationHeader{}, FileId: p.file, ChunkId: p.id[:],
			Generation: uint64(generation), Length: length, NodeIds: namenode.NodeIDs(hops)})
	if err != nil {
		return err
	}
	p.generation, p.hops, p.mode = generation, hops, wire.ModeResume
	return nil
}

// sealedEverywhere asks the nodes of a pipeline that broke after FlagSeal was sent whether all of them sealed the whole
// chunk, and only the answer was lost. It names them; none if one did not, or failed: that one has to be replaced.
func (p *placement) sealedEverywhere(ctx context.Context, excluded []string, length int64) (sealed []string) {
	for _, hop := range p.hops {
		if slices.Contains(excluded, hop.NodeID) {
			return nil
		}
		reply, err := p.pipelines.Datanodes.Stat(ctx, hop, p.id, false, p.pipelines.Datanodes.DialTimeout)
		if err != nil || chunk.State(reply.State) != chunk.Sealed || reply.Generation != uint64(p.generation) ||
			reply.Length != length {
			return nil
		}
		sealed = append(sealed, hop.NodeID)
	}
	return sealed
}
