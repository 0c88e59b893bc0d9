package pipeline

import (
	"context"
	"errors"
	"math"
	"strings"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// StreamOptions says what chunk a Stream writes, and for whom.
type StreamOptions struct {
	File        uint64
	Path        string // for errors and the log
	ChunkSize   int64
	Replication int   // that the file wants: the chunk is written on so many nodes if there are so many
	SizeHint    int64 // the chunk's length if it is known; 0: it is not
	// StartOver: the writer can send the chunk again from its first byte, so a broken pipeline is always replaced as a
	// whole, and the writer gets ErrStartOver.
	StartOver bool
	// OnAcked is called with acknowledged bytes, from several goroutines; negative when they have to be sent again.
	// nil: nobody asks.
	OnAcked func(bytes int64)
	// OnSlow is called for nodes that held up the writing and are replaced. nil: nobody listens.
	OnSlow func(SlowNode)
}

// ErrStartOver says that the chunk has a new pipeline, and its bytes are wanted again from the first one.
var ErrStartOver = errors.New("chunk starts over on new nodes")

// Stream writes one chunk, through as many sessions as it needs. It owns every packet that was appended to it until the
// packet is acknowledged by all hops of the session that carried it. Its methods are for one goroutine at a time.
//
// After a method returned an error other than its context's, the stream is dead: it holds no packets and no connection.
type Stream struct {
	pipelines *Pipelines
	options   StreamOptions
	life      context.Context // of the writer: ends all sessions
	state     streamState
	place     placement
	recovery  recovery

	// acked <= length: acknowledged by all hops of the pipeline that stands; appended so far, in this session or an
	// earlier one.
	acked    int64
	length   int64
	reported int64     // acknowledged bytes passed to OnAcked; of the ack goroutine while there is a session
	backlog  []*Packet // holds packets that no session has, in order; they begin at acked
	session  *session
	// lastCheck is the session and what it had sent at the previous KeepAlive.
	lastCheck struct {
		session *session
		sent    uint64
	}

	touched  bool     // a packet was appended
	sealing  bool     // the packet with FlagSeal was appended
	sealedBy []string // node ids, when it is sealed
}

// NewStream begins a new chunk that the namenode placed.
func (p *Pipelines) NewStream(life context.Context, c namenode.Chunk, o StreamOptions) *Stream {
	s := &Stream{pipelines: p, options: o, life: life, state: streamPlaced}
	s.place = placement{pipelines: p, file: o.File, path: o.Path, index: c.Index, sizeHint: o.SizeHint}
	s.place.put(c)
	return s
}

// ReopenStream goes on at the end of a sealed chunk, whose replicas have the previous generation.
func (p *Pipelines) ReopenStream(life context.Context, c namenode.Chunk, previous chunk.Generation,
	o StreamOptions) *Stream {
	s := p.NewStream(life, c, o)
	s.place.mode, s.place.previous = wire.ModeAppend, previous
	s.acked, s.length = c.Length, c.Length
	return s
}

// ResealStream seals a chunk anew, on more nodes: it was sealed as its commit says, and the namenode refuses that for
// want of copies, as err says. AwaitSeal does it; it waits for nodes like any recovery.
func (p *Pipelines) ResealStream(life context.Context, commit *controlpb.ChunkCommit, err error,
	o StreamOptions) *Stream {
	id, _ := chunk.IDFrom(commit.GetChunkId())
	s := &Stream{pipelines: p, options: o, life: life, state: streamBroken, touched: true, sealing: true,
		acked: commit.GetLength(), length: commit.GetLength(), recovery: recovery{last: err}}
	s.place = placement{pipelines: p, file: o.File, path: o.Path, id: id, mode: wire.ModeResume, opened: true,
		generation: chunk.Generation(commit.GetGeneration())}
	seal := p.NewPacket(s.length, 0)
	seal.Flags = wire.FlagSeal
	s.backlog = []*Packet{seal}
	return s
}

// Length is the chunk's length with everything that was appended.
func (s *Stream) Length() int64 { return s.length }

// Touched reports whether anything was ever appended. A reopened chunk that nothing was appended to is as it was.
func (s *Stream) Touched() bool { return s.touched }

// Dead reports whether the chunk was abandoned.
func (s *Stream) Dead() bool { return s.state == streamDead }

// Commit is the message to the namenode about a chunk that is sealed, or that nothing was appended to after it was
// reopened.
func (s *Stream) Commit() *controlpb.ChunkCommit {
	generation, nodes := s.place.generation, s.sealedBy
	if !s.touched {
		generation, nodes = s.place.previous, namenode.NodeIDs(s.place.hops)
	}
	id := s.place.id
	return &controlpb.ChunkCommit{ChunkId: id[:], Generation: uint64(generation), Length: s.length, NodeIds: nodes}
}

// Append adds a packet that begins at the stream's length, and writes it as soon as the window allows. taken: the
// stream owns it now, whatever the error.
func (s *Stream) Append(ctx context.Context, p *Packet) (taken bool, err error) {
	if err := s.drain(ctx); err != nil {
		return false, err
	}
	s.backlog = append(s.backlog, p)
	s.length, s.touched = p.End(), true
	if p.Flags&wire.FlagSeal != 0 {
		s.sealing = true
		if p.End() == int64(p.Size) { // the whole chunk: datanodes put small ones into packs
			s.place.sizeHint = int64(p.Size)
		}
	}
	return true, s.drain(ctx)
}

// drain brings a session up, if need be, and empties the backlog into it.
func (s *Stream) drain(ctx context.Context) error {
	if s.Dead() {
		return s.fault(fault.Closed, "the chunk was given up after an error")
	}
	for s.state != streamSealed {
		var err error
		switch {
		case s.session == nil && len(s.backlog) == 0 && s.state == streamPlaced:
			return nil // nothing to send yet
		case s.session == nil:
			err = s.open(ctx)
		case len(s.backlog) == 0:
			return nil
		default:
			var taken bool
			if taken, err = s.session.transmit(ctx, s.backlog[0]); taken {
				s.popBacklog()
			}
		}
		if err != nil {
			if retry, err := s.onFailure(ctx, err); !retry {
				return err
			}
		}
	}
	return nil
}

// popBacklog removes the first packet. An empty backlog keeps its memory, so that appending packet after packet
// allocates nothing.
func (s *Stream) popBacklog() {
	s.backlog[0] = nil
	if len(s.backlog) == 1 {
		s.backlog = s.backlog[:0]
		return
	}
	s.backlog = s.backlog[1:]
}

// open makes the first session of a placed chunk, or recovers. Both may take long, so the end of the writer ends them
// too; a session that stands sees that end by itself.
func (s *Stream) open(ctx context.Context) error {
	ctx, cancel := lifetime.Join(ctx, s.life)
	defer cancel()
	if s.state != streamPlaced {
		return s.recover(ctx)
	}
	if s.place.hasSlowNode() {
		if err := s.replace(ctx); err != nil && !errors.Is(err, fault.TooFewNodes) &&
			!errors.Is(err, fault.NoSpace) {
			return err
		}
	}
	if len(s.place.hops) == 0 {
		return s.Kill(s.fault(fault.Protocol, "the namenode placed the chunk on no node"))
	}
	if s.place.mode == wire.ModeAppend && len(s.place.hops) < s.options.Replication {
		// only those that hold the chunk were named
		if err := s.grow(ctx); err != nil || s.session != nil {
			return err
		}
	}
	if len(s.place.hops) < s.least() {
		return s.tooFew(s.place.hops)
	}
	var first *Packet
	if s.place.mode == wire.ModeCreate && wire.WindowCost(s.backlog[0].Size) <= FirstBytesMax {
		first = s.backlog[0]
	}
	opened, err := s.pipelines.openSession(ctx, s.life, s.target(s.place.mode, s.place.generation, s.place.previous,
		s.place.hops), first, s.onAcked)
	if err != nil {
		return err
	}
	s.session, s.state = opened, streamWriting
	if first != nil {
		s.popBacklog()
	}
	return nil
}

func (s *Stream) target(mode wire.Mode, generation, previous chunk.Generation, hops []wire.Hop) sessionTarget {
	return sessionTarget{id: s.place.id, generation: generation, previous: previous, mode: mode,
		chunkSize: s.options.ChunkSize, offset: s.acked, sizeHint: s.place.sizeHint, hops: hops,
		least: s.least(), judged: len(hops) >= s.place.width, slow: s.pipelines.Nodes.SlowWrites.Known(hops)}
}

// onAcked runs on the session's ack goroutine.
func (s *Stream) onAcked(bytes int64) {
	s.reported += bytes
	if s.options.OnAcked != nil {
		s.options.OnAcked(bytes)
	}
}

// Point is a place in what a Stream sent. The zero Point is reached.
type Point struct {
	session *session
	seqno   uint64 // whose ack covers everything before
}

// Reached waits until all hops have acknowledged everything before the point, and reports whether they have. They may
// have not, or in another session, if the session failed or is closed, or ctx ended. Any goroutine may call it.
func (p Point) Reached(ctx context.Context) bool {
	return p.session == nil || p.session.acknowledged(ctx, p.seqno)
}

// Point is the one behind everything that was appended, in the session that carries it. missed is a point that was not
// reached: if its session failed, another one is opened first. Else a session that failed is left for the next call, so
// that whoever only begins to wait does not wait for a recovery.
func (s *Stream) Point(ctx context.Context, missed Point) (Point, error) {
	for {
		if err := s.drain(ctx); err != nil || s.session == nil {
			return Point{}, err
		}
		now := s.session.state()
		if now.failed == nil || missed.session != s.session {
			return Point{s.session, now.sent}, nil
		}
		if retry, err := s.onFailure(ctx, now.failed); !retry {
			return Point{}, err
		}
	}
}

// Waiting counts those who wait for a point of the session that stands.
func (s *Stream) Waiting() int {
	if s.session == nil {
		return 0
	}
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	return len(s.session.mu.waiters.list)
}

// AwaitSeal waits for the ack of the packet with FlagSeal, which was appended.
func (s *Stream) AwaitSeal(ctx context.Context) error {
	for {
		if err := s.drain(ctx); err != nil || s.state == streamSealed {
			return err
		}
		err := s.session.await(ctx, func() bool { return s.session.mu.finished })
		if err == nil {
			break
		}
		if retry, err := s.onFailure(ctx, err); !retry {
			return err
		}
	}
	s.sealed(s.session.state().sealedBy)
	s.session.close()
	s.session = nil
	return nil
}

// sealed notes that all of these nodes have the whole chunk, durably.
func (s *Stream) sealed(by []string) {
	s.sealedBy, s.acked, s.state = by, s.length, streamSealed
}

// KeepAlive sends an empty packet if the session was idle since the last call, so that the datanodes do not regard it
// as dead. A session that is broken is left for the next Append, which recovers it: until then nothing is lost that a
// recovery now would save.
func (s *Stream) KeepAlive() {
	last := &s.lastCheck
	if s.session == nil || len(s.backlog) > 0 {
		last.session = nil
		return
	}
	now := s.session.state()
	if now.opened && now.idle && now.failed == nil && last.session == s.session && last.sent == now.sent {
		p := s.pipelines.NewPacket(s.length, 0)
		// an error stays in the session, where the next Append finds it
		if taken, _ := s.session.transmit(s.life, p); !taken {
			p.Release()
		}
		now.sent++
	}
	last.session, last.sent = s.session, now.sent
}

// onFailure handles an error of a session or of making one. retry: another pipeline can be tried; else final is to be
// returned.
func (s *Stream) onFailure(ctx context.Context, err error) (retry bool, final error) {
	var broken *sessionError
	if s.session != nil && !errors.As(err, &broken) && ctx.Err() != nil && s.life.Err() == nil {
		return false, lifetime.Ended(ctx, "write", s.options.Path, err) // only the caller left: the session goes on
	}
	s.detach()
	switch {
	case errors.Is(err, ErrStartOver):
		return false, err // it is placed anew, and holds nothing
	case s.life.Err() != nil:
		return false, s.Kill(lifetime.Ended(s.life, "write", s.options.Path, nil))
	case ctx.Err() != nil:
		// the stream lives on: packets are in the backlog
		return false, lifetime.Ended(ctx, "write", s.options.Path, err)
	case errors.As(err, &broken):
		s.reportSlow(broken.failed)
		s.place.existing = s.recovery.note(broken, s.pipelines.Clock.Now()) || s.place.existing
		s.state = streamBroken
		return true, nil
	}
	return false, s.Kill(err)
}

// reportSlow says to people, and to the writer, which nodes are slow.
func (s *Stream) reportSlow(failed []HopFailure) {
	for _, f := range failed {
		if f.Slow == nil {
			continue
		}
		s.pipelines.Logger.Warn("slow datanode is replaced", "path", s.options.Path, "chunk", s.place.id.String(),
			"node", f.Hop.NodeID, "peer", f.Hop.Address, "mb_per_s", math.Round(f.Slow.BytesPerSecond/1e5)/10,
			"bytes_wait", f.Slow.where())
		if s.options.OnSlow != nil {
			s.options.OnSlow(*f.Slow)
		}
	}
}

// detach ends the session, if there is one; packets that it had not got acknowledged are the backlog's again.
func (s *Stream) detach() {
	if s.session == nil {
		return
	}
	rest := s.session.close()
	s.noteAcked(s.session.state())
	s.session, s.state = nil, streamBroken
	s.backlog = append(rest, s.backlog...)
}

// noteAcked notes how far a session came.
func (s *Stream) noteAcked(now sessionState) {
	s.place.opened = s.place.opened || now.opened
	if now.length > s.acked {
		s.acked = now.length
		s.recovery.attempts = 0 // progress
	}
}

// Kill abandons everything and returns err with the path.
func (s *Stream) Kill(err error) error {
	s.detach()
	s.state = streamDead
	s.dropBacklog()
	return fault.WithPath(err, s.options.Path)
}

func (s *Stream) dropBacklog() {
	releaseAll(s.backlog)
	s.backlog = nil
}

func (s *Stream) fault(kind fault.Kind, reason string) *fault.Error {
	return &fault.Error{Kind: kind, Op: "write", Path: s.options.Path, Chunk: s.place.id.String(), Reason: reason}
}

// recover handles a broken pipeline in one of three ways:
//
//	seal lost:        if all nodes that still answer did seal, the chunk is done
//	nothing acked:    the chunk is replaced by one on other nodes
//	else:             the namenode gives a new generation; the survivors cut their replicas to the acknowledged length
//	                  and go on, with nodes that copy those bytes in the places of the lost ones
//
// Then drain sends what was not acknowledged. An error that is neither a *sessionError nor the context's is final. An
// attempt that only its caller's context ended does not count: nothing failed.
func (s *Stream) recover(ctx context.Context) (err error) {
	defer func() {
		if err != nil && ctx.Err() != nil && s.life.Err() == nil && !s.Dead() {
			s.recovery.uncount()
		}
	}()
	wait, allowed := s.recovery.begin(s.pipelines.Clock.Now(), s.pipelines.Retry)
	if !allowed {
		e := s.recovery.exhausted()
		e.Path, e.Chunk = s.options.Path, s.place.id.String()
		return e
	}
	if err := clock.Sleep(ctx, s.pipelines.Clock, wait); err != nil {
		return err
	}
	s.pipelines.Logger.Warn("write pipeline broken", "path", s.options.Path, "chunk", s.place.id.String(), "gen",
		uint64(s.place.generation), "state", s.state.String(), "acked", s.acked,
		"failed_nodes", s.recovery.excluded(s.pipelines.Clock.Now()),
		"attempt", s.recovery.attempts, "err", s.recovery.last)
	if s.sealing {
		// What a node sealed is durable there. If one did not seal, the chunk is sealed anew, so that it does not end
		// with fewer replicas than there are nodes for.
		excluded := s.recovery.excluded(s.pipelines.Clock.Now())
		if nodes := s.place.sealedEverywhere(ctx, excluded, s.length); len(nodes) >= s.least() {
			s.dropBacklog()
			s.sealed(nodes)
			return nil
		}
	}
	if s.canReplace() {
		switch err := s.replace(ctx); {
		case err == nil:
			return nil
		case errors.Is(err, fault.TooFewNodes), errors.Is(err, fault.NoSpace):
			s.place.alone = true // no others to place it on: go on with the survivors
		default:
			return err
		}
	}
	return s.resume(ctx)
}

// canReplace: no reader can have seen a byte of the chunk, or the writer can send it again, and there may be nodes for
// it.
func (s *Stream) canReplace() bool {
	return !s.place.alone && s.place.previous == 0 && (s.options.StartOver || s.acked == 0)
}

// replace puts the chunk on other nodes. Unless the writer has to start over, the new chunk's first session is opened
// next.
func (s *Stream) replace(ctx context.Context) error {
	before := s.state
	s.state = streamReplacing
	if err := s.place.replace(ctx, s.recovery.excluded(s.pipelines.Clock.Now())); err != nil {
		s.state = before
		return err
	}
	over := s.options.StartOver && s.acked > 0
	s.state, s.acked = streamPlaced, 0
	if over {
		s.length, s.sealing = 0, false
		s.dropBacklog()
		if s.reported > 0 {
			s.onAcked(-s.reported)
		}
		return ErrStartOver
	}
	return nil
}

// least is how many replicas what is written needs to be acknowledged.
func (s *Stream) least() int {
	return s.pipelines.CopiesLeast(s.place.copiesMin, s.options.Replication)
}

// tooFew is why the chunk cannot be written on these nodes alone. Others may come back, so it is tried again.
func (s *Stream) tooFew(hops []wire.Hop) error {
	nodes := "no node"
	if len(hops) > 0 {
		nodes = "only " + strings.Join(namenode.NodeIDs(hops), ", ")
	}
	e := fault.New(fault.Unavailable, "write chunk", "%d copies are needed, there is %s to write on", s.least(), nodes)
	e.Chunk = s.place.id.String()
	return s.await(e)
}

// await is err, that there are too few nodes, as a failure after which others are waited for.
func (s *Stream) await(err error) error {
	s.recovery.awaitNodes(s.pipelines.Clock.Now(), err)
	return &sessionError{err: err}
}

// resume goes on with the survivors of the pipeline, and replacements of the others, under a new generation.
func (s *Stream) resume(ctx context.Context) error {
	s.state = streamResuming
	granted, refused, err := s.place.recover(ctx, s.recovery.excluded(s.pipelines.Clock.Now()), false)
	if refused {
		return s.await(err) // no member is left, or too few: those that only restarted may come back
	}
	if err != nil {
		return err
	}
	return s.reopen(ctx, granted, replacementRounds)
}

// grow adds nodes to a pipeline that is on fewer than the file wants, in the way of a recovery, if there are any. The
// session that stands ends only when they have their copies, or have failed to make them.
func (s *Stream) grow(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, growPatience)
	granted, _, err := s.place.recover(asking, s.recovery.excluded(s.pipelines.Clock.Now()), true)
	cancel()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil: // nothing is broken: another time
		s.pipelines.Logger.Debug("write pipeline does not grow", "path", s.options.Path, "chunk", s.place.id.String(),
			"err", err)
		return nil
	}
	if s.session != nil { // nobody sends meanwhile: what is under way need not wait for the copies
		if err := s.session.await(ctx, s.session.mu.window.empty); err != nil {
			return err
		}
		s.noteAcked(s.session.state())
	}
	return s.reopen(ctx, granted, 1)
}

