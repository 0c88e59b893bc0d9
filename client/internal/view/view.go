package view

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// ErrShrunk says that a file got shorter while it was read.
var ErrShrunk = errors.New("the file was cut")

// View is what a reader knows of a file: its length and where its chunks are. It belongs to one file id, so a file put
// in its place is never mixed in. Safe for concurrent use.
type View struct {
	views *Views
	path  string
	mu    struct {
		sync.Mutex
		info   *controlpb.FileInfo
		length int64                  // visible bytes known; for a closed file all
		chunks map[int]namenode.Chunk // by index; at most locationsMax
	}
}

// Open finds a file and the locations of its first chunks.
func (v *Views) Open(ctx context.Context, what namenode.Call) (*View, error) {
	info, chunks, err := v.Namenode.Locate(ctx, what,
		&controlpb.LocateRequest{Path: what.Path, Offset: 0, Length: locateFirstBytes})
	if err != nil {
		return nil, err
	}
	if info.GetDirectory() {
		return nil, &fault.Error{Kind: fault.IsDirectory, Op: what.Op, Path: what.Path}
	}
	if size := info.GetChunkSize(); size <= 0 || size%chunk.ChecksumBlockBytes != 0 || info.GetLength() < 0 {
		return nil, fault.New(fault.Protocol, what.Op,
			"the namenode answers with chunks of %d bytes, and %d bytes in all", size, info.GetLength())
	}
	opened := &View{views: v, path: what.Path}
	opened.mu.chunks = make(map[int]namenode.Chunk)
	opened.keep(info, chunks)
	return opened, nil
}

// Path is the file's path.
func (v *View) Path() string { return v.path }

// Info is the namenode's last answer about the file; it is never changed.
func (v *View) Info() *controlpb.FileInfo {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.info
}

// Length is the file's visible length as far as it is known.
func (v *View) Length() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.length
}

// Extend finds the visible length of a file that is being written: committed bytes plus what a replica of each open
// chunk shows. Of a file that was closed when last looked at, it asks again only if force is set.
func (v *View) Extend(ctx context.Context, force bool) (int64, error) {
	info := v.Info()
	if !info.GetOpen() && !force {
		return v.Length(), nil
	}
	// Every chunk before the one that holds the committed end is full.
	for index := int(info.GetLength() / info.GetChunkSize()); ; index++ {
		if err := v.refresh(ctx, index, 2); err != nil {
			return 0, err
		}
		info = v.Info()
		last, ok := v.known(index)
		if !ok || !info.GetOpen() {
			return v.Length(), nil
		}
		visible := last.Length
		if last.Open {
			var err error
			if visible, err = v.replicasOf(last).visible(ctx); err != nil {
				return 0, fault.WithPath(err, v.path)
			}
		}
		v.mu.Lock()
		v.mu.length = max(v.mu.length, last.Offset+visible)
		v.mu.Unlock()
		if visible < info.GetChunkSize() {
			return v.Length(), nil
		}
	}
}

// Read fills p from one chunk. offset+len(p) is at most the chunk's visible length. Each replica is tried, then the
// locations are asked for again and the retry policy decides. Error: ErrShrunk if the file does not show these bytes
// any more.
func (v *View) Read(ctx context.Context, index int, offset int64, buffer []byte) error {
	began := v.views.Clock.Now()
	got := 0
	for number := 1; ; number++ {
		located, err := v.locate(ctx, index)
		if err == nil {
			var n int
			n, err = v.replicasOf(located).read(ctx, offset+int64(got), buffer[got:])
			got += n
			if err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return lifetime.Ended(ctx, "read", v.path, err)
		}
		class := fault.ClassOf(err)
		if class == fault.Permanent || number > refreshesMax && class == fault.Corruption {
			return fault.WithPath(err, v.path)
		}
		wait, retry := v.views.Retry(number, v.views.Clock.Now().Sub(began), err)
		if !retry {
			return fault.WithPath(err, v.path)
		}
		if clock.Sleep(ctx, v.views.Clock, wait) != nil {
			return lifetime.Ended(ctx, "read", v.path, err)
		}
		before, _ := v.known(index)
		if err := v.refresh(ctx, index, 1); err != nil {
			return fault.WithPath(err, v.path)
		}
		if err := v.shrink(ctx, index, offset+int64(len(buffer))); err != nil {
			return err
		}
		if class == fault.Corruption && v.sameReplicas(before) {
			return fault.WithPath(err, v.path) // nowhere else to look
		}
	}
}

// Digest is the datanodes' digest of a sealed chunk of this length.
func (v *View) Digest(ctx context.Context, index int, length int64) (uint64, error) {
	located, err := v.locate(ctx, index)
	if err != nil {
		return 0, err
	}
	return v.replicasOf(located).digest(ctx, length)
}

func (v *View) replicasOf(c namenode.Chunk) replicas {
	return replicas{Views: v.views, path: v.path, chunk: c}
}

// keep remembers an answer of Locate.
func (v *View) keep(info *controlpb.FileInfo, chunks []namenode.Chunk) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.info = info
	v.mu.length = max(v.mu.length, info.GetLength())
	if len(v.mu.chunks)+len(chunks) > locationsMax {
		clear(v.mu.chunks)
	}
	for _, c := range chunks {
		v.mu.chunks[c.Index] = c
	}
}

func (v *View) known(index int) (namenode.Chunk, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, ok := v.mu.chunks[index]
	return found, ok
}

// locate returns where a chunk is, asking the namenode if it is not known.
func (v *View) locate(ctx context.Context, index int) (namenode.Chunk, error) {
	for asked := false; ; asked = true {
		if found, ok := v.known(index); ok {
			return found, nil
		}
		if asked {
			return namenode.Chunk{}, &fault.Error{Kind: fault.NotFound, Op: "read", Path: v.path,
				Reason: "the file has no such chunk any more: it was cut or replaced"}
		}
		if err := v.refresh(ctx, index, locateChunks); err != nil {
			return namenode.Chunk{}, err
		}
	}
}

// refresh asks anew for the chunks from an index on.
func (v *View) refresh(ctx context.Context, index, count int) error {
	info := v.Info()
	size := info.GetChunkSize()
	info, chunks, err := v.views.Namenode.Locate(ctx, namenode.Call{Op: "locate", Path: v.path},
		&controlpb.LocateRequest{FileId: info.GetFileId(), Offset: int64(index) * size, Length: int64(count) * size})
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

// shrink learns whether the file still shows the bytes of a chunk up to end, an offset in it. Bytes that were never
// acknowledged may have been visible, and recovery of the writer's lease cuts them off: then the known length becomes
// what is left, and the error is ErrShrunk.
func (v *View) shrink(ctx context.Context, index int, end int64) error {
	info := v.Info()
	left := info.GetLength()
	if c, ok := v.known(index); info.GetOpen() && ok && c.Open {
		n, err := v.replicasOf(c).visible(ctx)
		if err != nil {
			return nil // the caller goes on trying to read
		}
		left = c.Offset + n
	}
	if int64(index)*info.GetChunkSize()+end <= left {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.length = left
	return ErrShrunk
}

// sameReplicas reports whether no replica of the chunk is known now that before does not name.
func (v *View) sameReplicas(before namenode.Chunk) bool {
	now, _ := v.known(before.Index)
	if before.ID != now.ID || before.Generation != now.Generation {
		return false
	}
	return !slices.ContainsFunc(now.Replicas, func(r wire.Hop) bool { return !slices.Contains(before.Replicas, r) })
}
