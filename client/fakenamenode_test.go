package client_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// fakeNamenode serves the real protocol from simple maps. It keeps the rules that a client can break: sequences,
// leases, commits, generations.
type fakeNamenode struct {
	controlpb.UnimplementedNamenodeServer
	address string
	server  *rpc.Server

	mu        sync.Mutex
	before    func(method string) error // injected refusals
	after     func(method string) error // the change is done, the answer is lost
	calls     map[string]int
	nodes     []*controlpb.Replica
	down      map[string]bool
	files     map[string]*fakeFile // by path, the visible ones
	ids       map[uint64]*fakeFile
	lastID    uint64
	answers   map[string]any // retry cache
	replayed  int
	bad       []*controlpb.ReportBadReplicaRequest
	leaseless map[uint64]bool // RenewLeases does not name these
	readOrder []string        // node ids first in Locate
	oldest    map[string]uint64
	abandoned int
	room      int64  // bytes free on every node, for a chunk that is replaced; 0: enough
	copiesMin uint32 // 0: a pipeline needs what the file wants at its start, and one node later
	// recover brings the replicas of a chunk to one length and seals them.
	recover func(id []byte, generation uint64) int64
}

type fakeFile struct {
	path      string
	info      *controlpb.FileInfo
	hidden    bool
	overwrite bool
	holder    string // client id
	chunks    []*fakeChunk
}

type fakeChunk struct {
	located  *controlpb.LocatedChunk
	promised uint64
	previous uint64 // append: generation before
	base     int64
	sealed   bool
}

func startNamenode(t *testing.T) *fakeNamenode {
	n := &fakeNamenode{calls: map[string]int{}, down: map[string]bool{}, files: map[string]*fakeFile{},
		ids: map[uint64]*fakeFile{}, answers: map[string]any{}, leaseless: map[uint64]bool{},
		oldest: map[string]uint64{}}
	n.files["/"] = &fakeFile{path: "/", info: &controlpb.FileInfo{Directory: true, FileId: 1, CreatedUnixMs: 1000,
		ModifiedUnixMs: 1000}}
	n.lastID = 1
	n.listen(t, "127.0.0.1:0")
	return n
}

func (n *fakeNamenode) listen(t *testing.T, address string) {
	listener, err := rpc.Listen(address)
	require.NoError(t, err)
	n.address = listener.Addr().String()
	n.server = rpc.NewServer(rpc.ServerOptions{})
	controlpb.RegisterNamenodeServer(n.server, n)
	served := make(chan struct{})
	go func() { defer close(served); _ = n.server.Serve(listener) }()
	server := n.server
	t.Cleanup(func() { server.Stop(); <-served })
}

func (n *fakeNamenode) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *fakeNamenode) count(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[method]
}

// begin counts a call and applies an injected refusal. Called with mu held.
func (n *fakeNamenode) begin(method string) error {
	n.calls[method]++
	if n.before != nil {
		return n.before(method)
	}
	return nil
}

func query[A any](n *fakeNamenode, method string, f func() (A, error)) (A, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var none A
	if err := n.begin(method); err != nil {
		return none, err
	}
	return f()
}

// mutation runs f once per client and sequence.
func mutation[A any](n *fakeNamenode, method string, h *controlpb.MutationHeader, f func() (A, error)) (A, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var none A
	if err := n.begin(method); err != nil {
		return none, err
	}
	client := string(h.GetClientId())
	if len(client) != 16 || h.GetSequence() == 0 || h.GetOldestPending() > h.GetSequence() {
		return none, fault.New(fault.Internal, method, "bad header %v", h)
	}
	if h.GetSequence() < n.oldest[client] {
		return none, fault.New(fault.Internal, method, "sequence %d after the client said %d is the oldest",
			h.GetSequence(), n.oldest[client])
	}
	n.oldest[client] = max(n.oldest[client], h.GetOldestPending())
	key := fmt.Sprintf("%x/%d", client, h.GetSequence())
	if first, ok := n.answers[key]; ok {
		n.replayed++
		return first.(A), nil
	}
	answer, err := f()
	if err != nil {
		return none, err
	}
	n.answers[key] = answer
	if n.after != nil {
		if err := n.after(method); err != nil {
			return none, err
		}
	}
	return answer, nil
}

