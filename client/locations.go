package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// errShrunk says that a file got shorter while it was read.
var errShrunk = errors.New("the file was cut")

// fileView is what a reader knows of a file: its length and where its chunks
// are. It belongs to one file id, so a file put in its place is never mixed in.
// Safe for concurrent use.
type fileView struct {
	client *Client
	path   string
	mu     struct {
		sync.Mutex
		info   FileInfo
		length int64                 // visible bytes known; for a closed file all
		chunks map[int]ChunkLocation // by index; at most locationsMax
	}
}

// view finds a file and the locations of its first chunks.
func (c *Client) view(ctx context.Context, op, path string) (*fileView, error) {
	info, chunks, err := c.locate(ctx, call{op: op, path: path}, &controlpb.LocateRequest{Path: path, Offset: 0, Length: locateFirstBytes})
	if err != nil {
		return nil, err
	}
	if info.Directory {
		return nil, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: path}
	}
	if info.ChunkSize <= 0 || info.ChunkSize%chunk.ChecksumBlockBytes != 0 || info.Length < 0 {
		return nil, fault.New(fault.Protocol, op, "the namenode tells of chunks of %d bytes, and %d bytes in all", info.ChunkSize, info.Length)
	}
	v := &fileView{client: c, path: path}
	v.mu.chunks = make(map[int]ChunkLocation)
	v.keep(info, chunks)
	return v, nil
}

// keep remembers an answer of Locate.
func (v *fileView) keep(info FileInfo, chunks []ChunkLocation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	info.Path = v.path
	v.mu.info = info
	v.mu.length = max(v.mu.length, info.Length)
	if len(v.mu.chunks)+len(chunks) > locationsMax {
		clear(v.mu.chunks)
	}
	for _, l := range chunks {
		v.mu.chunks[l.Index] = l
	}
}

func (v *fileView) info() FileInfo {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.info
}

// length is the file's visible length as far as it is known.
func (v *fileView) length() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.length
}

// refresh asks anew for the chunks from an index on.
func (v *fileView) refresh(ctx context.Context, index, count int) error {
	info := v.info()
	what := call{op: "locate", path: v.path}
	info, chunks, err := v.client.locate(ctx, what, &controlpb.LocateRequest{FileId: info.FileID,
		Offset: int64(index) * info.ChunkSize, Length: int64(count) * info.ChunkSize})
	if err != nil {
		return err
	}
	v.mu.Lock()
	for i := index; i < index+count; i++ {
		delete(v.mu.chunks, i) // it may be gone: cut off by a recovery or truncation
	}
	v.mu.Unlock()
	v.keep(info, chunks)
	return nil
}

