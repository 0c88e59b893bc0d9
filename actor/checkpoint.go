package actor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Snapshot is the durable state at one moment. Another goroutine may encode it
// while the State runs on; it costs memory only for what changes meanwhile.
type Snapshot struct {
	head     codec.CheckpointHead
	nodes    []codec.CheckpointNode
	view     *namespace.View
	open     map[uint64]*leases.Lease
	openSlot map[uint64]namespace.InodeSlot // hidden files
	answers  []leases.RetryClient
}

// Snapshot freezes the durable state. It costs a copy of the tables of open
// files and of the retry cache, and a pointer per 256 inodes and chunks.
func (s *State) Snapshot() *Snapshot {
	p := &Snapshot{
		head: codec.CheckpointHead{Version: codec.Version, ClusterID: s.clusterID, Created: s.created, Epoch: s.epoch,
			Txid: s.step.Txid, Time: s.time, NextInode: s.tree.NextID()},
		view: s.files.View(), open: s.leases.Snapshot(), openSlot: make(map[uint64]namespace.InodeSlot),
	}
	for id, address := range s.replicas.Nodes.All {
		p.nodes = append(p.nodes, codec.CheckpointNode{ID: id, Address: address})
	}
	for id := range p.open {
		if slot := s.tree.Find(id); s.tree.Inode(slot).Hidden() {
			p.openSlot[id] = slot
		}
	}
	p.answers = s.answers.Snapshot()
	return p
}

// Txid is the last txid that the snapshot holds.
func (p *Snapshot) Txid() uint64 { return p.head.Txid }

// Encode writes the checkpoint. Any goroutine may call it, once at a time.
func (p *Snapshot) Encode(w io.Writer) error {
	c := codec.NewCheckpointWriter(w)
	c.Frame(codec.KindCheckpointHead, &p.head)
	for from := 0; from < len(p.nodes); from += codec.CheckpointPageItems {
		page := p.nodes[from:min(from+codec.CheckpointPageItems, len(p.nodes))]
		c.Frame(codec.KindCheckpointNodes, &codec.CheckpointNodes{Version: codec.Version, Nodes: page})
	}
	inodes, chunks := p.encodeInodes(c)
	p.encodeRetry(c)
	return c.End(inodes, chunks)
}

func (p *Snapshot) encodeInodes(c *codec.CheckpointWriter) (inodes, chunks uint64) {
	page := codec.CheckpointFiles{Version: codec.Version}
	bytesInPage := 0
	var room []codec.CheckpointChunk // of the chunks in page
	flush := func() {
		if len(page.Inodes) > 0 {
			c.Frame(codec.KindCheckpointFiles, &page)
			page.Inodes, bytesInPage, room = page.Inodes[:0], 0, room[:0]
		}
	}
	put := func(slot namespace.InodeSlot, name string) {
		var i codec.CheckpointInode
		var more []codec.CheckpointChunk
		i, more, room = p.inode(slot, name, room)
		inodes++
		chunks += uint64(len(i.Chunks) + len(more))
		page.Inodes = append(page.Inodes, i)
		// At most about 300 bytes per chunk, 256 KiB for a hidden file's path.
		bytesInPage += 64 + len(name) + 320*len(i.Chunks)
		for _, l := range i.Lease {
			bytesInPage += len(l.Path) + 600
		}
		if len(page.Inodes) == codec.CheckpointPageItems || bytesInPage > codec.CheckpointPageBytes || len(more) > 0 {
			flush()
		}
		for from := 0; from < len(more); from += codec.CheckpointPageItems {
			c.Frame(codec.KindCheckpointMore, &codec.CheckpointMore{Version: codec.Version, Chunks: more[from:min(from+codec.CheckpointPageItems, len(more))]})
		}
	}
	if p.view.Root() == 0 {
		return 0, 0
	}
	put(p.view.Root(), "")
	p.view.Entries(func(name string, slot namespace.InodeSlot) bool {
		put(slot, name)
		return c.Err() == nil
	})
	hidden := make([]uint64, 0, len(p.openSlot))
	for id := range p.openSlot {
		hidden = append(hidden, id)
	}
	slices.Sort(hidden)
	for _, id := range hidden {
		put(p.openSlot[id], "")
	}
	flush()
	return inodes, chunks
}