func (n *fakeNamenode) parentOf(op, p string, create bool) error {
	parent := path.Dir(p)
	f := n.files[parent]
	switch {
	case f == nil && create:
		if err := n.parentOf(op, parent, true); err != nil {
			return err
		}
		n.mkdir(parent)
	case f == nil:
		return &fault.Error{Kind: fault.NotFound, Op: op, Path: p,
			Reason: "the directory " + parent + " does not exist"}
	case !f.info.Directory:
		return &fault.Error{Kind: fault.NotDirectory, Op: op, Path: p}
	}
	return nil
}

func (n *fakeNamenode) mkdir(p string) *fakeFile {
	n.lastID++
	f := &fakeFile{path: p, info: &controlpb.FileInfo{Name: path.Base(p), FileId: n.lastID, Directory: true,
		CreatedUnixMs: 5000, ModifiedUnixMs: 5000}}
	n.files[p] = f
	return f
}

func (n *fakeNamenode) Mkdir(_ context.Context, q *controlpb.MkdirRequest) (*controlpb.MkdirResponse, error) {
	return mutation(n, "Mkdir", q.Header, func() (*controlpb.MkdirResponse, error) {
		if f := n.files[q.Path]; f != nil {
			if q.Parents && f.info.Directory {
				return &controlpb.MkdirResponse{Info: f.info}, nil
			}
			return nil, &fault.Error{Kind: fault.Exists, Op: "mkdir", Path: q.Path}
		}
		if err := n.parentOf("mkdir", q.Path, q.Parents); err != nil {
			return nil, err
		}
		return &controlpb.MkdirResponse{Info: n.mkdir(q.Path).info}, nil
	})
}

// place puts a chunk on none of exclude, and on those to avoid if there are not enough others.
func (n *fakeNamenode) place(op string, f *fakeFile, index int, exclude, avoid []string) (*fakeChunk, error) {
	var live []string
	var nodes, avoided []*controlpb.Replica
	for _, node := range n.nodes {
		switch {
		case n.down[node.NodeId]:
			continue
		case slices.Contains(exclude, node.NodeId):
		case slices.Contains(avoid, node.NodeId):
			avoided = append(avoided, node)
		default:
			nodes = append(nodes, node)
		}
		live = append(live, node.NodeId)
	}
	want := int(f.info.Replication)
	nodes = append(nodes, avoided[:min(len(avoided), max(want-len(nodes), 0))]...)
	if n.copiesMin > 0 {
		want = min(want, max(len(nodes), int(n.copiesMin)))
	}
	if len(nodes) < want {
		return nil, fault.New(fault.TooFewNodes, op, "replication %d, but %d datanodes are live: %s", want, len(live),
			strings.Join(live, ", "))
	}
	var random [10]byte
	_, _ = rand.Read(random[:])
	id := chunk.NewID(uint64(time.Now().UnixMilli()), random)
	shift := index % len(nodes)
	nodes = append(slices.Clone(nodes[shift:]), nodes[:shift]...)
	return &fakeChunk{promised: 1, located: &controlpb.LocatedChunk{ChunkId: id[:], Generation: 1, Index: uint32(index),
		Offset: int64(index) * f.info.ChunkSize, Open: true, Replicas: nodes[:want]}}, nil
}

func (n *fakeNamenode) Create(_ context.Context, q *controlpb.CreateRequest) (*controlpb.CreateResponse, error) {
	return mutation(n, "Create", q.Header, func() (*controlpb.CreateResponse, error) {
		if f := n.files[q.Path]; f != nil && f.info.Directory {
			return nil, &fault.Error{Kind: fault.IsDirectory, Op: "create", Path: q.Path}
		} else if f != nil && !q.Overwrite {
			return nil, &fault.Error{Kind: fault.Exists, Op: "create", Path: q.Path}
		}
		if err := n.parentOf("create", q.Path, q.Parents); err != nil {
			return nil, err
		}
		n.lastID++
		f := &fakeFile{path: q.Path, hidden: q.VisibleOnComplete, overwrite: q.Overwrite,
			holder: string(q.Header.ClientId), info: &controlpb.FileInfo{Name: path.Base(q.Path), FileId: n.lastID,
				ChunkSize: q.ChunkSize, Replication: q.Replication, Open: true, CreatedUnixMs: 7000,
				ModifiedUnixMs: 7000}}
		if q.ChunkSize == 0 {
			f.info.ChunkSize = 128 << 10
		}
		if q.Replication == 0 {
			f.info.Replication = 3
		}
		a := &controlpb.CreateResponse{WriteCopiesMin: n.copiesMin}
		for i := range q.ChunkCount {
			c, err := n.place("create", f, int(i), nil, q.ExcludeNodes)
			if err != nil {
				return nil, err
			}
			f.chunks = append(f.chunks, c)
			a.Chunks = append(a.Chunks, clone(c.located))
		}
		n.ids[f.info.FileId] = f
		if !f.hidden {
			n.files[q.Path] = f
		}
		a.Info = n.infoOf(f)
		return a, nil
	})
}

