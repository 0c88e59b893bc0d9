package dataplane

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// copier makes replicas by pulling them from other datanodes. A copy runs on a
// goroutine of its caller's, or of the connection that asked for it; few run at
// once, the others wait. Two copies of one chunk run one after the other.
type copier struct {
	server *Server
	slots  chan struct{}
	asked  atomic.Int64 // running and waiting

	mu struct {
		sync.Mutex
		running map[chunk.ID]chan struct{} // closed at the copy's end
	}
}

func newCopier(s *Server) *copier {
	c := &copier{server: s, slots: make(chan struct{}, s.limits.CopiesMax)}
	c.mu.running = make(map[chunk.ID]chan struct{})
	return c
}

// Copy makes the replica that o describes on this node, from the first source
// that has it whole, every block verified, and returns its length. A replica
// that is complete already is success. With Seal it is durable and immutable on
// return; else it is durable and open, to be resumed at its generation.
//
// Until it is whole the replica is hidden: it is not reported, cannot be read
// and takes no part in recoveries. When ctx ends, or no source is left, what was
// copied is thrown away; a later Copy begins anew.
//
// A replica of a lower generation makes room (it goes to the trash) once a
// source has answered. Errors: fault.Invalid; fault.StaleGeneration if there is
// one of a higher generation; fault.Exists if another session writes it at this
// generation; fault.Busy (retryable); fault.Disk and fault.NoSpace of the own
// disk; fault.NotFound, if all sources say so; else fault.Unavailable with what
// each source said; fault.Closed when ctx ended or the server closes.
func (s *Server) Copy(ctx context.Context, o wire.CopyRange) (length int64, err error) {
	if err := o.Validate(); err != nil {
		return 0, err
	}
	ctx, leave, err := s.enter(ctx, "copy replica")
	if err != nil {
		return 0, err
	}
	defer leave()
	id, _ := chunk.IDFrom(o.ChunkID)
	release, err := s.copier.enter(ctx, id)
	if err != nil {
		return 0, err
	}
	defer release()
	s.counters.copies.Add(1)
	task := newCopyTask(s, id, o)
	if err := task.run(ctx); err != nil {
		s.counters.copiesFailed.Add(1)
		return 0, err
	}
	return task.end, nil
}

// CopyReplica carries out a namenode's order: it is Copy of a sealed replica,
// from sources that are at its generation at least.
func (s *Server) CopyReplica(ctx context.Context, order datanode.CopyReplica) error {
	_, err := s.Copy(ctx, wire.CopyRange{
		BodyVersion: wire.BodyVersion, ChunkID: order.Chunk[:], Generation: uint64(order.Generation), Length: order.Length,
		SourceMinGeneration: uint64(order.Generation), Sources: order.Sources[:min(len(order.Sources), wire.HopsMax)], Seal: true,
	})
	return err
}

// enter waits for a slot and for the copy of the same chunk that runs.
func (c *copier) enter(ctx context.Context, id chunk.ID) (release func(), err error) {
	const op = "copy replica"
	ended := func() error {
		return &fault.Error{Kind: fault.Closed, Op: op, Chunk: id.String(), Reason: "given up before it began", Err: ctx.Err()}
	}
	limit := int64(c.server.limits.CopiesMax + c.server.limits.CopiesWaitingMax)
	if c.asked.Add(1) > limit {
		c.asked.Add(-1)
		e := fault.New(fault.Busy, op, "%d copies run or wait, the limit of this datanode", limit)
		e.Chunk = id.String()
		return nil, e
	}
	leave := func() { c.asked.Add(-1) }
	for {
		c.mu.Lock()
		other := c.mu.running[id]
		if other == nil {
			break
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			leave()
			return nil, ended()
		}
	}
	done := make(chan struct{})
	c.mu.running[id] = done
	c.mu.Unlock()
	finish := func() {
		c.mu.Lock()
		delete(c.mu.running, id)
		c.mu.Unlock()
		close(done)
		leave()
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		finish()
		return nil, ended()
	}
	return func() {
		<-c.slots
		finish()
	}, nil
}