// shrink learns whether the file still shows the bytes of a chunk up to end, an
// offset in it. Bytes that were never acknowledged may have been visible, and
// recovery of the writer's lease cuts them off: then the known length becomes
// what is left, and the error is errShrunk.
func (v *fileView) shrink(ctx context.Context, index int, end int64) error {
	info := v.info()
	left := info.Length
	if l, ok := v.known(index); info.Open && ok && l.Open {
		n, err := v.visible(ctx, l)
		if err != nil {
			return nil // the caller goes on trying to read
		}
		left = l.Offset + n
	}
	if int64(index)*info.ChunkSize+end <= left {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.length = left
	return errShrunk
}

// chunk returns where a chunk is, asking the namenode if it is not known.
func (v *fileView) chunk(ctx context.Context, index int) (ChunkLocation, error) {
	for asked := false; ; asked = true {
		if l, ok := v.known(index); ok {
			return l, nil
		}
		if asked {
			return ChunkLocation{}, &fault.Error{Kind: fault.NotFound, Op: "read", Path: v.path, Reason: "the file has no such chunk any more: it was cut or replaced"}
		}
		if err := v.refresh(ctx, index, locateChunks); err != nil {
			return ChunkLocation{}, err
		}
	}
}

// extend finds the visible length of a file that is being written: committed
// bytes plus what a replica of each open chunk shows. Of a file that was closed
// when last looked at, it asks again only if force is set.
func (v *fileView) extend(ctx context.Context, force bool) (int64, error) {
	info := v.info()
	if !info.Open && !force {
		return v.length(), nil
	}
	// Every chunk before the one that holds the committed end is full.
	for index := int(info.Length / info.ChunkSize); ; index++ {
		if err := v.refresh(ctx, index, 2); err != nil {
			return 0, err
		}
		info = v.info()
		l, ok := v.known(index)
		if !ok || !info.Open {
			return v.length(), nil
		}
		visible := l.Length
		if l.Open {
			n, err := v.visible(ctx, l)
			if err != nil {
				return 0, withPath(err, v.path)
			}
			visible = n
		}
		v.mu.Lock()
		v.mu.length = max(v.mu.length, l.Offset+visible)
		v.mu.Unlock()
		if visible < info.ChunkSize {
			return v.length(), nil
		}
	}
}

// visible asks the replicas of an open chunk, in order, how long they are. What
// was flushed is on all of them, so one answer is enough, but for that of a node
// that was restarted: it may have lost what was not synced, and counts only if
// all others say no more. A node that should have a replica and has none says that
// nothing was flushed yet.
func (v *fileView) visible(ctx context.Context, l ChunkLocation) (int64, error) {
	var failures []*fault.Error
	missing, restarted := false, int64(-1)
	for _, at := range v.client.nodes.order(l.Replicas) {
		reply, err := v.client.statReplica(ctx, at, l.ID, false)
		switch {
		case err == nil && chunk.State(reply.State) == chunk.Recovered && chunk.Generation(reply.Generation) >= l.Generation:
			restarted = max(restarted, reply.Length)
		case err == nil && (chunk.Generation(reply.Generation) >= l.Generation || reply.Length <= l.Length):
			return max(reply.Length, l.Length), nil
		case err == nil:
			// Cut off from the pipeline: what it has beyond the committed bytes
			// may not count.
			failures = append(failures, datanode(fault.New(fault.StaleGeneration, "stat replica", "its generation is %d, now it is %d", reply.Generation, l.Generation), "stat replica", at, l.ID.String()))
		case ctx.Err() != nil:
			return 0, contextFault(ctx, "stat replica", v.path, nil)
		case errors.Is(err, fault.NotFound):
			missing = true
		default:
			v.client.nodes.failed(at.Address)
			failures = append(failures, datanode(err, "stat replica", at, l.ID.String()))
		}
	}
	if restarted >= 0 && len(failures) == 0 {
		return max(restarted, l.Length), nil
	}
	if restarted < 0 && missing || len(l.Replicas) == 0 {
		return l.Length, nil
	}
	return 0, noReplica(l, failures)
}

// read fills p from one chunk. offset+len(p) is at most the chunk's visible
// length. Each replica is tried, then the locations are asked for again and the
// retry policy decides.
func (v *fileView) read(ctx context.Context, index int, offset int64, p []byte) error {
	c := v.client
	began := c.clock.Now()
	got := 0
	for number := 1; ; number++ {
		l, err := v.chunk(ctx, index)
		if err == nil {
			var n int
			n, err = v.tryReplicas(ctx, l, offset+int64(got), p[got:])
			got += n
			if err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return contextFault(ctx, "read", v.path, err)
		}
		class := fault.ClassOf(err)
		if class == fault.Permanent || number > refreshesMax && class == fault.Corruption {
			return withPath(err, v.path)
		}
		wait, again := c.options.Retry.Next(Attempt{Number: number, Elapsed: c.clock.Now().Sub(began), Err: err})
		if !again {
			return withPath(err, v.path)
		}
		if clock.Sleep(ctx, c.clock, wait) != nil {
			return contextFault(ctx, "read", v.path, err)
		}
		before, _ := v.known(index)
		if err := v.refresh(ctx, index, 1); err != nil {
			return withPath(err, v.path)
		}
		if err := v.shrink(ctx, index, offset+int64(len(p))); err != nil {
			return err
		}
		if class == fault.Corruption && v.sameReplicas(before) {
			return withPath(err, v.path) // nowhere else to look
		}
	}
}

func (v *fileView) known(index int) (ChunkLocation, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l, ok := v.mu.chunks[index]
	return l, ok
}

// sameReplicas tells whether no replica of the chunk is known now that before
// does not name.
func (v *fileView) sameReplicas(before ChunkLocation) bool {
	now, _ := v.known(before.Index)
	if before.ID != now.ID || before.Generation != now.Generation {
		return false
	}
	return !slices.ContainsFunc(now.Replicas, func(r Replica) bool { return !slices.Contains(before.Replicas, r) })
}

// tryReplicas fills p from the replicas of a chunk, one after another. It
// returns how much is filled and verified.
func (v *fileView) tryReplicas(ctx context.Context, l ChunkLocation, offset int64, p []byte) (got int, err error) {
	c := v.client
	var failures []*fault.Error
	replicas := c.nodes.order(l.Replicas)
	minimum := l.Generation
	for pass := 0; pass < 2; pass++ {
		stale := false
		for i := range replicas {
			r := c.readEither(ctx, replicas[i:], l.ID, minimum, offset+int64(got), p[got:])
			at, n, visible, err := r.at, r.n, r.visible, r.err
			got += n
			if got == len(p) {
				c.nodes.worked(at.Address)
				return got, nil
			}
			if ctx.Err() != nil {
				return got, contextFault(ctx, "read", v.path, nil)
			}
			for err == nil && n > 0 && offset+int64(got) < visible { // answered in part: ask the same one for the rest
				if n, visible, err = c.readReplica(ctx, at, l.ID, minimum, offset+int64(got), p[got:]); n > 0 {
					got += n
				}
				if got == len(p) {
					return got, nil
				}
			}
			e := v.judge(err, at, l, offset+int64(got), visible)
			stale = stale || e.Kind == fault.StaleGeneration
			failures = append(failures, e)
		}
		// A chunk reopened for append has a new generation before its replicas
		// do. Its committed bytes are the same in both.
		if pass > 0 || !stale || !l.Open || offset+int64(len(p)) > l.Length {
			break
		}
		minimum, failures = 0, nil
	}
	return got, noReplica(l, failures)
}

// judge turns what a replica did into an error, remembers the node, and
// reports corruption.
func (v *fileView) judge(err error, at Replica, l ChunkLocation, offset, visible int64) *fault.Error {
	if err == nil {
		err = datanode(fault.New(fault.Unavailable, "read chunk", "the replica has only %d bytes, byte %d is wanted", visible, offset), "read chunk", at, l.ID.String())
	}
	e, ok := asFault(err)
	if !ok {
		e = datanode(err, "read chunk", at, l.ID.String())
	}
	switch e.Kind {
	case fault.CorruptData:
		v.client.reportBad(e, l.ID, l.Generation, v.path)
	case fault.StaleGeneration, fault.Closed:
	default:
		v.client.nodes.failed(at.Address)
		v.client.logger.Warn("replica not readable", "path", v.path, "chunk", l.ID.String(), "node", at.NodeID, "peer", at.Address, "err", e)
	}
	return e
}

// noReplica is the error after every replica failed: corrupt if one was, else
// unavailable; it names each node and its reason.
func noReplica(l ChunkLocation, failures []*fault.Error) error {
	e := &fault.Error{Kind: fault.Unavailable, Op: "read chunk", Chunk: l.ID.String()}
	if len(failures) == 0 {
		e.Reason = "the namenode knows no live replica"
		e.Hint = "start the datanodes that hold it"
		return e
	}
	var all []string
	for _, f := range failures {
		reason := f.Reason
		if reason == "" {
			reason = f.Kind.String()
		}
		all = append(all, "node "+f.Node+" ("+f.Address+"): "+reason)
		if f.Kind == fault.CorruptData && e.Kind != fault.CorruptData {
			e.Kind, e.Node, e.Address = fault.CorruptData, f.Node, f.Address
		}
	}
	e.Reason = "no replica gives good data: " + strings.Join(all, "; ")
	return e
}