func clone(l *controlpb.LocatedChunk) *controlpb.LocatedChunk {
	return &controlpb.LocatedChunk{ChunkId: l.ChunkId, Generation: l.Generation, Index: l.Index, Offset: l.Offset,
		Length: l.Length, Open: l.Open, Replicas: slices.Clone(l.Replicas)}
}

func (n *fakeNamenode) infoOf(f *fakeFile) *controlpb.FileInfo {
	info := &controlpb.FileInfo{Name: f.info.Name, FileId: f.info.FileId, Directory: f.info.Directory,
		ChunkSize: f.info.ChunkSize, Replication: f.info.Replication, CreatedUnixMs: f.info.CreatedUnixMs,
		ModifiedUnixMs: f.info.ModifiedUnixMs, Open: f.holder != ""}
	for _, c := range f.chunks {
		info.Length += c.located.Length
	}
	return info
}

func (n *fakeNamenode) held(op string, id uint64, h *controlpb.MutationHeader) (*fakeFile, error) {
	f := n.ids[id]
	if f == nil || f.holder != string(h.ClientId) {
		return nil, fault.New(fault.LeaseLost, op, "file %d has another holder or none", id)
	}
	return f, nil
}

func (n *fakeNamenode) commit(op string, f *fakeFile, commits []*controlpb.ChunkCommit) error {
	for _, commit := range commits {
		i := slices.IndexFunc(f.chunks,
			func(c *fakeChunk) bool { return string(c.located.ChunkId) == string(commit.ChunkId) })
		if i < 0 {
			return fault.New(fault.Invalid, op, "commit of a chunk that is not the file's")
		}
		c := f.chunks[i]
		unchanged := c.previous != 0 && commit.Generation == c.previous && commit.Length == c.base
		switch {
		case c.sealed && (commit.Generation != c.located.Generation || commit.Length != c.located.Length):
			return fault.New(fault.StaleGeneration, op, "sealed otherwise")
		case c.sealed:
			continue
		case commit.Generation != c.located.Generation && !unchanged:
			return fault.New(fault.StaleGeneration, op, "generation %d, the chunk is at %d", commit.Generation,
				c.located.Generation)
		case commit.Length > 0 && len(commit.NodeIds) < int(min(n.copiesMin, f.info.Replication)):
			id, _ := chunk.IDFrom(commit.ChunkId)
			return &fault.Error{Kind: fault.TooFewNodes, Op: op, Chunk: id.String(),
				Reason: fmt.Sprintf("%d copies are needed (namenode.write_copies_min)", n.copiesMin)}
		case commit.Length < c.base || commit.Length > f.info.ChunkSize,
			commit.Length > 0 && len(commit.NodeIds) == 0:
			return fault.New(fault.Invalid, op, "commit %v", commit)
		case op == "add chunks" && i < len(f.chunks)-1 && commit.Length != f.info.ChunkSize:
			return fault.New(fault.Invalid, op, "chunk %d is short: %d", i, commit.Length)
		}
		c.sealed = true
		c.located.Length, c.located.Open, c.located.Generation = commit.Length, false, commit.Generation
		var replicas []*controlpb.Replica
		for _, node := range n.nodes {
			if slices.Contains(commit.NodeIds, node.NodeId) {
				replicas = append(replicas, node)
			}
		}
		c.located.Replicas = replicas
	}
	return nil
}

