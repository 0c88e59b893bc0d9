package client

import (
	"context"
	"errors"
	"math"
	"sync/atomic"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// stream writes one chunk, through as many sessions as it takes. It owns every
// packet that was handed to it until the packet is acknowledged by all hops of
// the session that carried it. Its methods are for one goroutine at a time.
//
// After a method returned an error other than its context's, the stream is
// dead: it holds no packets and no connection.
type stream struct {
	client *Client
	life   context.Context // of the writer: ends all sessions
	file   uint64
	path   string
	index  int // of the chunk in the file

	state      streamState
	id         chunk.ID
	generation chunk.Generation // of the pipeline that stands, or stood last
	previous   chunk.Generation // ModeAppend: that of the sealed replica
	mode       wire.Mode        // how the next session opens
	chunkSize  int64
	sizeHint   int64
	hops       []wire.Hop

	// acked <= length: acknowledged by all hops of the pipeline that stands;
	// handed over so far, in this session or an earlier one.
	acked  int64
	length int64
	// backlog holds packets that no session has, in order; they begin at acked.
	backlog []*packet
	session *session

	// startOver: the writer can send the chunk again from its first byte, so a
	// broken pipeline is always replaced as a whole.
	startOver bool
	onAcked   func(bytes int64)
	reported  atomic.Int64 // acknowledged bytes told to onAcked

	recovery recovery
	width    int            // hops of the chunk as it was placed
	avoided  bool           // slow nodes of the placement were looked at
	onSlow   func(SlowNode) // nil: nobody listens
	touched  bool           // a packet was handed over
	sealing  bool           // the packet with FlagSeal was handed over
	sealedBy []string       // node ids, when it is sealed
}

// errStartOver: the chunk has a new pipeline, and its bytes are wanted again
// from the first one.
var errStartOver = errors.New("chunk starts over on new nodes")

func (c *Client) newStream(life context.Context, file uint64, path string, chunkSize int64, l ChunkLocation) *stream {
	s := &stream{client: c, life: life, file: file, path: path, index: l.Index, chunkSize: chunkSize, mode: wire.ModeCreate}
	s.place(l)
	return s
}

// place puts the stream on an allocated chunk.
func (s *stream) place(l ChunkLocation) {
	s.id, s.generation, s.previous = l.ID, l.Generation, 0
	s.hops = hopsOf(l.Replicas)
	s.width = max(s.width, len(s.hops))
	s.mode, s.state = wire.ModeCreate, streamPlaced
	s.recovery.opened = false
	s.acked = 0
}

func hopsOf(replicas []Replica) []wire.Hop {
	hops := make([]wire.Hop, 0, len(replicas))
	for _, r := range replicas {
		hops = append(hops, wire.Hop{NodeID: r.NodeID, Address: r.Address})
	}
	return hops
}

// send hands over a packet that begins at the stream's length. taken: the
// stream owns it now, whatever the error.
func (s *stream) send(ctx context.Context, p *packet) (taken bool, err error) {
	if err := s.ensure(ctx); err != nil {
		return false, err
	}
	s.backlog = append(s.backlog, p)
	s.length, s.touched = p.end(), true
	s.sealing = s.sealing || p.flags&wire.FlagSeal != 0
	return true, s.ensure(ctx)
}

// sendInSession hands a packet to the session that stands, and does nothing
// else: no chunk ends with it, no pipeline is opened or recovered. If the session
// fails, ensure finds that out. seqno: the packet's in the session, which owns
// it; 0: it was not taken.
func (s *stream) sendInSession(ctx context.Context, p *packet) (seqno uint64, ok bool) {
	taken, err := s.session.send(ctx, p)
	if !taken {
		return 0, false
	}
	s.length, s.touched = p.end(), true
	return s.session.lastSent(), err == nil
}

// ensure brings a session up, if need be, and empties the backlog into it.
func (s *stream) ensure(ctx context.Context) error {
	if s.dead() {
		return &fault.Error{Kind: fault.Closed, Op: "write", Path: s.path, Chunk: s.id.String(), Reason: "the chunk was given up after an error"}
	}
	for s.state != streamSealed {
		if s.session == nil {
			if len(s.backlog) == 0 && s.state == streamPlaced {
				return nil // nothing to send yet
			}
			if err := s.open(ctx); err != nil {
				if again, err := s.broke(ctx, err); !again {
					return err
				}
			}
			continue
		}
		if len(s.backlog) == 0 {
			return nil
		}
		taken, err := s.session.send(ctx, s.backlog[0])
		if taken {
			s.backlog[0] = nil
			s.backlog = s.backlog[1:]
		}
		if err != nil {
			if again, err := s.broke(ctx, err); !again {
				return err
			}
		}
	}
	return nil
}

// open makes the first session of a placed chunk, or recovers.
func (s *stream) open(ctx context.Context) error {
	if s.state != streamPlaced {
		return s.recover(ctx)
	}
	if err := s.avoidSlow(ctx); err != nil {
		return err
	}
	if len(s.hops) == 0 {
		return s.kill(&fault.Error{Kind: fault.Protocol, Op: "write", Path: s.path, Chunk: s.id.String(), Reason: "the namenode placed the chunk on no node"})
	}
	var first *packet
	if s.mode == wire.ModeCreate && wire.WindowCost(s.backlog[0].size) <= firstBytesMax {
		first = s.backlog[0]
	}
	session, err := s.client.openSession(ctx, s.life, s.target(s.mode, s.generation, s.previous, s.hops), first, s.report)
	if err != nil {
		return err
	}
	s.session, s.state = session, streamWriting
	if first != nil {
		s.backlog = s.backlog[1:]
	}
	return nil
}

func (s *stream) target(mode wire.Mode, generation, previous chunk.Generation, hops []wire.Hop) sessionTarget {
	return sessionTarget{id: s.id, generation: generation, previous: previous, mode: mode, chunkSize: s.chunkSize,
		offset: s.acked, sizeHint: s.sizeHint, hops: hops, judged: len(hops) >= s.width}
}

func (s *stream) report(bytes int64) {
	s.reported.Add(bytes)
	if s.onAcked != nil {
		s.onAcked(bytes)
	}
}

// wait returns when a condition holds in the session that has all packets.
func (s *stream) wait(ctx context.Context, c condition) error {
	for {
		if err := s.ensure(ctx); err != nil {
			return err
		}
		if s.state == streamSealed || s.session == nil {
			return nil
		}
		err := s.session.await(ctx, c, 0)
		if err == nil {
			return nil
		}
		if again, err := s.broke(ctx, err); !again {
			return err
		}
	}
}

// flushed waits until everything handed over is acknowledged.
func (s *stream) flushed(ctx context.Context) error {
	return s.wait(ctx, isFlushed)
}

// sealed waits for the ack of the packet with FlagSeal.
func (s *stream) sealed(ctx context.Context) error {
	err := s.wait(ctx, isFinished)
	if err != nil || s.state == streamSealed {
		return err
	}
	s.sealedBy = s.session.sealedBy()
	s.acked, s.state = s.length, streamSealed
	s.session.close()
	s.session = nil
	return nil
}

// commit is the client's word about a sealed chunk.
func (s *stream) commit() *controlpb.ChunkCommit {
	return &controlpb.ChunkCommit{ChunkId: s.id[:], Generation: uint64(s.generation), Length: s.length, NodeIds: s.sealedBy}
}

// broke handles an error of a session or of making one. again: the pipeline
// can be tried anew; else err is to be returned.
func (s *stream) broke(ctx context.Context, err error) (again bool, final error) {
	var p *pipelineError
	if s.session != nil && !errors.As(err, &p) && ctx.Err() != nil && s.life.Err() == nil {
		return false, contextFault(ctx, "write", s.path, err) // only the caller left: the session goes on
	}
	s.detach()
	switch {
	case errors.Is(err, errStartOver):
		return false, err // it is placed anew, and holds nothing
	case s.life.Err() != nil:
		return false, s.kill(contextFault(s.life, "write", s.path, nil))
	case ctx.Err() != nil:
		return false, contextFault(ctx, "write", s.path, err) // the stream lives on: packets are in the backlog
	case errors.As(err, &p):
		s.noteSlow(p)
		s.recovery.note(p)
		s.state = streamBroken
		return true, nil
	}
	return false, s.kill(err)
}

// noteSlow tells people which nodes are slow.
func (s *stream) noteSlow(p *pipelineError) {
	for _, f := range p.failed {
		if f.slow == nil {
			continue
		}
		s.client.logger.Warn("slow datanode is replaced", "path", s.path, "chunk", s.id.String(), "node", f.hop.NodeID, "peer", f.hop.Address,
			"mb_per_s", math.Round(f.slow.BytesPerSecond/1e5)/10, "bytes_wait", f.slow.where())
		if s.onSlow != nil {
			s.onSlow(*f.slow)
		}
	}
}

// detach takes what the session has back; afterwards there is none.
func (s *stream) detach() {
	if s.session == nil {
		return
	}
	rest := s.session.close()
	if s.session.stood() {
		s.recovery.opened = true
	}
	if length := s.session.length(); length > s.acked {
		s.acked = length
		s.recovery.attempts = 0 // progress
	}
	s.session, s.state = nil, streamBroken
	s.backlog = append(rest, s.backlog...)
}

// dead: kill gave everything up.
func (s *stream) dead() bool { return s.state == streamDead }

// kill gives everything up and returns err with the path.
func (s *stream) kill(err error) error {
	s.detach()
	s.state = streamDead
	for _, p := range s.backlog {
		p.release()
	}
	s.backlog = nil
	return withPath(err, s.path)
}