// inode describes one; its first chunks stand behind room, which is returned.
func (p *Snapshot) inode(slot namespace.InodeSlot, name string, room []codec.CheckpointChunk) (i codec.CheckpointInode, more, rest []codec.CheckpointChunk) {
	n := p.view.Inode(slot)
	a := n.Attributes()
	i = codec.CheckpointInode{ID: a.ID, Parent: a.Parent, Name: name, Flags: a.Flags, Created: a.Created, Modified: a.Modified,
		Blocks: a.Blocks, Replication: a.Replication}
	if n.Directory() {
		return i, nil, room
	}
	from := len(room)
	for k := n.First(); k != 0; {
		r := p.view.Chunk(k)
		c := codec.CheckpointChunk{ID: r.ID(), Generation: uint64(r.Generation()), Promised: uint64(r.Promised()), Length: uint32(r.Length()), Open: r.Open()}
		if w := p.view.OpenChunk(k); w != nil {
			c.Minimum, c.Strict, c.Base, c.Cut, c.Members = uint64(w.Minimum), w.Strict, w.Base, w.Cut, w.Members
		}
		if len(room)-from < codec.CheckpointPageItems {
			room = append(room, c)
		} else {
			more = append(more, c)
		}
		k = r.Next()
	}
	if len(room) > from {
		i.Chunks = room[from:len(room):len(room)]
	}
	if o := p.open[a.ID]; o != nil {
		l := codec.CheckpointLease{Holder: o.Holder, Since: o.Since, Path: o.Path, Overwrite: o.Overwrite, Leaf: o.Leaf}
		if !o.Recovering() {
			l.Client = o.Client[:]
		}
		i.Lease = []codec.CheckpointLease{l}
	}
	return i, more, room
}

// encodeRetry writes the retry cache, the client idle for longest first.
func (p *Snapshot) encodeRetry(c *codec.CheckpointWriter) {
	for n := range p.answers {
		client := &p.answers[n]
		page := codec.CheckpointRetry{Version: codec.Version, Client: client.ID, Last: client.Last, Floor: client.Floor}
		size := 0
		for i, e := range client.Answers {
			result := c.Answer(e.Result)
			page.Answers = append(page.Answers, codec.CheckpointAnswer{Sequence: e.Sequence, Kind: answerKind(e.Result), Result: result})
			size += len(result) + 32
			if size > codec.CheckpointPageBytes && i+1 < len(client.Answers) {
				c.Frame(codec.KindCheckpointRetry, &page)
				page.Answers, size = page.Answers[:0], 0
			}
		}
		c.Frame(codec.KindCheckpointRetry, &page)
	}
}

// Checkpoint encodes all durable state; equal states give equal bytes.
func (s *State) Checkpoint() []byte {
	var b bytes.Buffer
	if err := s.Snapshot().Encode(&b); err != nil {
		panic("encode a checkpoint to memory: " + err.Error())
	}
	return b.Bytes()
}

// LoadCheckpoint restores the state that data encodes into an empty State.
func (s *State) LoadCheckpoint(data []byte) error {
	return s.ReadCheckpoint(bytes.NewReader(data), int64(len(data)))
}

// ReadCheckpoint restores the state that r gives, to its end, into an empty
// State. bytes is about how many they are, so that tables need not grow; 0: not
// known. After an error the State must be dropped.
func (s *State) ReadCheckpoint(r io.Reader, bytes int64) error {
	if s.step.Txid != 0 {
		return fault.New(fault.Exists, "load checkpoint", "the state is at txid %d already", s.step.Txid)
	}
	l := &checkpointLoader{s: s, reader: codec.NewCheckpointReader(r), sizeBytes: bytes}
	if err := l.load(); err != nil {
		return &fault.Error{Kind: fault.KindOf(err), Op: "load checkpoint", Reason: fmt.Sprintf("frame %d", l.reader.Frames()), Err: err}
	}
	return nil
}

type checkpointLoader struct {
	s         *State
	reader    *codec.CheckpointReader
	inodes    uint64
	chunks    uint64
	sizeBytes int64
	last      namespace.InodeSlot // inode whose chunks may go on
	// directories are their inodes' slots.
	directories []namespace.InodeSlot
	// keys holds the keys of some entries of a page.
	keys []byte
}