func (n *fakeNamenode) AddChunks(_ context.Context,
	q *controlpb.AddChunksRequest) (*controlpb.AddChunksResponse, error) {
	return mutation(n, "AddChunks", q.Header, func() (*controlpb.AddChunksResponse, error) {
		f, err := n.held("add chunks", q.FileId, q.Header)
		if err != nil {
			return nil, err
		}
		if err := n.commit("add chunks", f, q.Commits); err != nil {
			return nil, err
		}
		a := &controlpb.AddChunksResponse{WriteCopiesMin: n.copiesMin}
		for i := range q.Count {
			index := int(q.FirstIndex + i)
			replace := len(q.ReplaceChunkId) > 0
			if !replace && index != len(f.chunks) || replace &&
				(index >= len(f.chunks) || string(f.chunks[index].located.ChunkId) != string(q.ReplaceChunkId) ||
					f.chunks[index].sealed || f.chunks[index].base > 0) {
				return nil, fault.New(fault.Invalid, "add chunks", "index %d of %d, replace %v", index, len(f.chunks),
					replace)
			}
			if room := min(cmp.Or(q.ChunkBytesMax, f.info.ChunkSize), f.info.ChunkSize); replace && n.room > 0 &&
				room > n.room {
				return nil, fault.New(fault.NoSpace, "add chunks", "no room for %d bytes", room)
			}
			never, rather := q.ExcludeNodes, q.AvoidNodes
			if !replace {
				never, rather = nil, q.ExcludeNodes
			}
			c, err := n.place("add chunks", f, index, never, rather)
			if err != nil {
				return nil, err
			}
			if replace {
				f.chunks[index] = c
			} else {
				f.chunks = append(f.chunks, c)
			}
			a.Chunks = append(a.Chunks, clone(c.located))
		}
		return a, nil
	})
}

func (n *fakeNamenode) Complete(_ context.Context, q *controlpb.CompleteRequest) (*controlpb.CompleteResponse, error) {
	return mutation(n, "Complete", q.Header, func() (*controlpb.CompleteResponse, error) {
		f, err := n.held("complete", q.FileId, q.Header)
		if err != nil {
			return nil, err
		}
		if err := n.commit("complete", f, q.Commits); err != nil {
			return nil, err
		}
		for len(f.chunks) > 0 && f.chunks[len(f.chunks)-1].sealed && f.chunks[len(f.chunks)-1].located.Length == 0 {
			f.chunks = f.chunks[:len(f.chunks)-1]
		}
		for i, c := range f.chunks {
			if !c.sealed || i < len(f.chunks)-1 && c.located.Length != f.info.ChunkSize {
				return nil, fault.New(fault.Invalid, "complete", "chunk %d of %d is not committed, or short: %v", i,
					len(f.chunks), c.located)
			}
		}
		if f.hidden {
			if n.files[f.path] != nil && !f.overwrite {
				return nil, &fault.Error{Kind: fault.Exists, Op: "complete", Path: f.path}
			}
			n.files[f.path] = f
			f.hidden = false
		}
		f.holder = ""
		return &controlpb.CompleteResponse{Info: n.infoOf(f)}, nil
	})
}

func (n *fakeNamenode) Abandon(_ context.Context, q *controlpb.AbandonRequest) (*controlpb.AbandonResponse, error) {
	return mutation(n, "Abandon", q.Header, func() (*controlpb.AbandonResponse, error) {
		f, err := n.held("abandon", q.FileId, q.Header)
		if err != nil {
			return nil, err
		}
		if !f.hidden {
			return nil, fault.New(fault.Invalid, "abandon", "the file is visible")
		}
		delete(n.ids, q.FileId)
		n.abandoned++
		return &controlpb.AbandonResponse{}, nil
	})
}

func (n *fakeNamenode) file(op, p string) (*fakeFile, error) {
	f := n.files[p]
	switch {
	case f == nil:
		return nil, &fault.Error{Kind: fault.NotFound, Op: op, Path: p}
	case f.info.Directory:
		return nil, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: p}
	}
	return f, nil
}

func (n *fakeNamenode) Append(_ context.Context, q *controlpb.AppendRequest) (*controlpb.AppendResponse, error) {
	return mutation(n, "Append", q.Header, func() (*controlpb.AppendResponse, error) {
		f, err := n.file("append", q.Path)
		if err != nil {
			return nil, err
		}
		if f.holder != "" {
			return nil, &fault.Error{Kind: fault.LeaseHeld, Op: "append", Path: q.Path, Holder: "another"}
		}
		f.holder = string(q.Header.ClientId)
		a := &controlpb.AppendResponse{Info: n.infoOf(f), WriteCopiesMin: n.copiesMin}
		if i := len(f.chunks) - 1; i >= 0 && f.chunks[i].located.Length < f.info.ChunkSize {
			c := f.chunks[i]
			c.previous, c.base, c.sealed = c.located.Generation, c.located.Length, false
			c.promised = max(c.promised, c.located.Generation) + 1
			c.located.Generation, c.located.Open = c.promised, true
			a.Last, a.PreviousGeneration = clone(c.located), c.previous
		}
		return a, nil
	})
}