// Grow adds nodes to the chunk's pipeline, if it stands on fewer than the file wants and there are others. Only an
// error that ends the stream is returned; a failure on the way is recovered.
func (s *Stream) Grow(ctx context.Context) error {
	if s.session == nil || s.sealing {
		return nil
	}
	if now := s.session.state(); !now.opened || now.failed != nil {
		return nil // the next recovery adds them
	}
	ctx, cancel := lifetime.Join(ctx, s.life)
	defer cancel()
	if err := s.grow(ctx); err != nil {
		if retry, err := s.onFailure(ctx, err); !retry {
			return err
		}
	}
	return s.drain(ctx)
}

// ID of the chunk, as it is placed now.
func (s *Stream) ID() chunk.ID { return s.place.id }

// copyToReplacements has the replacements copy what is acknowledged. In the place of those that fail it asks for
// others, so that there are so many rounds. It returns what was granted last, and the hops of the recovered pipeline.
//
// A replacement that is left out may have its copy all the same, or get it later, and a replica of the generation that
// was granted counts as one with everything that is acknowledged: so the others go on under another generation.
func (s *Stream) copyToReplacements(ctx context.Context, granted resumption, target sessionTarget,
	rounds int) (resumption, []wire.Hop, error) {
	for round := 1; ; round++ {
		target.generation = granted.generation
		hops, failed, err := s.place.copyToReplacements(ctx, granted, target)
		s.reportSlow(failed)
		for _, f := range failed {
			s.recovery.blame(f, s.pipelines.Clock.Now()) // it is not asked for again soon
		}
		if err != nil || len(failed) == 0 {
			return granted, hops, err
		}
		others, refused, err := s.place.recover(ctx, s.recovery.excluded(s.pipelines.Clock.Now()), false)
		switch {
		case refused:
			return granted, nil, s.await(err)
		case err != nil:
			return granted, nil, err
		case len(hops) >= s.options.Replication, round == rounds, len(others.wanted) == 0:
			granted.generation = others.generation
			return granted, hops, nil
		}
		granted = others
	}
}