func (l *checkpointLoader) load() error {
	for {
		kind, err := l.reader.Next()
		if err != nil {
			return err
		}
		switch kind {
		case codec.KindCheckpointHead:
			err = l.head()
		case codec.KindCheckpointNodes:
			err = l.nodes()
		case codec.KindCheckpointFiles:
			err = l.files()
		case codec.KindCheckpointMore:
			err = l.more()
		case codec.KindCheckpointRetry:
			err = l.retry()
		case codec.KindCheckpointEnd:
			return l.end()
		default:
			err = fault.New(fault.Version, "read", "frame kind %d is not known", kind)
		}
		if err != nil {
			return err
		}
	}
}

func (l *checkpointLoader) head() error {
	var h codec.CheckpointHead
	if err := l.reader.Decode(&h); err != nil {
		return err
	}
	if h.Txid == 0 || h.ClusterID == "" || len(h.ClusterID) > limits.TextBytesMax || h.NextInode <= namespace.RootID {
		return codec.CorruptCheckpoint("head: cluster %q, txid %d, next inode %d", limits.Clip(h.ClusterID, 64), h.Txid, h.NextInode)
	}
	l.s.clusterID, l.s.created, l.s.epoch, l.s.step.Txid = h.ClusterID, h.Created, h.Epoch, h.Txid
	l.s.time = h.Time
	l.s.files.StartLoad(h.NextInode, min(l.sizeBytes/checkpointBytesPerChunk, checkpointChunksInit))
	return nil
}

func (l *checkpointLoader) nodes() error {
	var page codec.CheckpointNodes
	if err := l.reader.Decode(&page); err != nil {
		return err
	}
	for _, n := range page.Nodes {
		known := &l.s.replicas.Nodes
		if known.Next() > replicas.NodesMax || n.ID == "" || len(n.ID) > limits.TextBytesMax || known.Find(n.ID) != 0 {
			return codec.CorruptCheckpoint("node %q", limits.Clip(n.ID, 64))
		}
		known.Put(known.Next(), n.ID, n.Address)
	}
	return nil
}

func (l *checkpointLoader) files() error {
	page, err := l.reader.Files()
	if err != nil {
		return err
	}
	for group := range slices.Chunk(page.Inodes, checkpointKeysShared) {
		l.keys = l.keys[:0]
		for n := range group {
			l.keys = binary.BigEndian.AppendUint64(l.keys, group[n].Parent)
			l.keys = append(l.keys, group[n].Name...)
		}
		keys := string(l.keys)
		for n := range group {
			size := 8 + len(group[n].Name)
			if err := l.inode(&group[n], keys[:size]); err != nil {
				return err
			}
			keys = keys[size:]
		}
	}
	return nil
}

// inode adds one, and its entry under key if it has a name.
func (l *checkpointLoader) inode(i *codec.CheckpointInode, key string) error {
	s := l.s
	directory, hidden := i.Flags&namespace.FlagDirectory != 0, i.Flags&namespace.FlagHidden != 0
	fail := func(what string) error { return codec.CorruptCheckpoint("inode %d: %s", i.ID, what) }
	switch {
	case i.ID == 0 || i.ID >= s.tree.NextID() || s.tree.Find(i.ID) != 0:
		return fail("bad id")
	case (i.ID == namespace.RootID) != (l.inodes == 0) || i.ID == namespace.RootID && (!directory || hidden):
		return fail("the root is not first")
	case (i.ID == namespace.RootID || hidden) != (i.Name == "") || i.Name != "" && limits.CheckName(i.Name) != "":
		return fail("bad name")
	case (i.ID == namespace.RootID || hidden) != (i.Parent == 0):
		return fail("bad parent")
	case directory && (hidden || len(i.Chunks) > 0 || len(i.Lease) > 0):
		return fail("bad flags")
	case !directory && (i.Replication == 0 || i.Replication > limits.ReplicationMax || limits.CheckChunkSize(int64(i.Blocks)*chunk.ChecksumBlockBytes) != ""):
		return fail("bad replication or chunk size")
	case len(i.Lease) > 1 || hidden && (len(i.Lease) == 0 || limits.CheckPath("load", i.Lease[0].Path) != nil || i.Lease[0].Path == "/"):
		return fail("bad lease")
	case !hidden && len(i.Lease) > 0 && i.Lease[0].Leaf != i.Name:
		return fail("its lease has another name")
	case !directory && len(i.Lease) == 0 && i.Flags&namespace.FlagCompleted == 0:
		return fail("closed but never completed")
	}
	if i.Name == "" {
		key = ""
	}
	slot, free := s.tree.Load(namespace.Attributes{ID: i.ID, Parent: i.Parent, Created: i.Created, Modified: i.Modified, Blocks: i.Blocks,
		Replication: i.Replication, Flags: i.Flags}, key)
	l.inodes++
	l.last = slot
	if directory {
		l.directories = append(l.directories, slot)
	}
	if !free {
		return fail("its name is there twice")
	}
	for _, lease := range i.Lease {
		o := &leases.Lease{Holder: strings.Clone(lease.Holder), Since: lease.Since, Path: strings.Clone(lease.Path),
			Overwrite: lease.Overwrite, Leaf: strings.Clone(lease.Leaf)}
		if len(lease.Client) > 0 {
			if len(lease.Client) != len(o.Client) {
				return fail("bad lease holder")
			}
			o.Client = ClientID(lease.Client)
		}
		s.leases.Grant(i.ID, o, s.step.Mono)
	}
	return l.addChunks(slot, i.Chunks)
}