func (n *fakeNamenode) chunkOf(op string, file uint64, id []byte, h *controlpb.MutationHeader) (*fakeChunk, error) {
	f, err := n.held(op, file, h)
	if err != nil {
		return nil, err
	}
	for _, c := range f.chunks {
		if string(c.located.ChunkId) == string(id) && !c.sealed {
			return c, nil
		}
	}
	return nil, fault.New(fault.Invalid, op, "no such open chunk")
}

func (n *fakeNamenode) RecoverPipeline(_ context.Context,
	q *controlpb.RecoverPipelineRequest) (*controlpb.RecoverPipelineResponse, error) {
	return mutation(n, "RecoverPipeline", q.Header, func() (*controlpb.RecoverPipelineResponse, error) {
		c, err := n.chunkOf("recover pipeline", q.FileId, q.ChunkId, q.Header)
		if err != nil {
			return nil, err
		}
		if q.Generation < c.located.Generation || q.Generation > c.promised {
			return nil, fault.New(fault.StaleGeneration, "recover pipeline", "generation %d is not in %d..%d",
				q.Generation, c.located.Generation, c.promised)
		}
		a := &controlpb.RecoverPipelineResponse{WriteCopiesMin: n.copiesMin}
		for _, r := range c.located.Replicas {
			if !slices.Contains(q.FailedNodes, r.NodeId) {
				a.Survivors = append(a.Survivors, r)
			}
		}
		for _, node := range n.nodes {
			holds := slices.ContainsFunc(c.located.Replicas,
				func(r *controlpb.Replica) bool { return r.NodeId == node.NodeId })
			if !holds && !n.down[node.NodeId] && !slices.Contains(q.FailedNodes, node.NodeId) &&
				len(a.Survivors)+len(a.Replacements) < int(n.ids[q.FileId].info.Replication) {
				a.Replacements = append(a.Replacements, node)
			}
		}
		if len(a.Survivors) == 0 {
			return nil, fault.New(fault.Unavailable, "recover pipeline", "no member of the pipeline is left")
		}
		if q.Grow && len(a.Replacements) == 0 {
			return nil, fault.New(fault.TooFewNodes, "recover pipeline", "no other node")
		}
		c.promised++
		a.Generation = c.promised
		return a, nil
	})
}

func (n *fakeNamenode) UpdatePipeline(_ context.Context,
	q *controlpb.UpdatePipelineRequest) (*controlpb.UpdatePipelineResponse, error) {
	return mutation(n, "UpdatePipeline", q.Header, func() (*controlpb.UpdatePipelineResponse, error) {
		c, err := n.chunkOf("update pipeline", q.FileId, q.ChunkId, q.Header)
		if err != nil {
			return nil, err
		}
		if len(q.NodeIds) < int(min(n.copiesMin, n.ids[q.FileId].info.Replication)) {
			return nil, fault.New(fault.TooFewNodes, "update pipeline", "%d copies are needed", n.copiesMin)
		}
		if q.Generation != c.promised || q.Length < c.located.Length || len(q.NodeIds) == 0 {
			return nil, fault.New(fault.StaleGeneration, "update pipeline", "generation %d of %d, length %d of %d",
				q.Generation, c.promised, q.Length, c.located.Length)
		}
		c.located.Generation, c.located.Length, c.previous, c.base = q.Generation, q.Length, 0, q.Length
		c.located.Replicas = slices.DeleteFunc(slices.Clone(n.nodes),
			func(r *controlpb.Replica) bool { return !slices.Contains(q.NodeIds, r.NodeId) })
		return &controlpb.UpdatePipelineResponse{}, nil
	})
}