// reopen opens a session under the generation that the namenode granted, once the replacements have copies. The one
// that stood has nothing under way. It ends also if they have none: nothing may be acknowledged any more under a
// generation below that of a copy, which may still become whole.
func (s *Stream) reopen(ctx context.Context, granted resumption, rounds int) error {
	mode, previous := s.place.resumeMode(s.acked)
	granted, hops, err := s.copyToReplacements(ctx, granted, s.target(mode, 0, previous, nil), rounds)
	s.detach()
	s.state = streamResuming
	if err != nil {
		return err
	}
	if len(hops) < s.least() {
		return s.tooFew(hops)
	}
	opened, err := s.pipelines.openSession(ctx, s.life, s.target(mode, granted.generation, previous, hops), nil,
		s.onAcked)
	if err != nil {
		return err
	}
	if err = opened.await(ctx, func() bool { return opened.mu.opened }); err == nil {
		s.place.opened = true
		err = s.place.update(ctx, granted.generation, s.acked, hops)
	}
	if err != nil {
		opened.close() // it has no packets
		if errors.Is(err, fault.TooFewNodes) {
			return s.await(err)
		}
		return err
	}
	s.session, s.state = opened, streamWriting
	s.recovery.stands()
	s.pipelines.Logger.Info("write pipeline recovered", "path", s.options.Path, "chunk", s.place.id.String(), "gen",
		uint64(granted.generation), "length", s.acked, "nodes", namenode.NodeIDs(hops))
	return nil
}