func (l *checkpointLoader) more() error {
	page, err := l.reader.More()
	if err != nil {
		return err
	}
	if l.last == 0 || l.s.tree.Inode(l.last).Directory() {
		return codec.CorruptCheckpoint("chunks of no file")
	}
	return l.addChunks(l.last, page.Chunks)
}

func (l *checkpointLoader) addChunks(file namespace.InodeSlot, chunks []codec.CheckpointChunk) error {
	s := l.s
	size := s.tree.Inode(file).ChunkSize()
	leased := s.leases.Of(s.tree.Inode(file).ID()) != nil
	for n := range chunks {
		c := &chunks[n]
		if last := s.tree.Inode(file).Last(); last != 0 && !leased && s.files.Chunk(last).Length() != size {
			return codec.CorruptCheckpoint("chunk %s follows a short one", c.ID)
		}
		if c.ID.IsZero() || s.files.Find(c.ID) != 0 || c.Generation == 0 || c.Generation > c.Promised || int64(c.Length) > size ||
			c.Open && (!leased || c.Minimum == 0 || c.Minimum > c.Generation || c.Base < 0 || c.Base > int64(c.Length) || c.Cut < -1 || c.Cut >= 0 && c.Cut != int64(c.Length) || len(c.Members) > limits.NodesPerCallMax) {
			return codec.CorruptCheckpoint("chunk %s", c.ID)
		}
		for _, m := range c.Members {
			if !s.replicas.Nodes.Knows(m) {
				return codec.CorruptCheckpoint("chunk %s: node index %d", c.ID, m)
			}
		}
		loaded := namespace.LoadedChunk{ID: c.ID, Generation: chunk.Generation(c.Generation), Promised: chunk.Generation(c.Promised),
			Length: int64(c.Length)}
		if c.Open {
			loaded.Open = &namespace.OpenChunk{Minimum: chunk.Generation(c.Minimum), Strict: c.Strict, Base: c.Base, Cut: c.Cut, Members: c.Members}
		}
		s.files.Load(file, &loaded)
		l.chunks++
	}
	return nil
}

func (l *checkpointLoader) retry() error {
	var page codec.CheckpointRetry
	s := l.s
	if err := l.reader.Decode(&page); err != nil {
		return err
	}
	loaded := leases.RetryClient{ID: page.Client, Last: page.Last, Floor: page.Floor}
	for i := range page.Answers {
		a := &page.Answers[i]
		result := newAnswer(a.Kind)
		if result == nil {
			return codec.CorruptCheckpoint("retry cache: client %x, sequence %d, kind %d", page.Client, a.Sequence, a.Kind)
		}
		if err := l.reader.Answer(a, result); err != nil {
			return err
		}
		loaded.Answers = append(loaded.Answers, leases.Answer{Sequence: a.Sequence, Result: result})
	}
	if !s.answers.Load(loaded) {
		return codec.CorruptCheckpoint("retry cache: client %x", page.Client)
	}
	return nil
}

// end checks the totals and builds what is derived.
func (l *checkpointLoader) end() error {
	if err := l.reader.End(l.inodes, l.chunks); err != nil {
		return err
	}
	if l.s.tree.Find(namespace.RootID) == 0 {
		return codec.CorruptCheckpoint("there is no root directory")
	}
	return l.s.tree.FinishLoad(l.directories)
}