// startCopy serves an OpCopy. When the connection closes, the copy is given up.
func (c *connection) startCopy(o *wire.CopyRange) {
	s := c.server
	ctx, cancel := context.WithCancel(s.context)
	c.cancelQuery = cancel
	s.goroutines.Go(func() {
		defer cancel()
		reply := &wire.CopyReply{BodyVersion: wire.BodyVersion}
		var err error
		reply.Length, err = s.Copy(ctx, *o)
		reply.Status = wire.StatusOf(s.node.id, idText(o.ChunkID), err)
		if err != nil {
			s.logger.Warn("copy failed", "chunk", idText(o.ChunkID), "gen", o.Generation, "err", err)
		}
		c.loop.post(&event{connection: c, deliver: func() { c.machine.onQueryDone(wire.OpCopyReply, reply, s.now()) }})
	})
}

func idText(b []byte) string {
	id, err := chunk.IDFrom(b)
	if err != nil {
		return ""
	}
	return id.String()
}

// ready tells whether the replica wanted is there already.
func (t *copyTask) ready() bool {
	found, err := t.server.store.Stat(t.id)
	if err != nil || found.Generation != t.generation {
		return false
	}
	switch found.State {
	case chunk.Sealed:
		return t.o.Seal && found.Length == t.o.Length
	case chunk.Open, chunk.Recovered:
		// Published whole by an earlier call, and perhaps written to since.
		return !t.o.Seal && found.Length >= t.o.Length
	}
	return false
}

// run tries the sources in order.
func (t *copyTask) run(ctx context.Context) error {
	const op = "copy replica"
	if t.ready() {
		t.end = t.o.Length
		return nil
	}
	var said []string
	absent := true
	for _, source := range t.o.Sources {
		err := t.pull(ctx, source)
		if errors.Is(err, errOtherGeneration) && ctx.Err() == nil {
			t.settle()
			t.discard()
			err = t.pull(ctx, source)
		}
		if err == nil {
			return nil
		}
		t.settle()
		switch {
		case ctx.Err() != nil:
			t.discard()
			return &fault.Error{Kind: fault.Closed, Op: op, Chunk: t.id.String(), Reason: "given up half way", Err: ctx.Err()}
		case t.ownErr != nil:
			t.discard()
			return t.ownErr
		}
		absent = absent && errors.Is(err, fault.NotFound)
		said = append(said, source.NodeID+" at "+source.Address+": "+err.Error())
	}
	t.discard()
	e := fault.New(fault.Unavailable, op, "no source gave a good copy: %s", strings.Join(said, "; "))
	if absent {
		e.Kind = fault.NotFound
	}
	e.Chunk = t.id.String()
	return e
}

// onWorker runs f on the chunk's disk worker and waits for it.
func (t *copyTask) onWorker(ctx context.Context, f func() error) error {
	s := t.server
	for {
		done := make(chan error, 1)
		s.work.Add(1)
		err := s.store.Do(t.id, func() {
			defer s.work.Done()
			done <- f()
		})
		if err == nil {
			return <-done
		}
		s.work.Done()
		if !errors.Is(err, fault.Busy) {
			return err
		}
		if err := clock.Sleep(ctx, s.clock, copyRetryDelay); err != nil {
			return err
		}
	}
}

// prepare makes room for the replica and begins it. It runs once per attempt,
// after a source has shown that it can give the bytes.
func (t *copyTask) prepare(ctx context.Context, chunkSize int64) error {
	if t.o.ChunkSize > 0 {
		chunkSize = t.o.ChunkSize
	}
	return t.onWorker(ctx, func() error {
		store := t.server.store
		found, err := store.Stat(t.id)
		switch {
		case err != nil && !errors.Is(err, fault.NotFound):
			return err
		case err != nil || found.State == chunk.Corrupt:
		case found.Generation > t.generation:
			return &fault.Error{Kind: fault.StaleGeneration, Op: "copy replica", Chunk: t.id.String(), Reason: "there is a replica of a higher generation, " + found.State.String()}
		case found.Generation == t.generation && (found.State != chunk.Recovered || !t.o.Seal):
			return &fault.Error{Kind: fault.Exists, Op: "copy replica", Chunk: t.id.String(), Reason: "there is another replica of this generation, " + found.State.String()}
		default:
			t.server.logger.Info("replica makes room for a newer copy", "chunk", t.id, "gen", found.Generation, "length", found.Length, "newgen", t.generation)
			if err := store.Delete(t.id, found.Generation); err != nil {
				return err
			}
		}
		t.writer, err = store.Create(t.id, t.generation, disk.CreateOptions{ChunkSize: chunkSize, SizeHint: t.o.Length, Hidden: true})
		return err
	})
}