func (n *fakeNamenode) Rename(_ context.Context, q *controlpb.RenameRequest) (*controlpb.RenameResponse, error) {
	return mutation(n, "Rename", q.Header, func() (*controlpb.RenameResponse, error) {
		f := n.files[q.Source]
		if f == nil {
			return nil, &fault.Error{Kind: fault.NotFound, Op: "rename", Path: q.Source}
		}
		if n.files[q.Target] != nil && !q.Overwrite {
			return nil, &fault.Error{Kind: fault.Exists, Op: "rename", Path: q.Target}
		}
		for p, child := range n.files {
			if rest, ok := strings.CutPrefix(p, q.Source+"/"); ok {
				delete(n.files, p)
				n.files[q.Target+"/"+rest] = child
			}
		}
		delete(n.files, q.Source)
		f.path, f.info.Name = q.Target, path.Base(q.Target)
		n.files[q.Target] = f
		return &controlpb.RenameResponse{}, nil
	})
}

func (n *fakeNamenode) Remove(_ context.Context, q *controlpb.RemoveRequest) (*controlpb.RemoveResponse, error) {
	return mutation(n, "Remove", q.Header, func() (*controlpb.RemoveResponse, error) {
		if n.files[q.Path] == nil {
			return nil, &fault.Error{Kind: fault.NotFound, Op: "remove", Path: q.Path}
		}
		a := &controlpb.RemoveResponse{}
		for p, f := range n.files {
			if p != q.Path && !strings.HasPrefix(p, q.Path+"/") {
				continue
			}
			if p != q.Path && !q.Recursive {
				return nil, &fault.Error{Kind: fault.NotEmpty, Op: "remove", Path: q.Path}
			}
			a.Bytes += n.infoOf(f).Length
			if f.info.Directory {
				a.Directories++
			} else {
				a.Files++
				delete(n.ids, f.info.FileId)
			}
		}
		for p := range n.files {
			if p == q.Path || strings.HasPrefix(p, q.Path+"/") {
				delete(n.files, p)
			}
		}
		return a, nil
	})
}

func (n *fakeNamenode) RecoverLease(_ context.Context,
	q *controlpb.RecoverLeaseRequest) (*controlpb.RecoverLeaseResponse, error) {
	return mutation(n, "RecoverLease", q.Header, func() (*controlpb.RecoverLeaseResponse, error) {
		f, err := n.file("recover lease", q.Path)
		if err != nil {
			return nil, err
		}
		f.holder = ""
		kept := f.chunks[:0]
		for _, c := range f.chunks {
			if !c.sealed && n.recover != nil {
				c.promised++
				c.located.Generation, c.located.Open, c.sealed = c.promised, false, true
				c.located.Length = n.recover(c.located.ChunkId, c.promised)
			}
			if c.located.Length > 0 {
				kept = append(kept, c)
			}
		}
		f.chunks = kept
		return &controlpb.RecoverLeaseResponse{Closed: true}, nil
	})
}

func (n *fakeNamenode) List(_ context.Context, q *controlpb.ListRequest) (*controlpb.ListResponse, error) {
	return query(n, "List", func() (*controlpb.ListResponse, error) {
		f := n.files[q.Path]
		switch {
		case f == nil:
			return nil, &fault.Error{Kind: fault.NotFound, Op: "list", Path: q.Path}
		case !f.info.Directory:
			return nil, &fault.Error{Kind: fault.NotDirectory, Op: "list", Path: q.Path}
		}
		var names []string
		for p := range n.files {
			if p != "/" && path.Dir(p) == q.Path && path.Base(p) > q.After {
				names = append(names, path.Base(p))
			}
		}
		sort.Strings(names)
		a := &controlpb.ListResponse{}
		if limit := min(int(q.Limit), 7); len(names) > limit { // small pages: the client has to ask on
			names, a.More = names[:limit], true
		}
		for _, name := range names {
			a.Entries = append(a.Entries, n.infoOf(n.files[path.Join(q.Path, name)]))
		}
		return a, nil
	})
}

func (n *fakeNamenode) Stat(_ context.Context, q *controlpb.StatRequest) (*controlpb.StatResponse, error) {
	return query(n, "Stat", func() (*controlpb.StatResponse, error) {
		f := n.files[q.Path]
		if f == nil {
			return nil, &fault.Error{Kind: fault.NotFound, Op: "stat", Path: q.Path}
		}
		return &controlpb.StatResponse{Info: n.infoOf(f)}, nil
	})
}

func (n *fakeNamenode) Locate(_ context.Context, q *controlpb.LocateRequest) (*controlpb.LocateResponse, error) {
	return query(n, "Locate", func() (*controlpb.LocateResponse, error) {
		f := n.files[q.Path]
		if q.FileId != 0 {
			f = n.ids[q.FileId]
		}
		if f == nil {
			return nil, &fault.Error{Kind: fault.NotFound, Op: "locate", Path: q.Path}
		}
		a := &controlpb.LocateResponse{Info: n.infoOf(f)}
		for _, c := range f.chunks {
			if len(a.Chunks) == 3 { // short pages: the client has to ask on
				break
			}
			if c.located.Offset+f.info.ChunkSize > q.Offset && (q.Length <= 0 || c.located.Offset < q.Offset+q.Length) {
				l := clone(c.located)
				l.Replicas = slices.DeleteFunc(l.Replicas, func(r *controlpb.Replica) bool { return n.down[r.NodeId] })
				slices.SortStableFunc(l.Replicas, func(x, y *controlpb.Replica) int {
					return n.rank(x.NodeId) - n.rank(y.NodeId)
				})
				a.Chunks = append(a.Chunks, l)
			}
		}
		return a, nil
	})
}

func (n *fakeNamenode) rank(node string) int {
	if i := slices.Index(n.readOrder, node); i >= 0 {
		return i
	}
	return len(n.readOrder)
}

func (n *fakeNamenode) RenewLeases(_ context.Context,
	q *controlpb.RenewLeasesRequest) (*controlpb.RenewLeasesResponse, error) {
	return query(n, "RenewLeases", func() (*controlpb.RenewLeasesResponse, error) {
		a := &controlpb.RenewLeasesResponse{}
		for id, f := range n.ids {
			if f.holder == string(q.ClientId) && !n.leaseless[id] {
				a.FileIds = append(a.FileIds, id)
				a.Growable = append(a.Growable, n.growable(f)...)
			}
		}
		return a, nil
	})
}

// growable lists the open chunks of a file that other nodes could join.
func (n *fakeNamenode) growable(f *fakeFile) (growable []*controlpb.GrowableChunk) {
	for _, c := range f.chunks {
		spare := slices.ContainsFunc(n.nodes, func(node *controlpb.Replica) bool {
			return !n.down[node.NodeId] && !slices.ContainsFunc(c.located.Replicas,
				func(r *controlpb.Replica) bool { return r.NodeId == node.NodeId })
		})
		if !c.sealed && spare && len(c.located.Replicas) < int(f.info.Replication) {
			growable = append(growable, &controlpb.GrowableChunk{FileId: f.info.FileId, ChunkId: c.located.ChunkId})
		}
	}
	return growable
}

func (n *fakeNamenode) ReportBadReplica(_ context.Context,
	q *controlpb.ReportBadReplicaRequest) (*controlpb.ReportBadReplicaResponse, error) {
	return query(n, "ReportBadReplica", func() (*controlpb.ReportBadReplicaResponse, error) {
		n.bad = append(n.bad, q)
		return &controlpb.ReportBadReplicaResponse{}, nil
	})
}

func (n *fakeNamenode) Summary(_ context.Context, q *controlpb.SummaryRequest) (*controlpb.SummaryResponse, error) {
	return query(n, "Summary", func() (*controlpb.SummaryResponse, error) {
		return &controlpb.SummaryResponse{Files: 1, Directories: 2, Bytes: 3, StoredBytes: 9, Chunks: 4}, nil
	})
}

func (n *fakeNamenode) ClusterStatus(context.Context,
	*controlpb.ClusterStatusRequest) (*controlpb.ClusterStatusResponse, error) {
	return query(n, "ClusterStatus", func() (*controlpb.ClusterStatusResponse, error) {
		a := &controlpb.ClusterStatusResponse{ClusterId: "c", Epoch: 7}
		for _, node := range n.nodes {
			a.Nodes = append(a.Nodes, &controlpb.NodeStatus{NodeId: node.NodeId, Address: node.Address,
				Live: !n.down[node.NodeId], LastHeartbeatAgeMs: 250})
		}
		return a, nil
	})
}

func (n *fakeNamenode) SafeMode(_ context.Context, q *controlpb.SafeModeRequest) (*controlpb.SafeModeResponse, error) {
	return query(n, "SafeMode", func() (*controlpb.SafeModeResponse, error) {
		return &controlpb.SafeModeResponse{On: q.Action == controlpb.SafeModeAction_SAFE_MODE_ACTION_ENTER,
			Reason: q.Action.String()}, nil
	})
}
