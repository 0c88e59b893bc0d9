package actor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Snapshot is the durable state at one moment. Another goroutine may encode it
// while the State runs on; it costs memory only for what changes meanwhile.
type Snapshot struct {
	head     codec.CheckpointHead
	nodes    []codec.CheckpointNode
	duties   []codec.CheckpointDuty
	names    []codec.CheckpointName
	view     *namespace.View
	open     map[uint64]*leases.Lease
	openSlot map[uint64]namespace.InodeSlot // hidden files
	answers  []leases.RetryClient
}

// Snapshot freezes the durable state. It costs a copy of the tables of open
// files and of the retry cache, and a pointer per 256 inodes and chunks.
func (s *State) Snapshot() *Snapshot {
	snapshot := &Snapshot{
		head: codec.CheckpointHead{Version: codec.Version, ClusterID: s.clusterID, Created: s.created, Epoch: s.epoch,
			Txid: s.step.Txid, Time: s.time, NextInode: s.tree.NextID()},
		view: s.files.View(), open: s.leases.Snapshot(), openSlot: make(map[uint64]namespace.InodeSlot),
	}
	for id, address := range s.replicas.Nodes.All {
		snapshot.nodes = append(snapshot.nodes, codec.CheckpointNode{ID: id, Address: address})
	}
	for index, wish := range s.replicas.Duties.All {
		snapshot.duties = append(snapshot.duties, codec.CheckpointDuty{Index: index, Duty: wish.Duty, Since: wish.Since,
			Until: wish.Until})
	}
	for index, name := range s.replicas.Names.All {
		snapshot.names = append(snapshot.names, codec.CheckpointName{Index: index, Name: name})
	}
	for id := range snapshot.open {
		if slot := s.tree.Find(id); s.tree.Inode(slot).Hidden() {
			snapshot.openSlot[id] = slot
		}
	}
	snapshot.answers = s.answers.Snapshot()
	return snapshot
}

// Txid is the last txid that the snapshot holds.
func (p *Snapshot) Txid() uint64 { return p.head.Txid }

// Encode writes the checkpoint. Any goroutine may call it, once at a time.
func (p *Snapshot) Encode(w io.Writer) error {
	writer := codec.NewCheckpointWriter(w)
	writer.Frame(codec.KindCheckpointHead, &p.head)
	for page := range slices.Chunk(p.nodes, codec.CheckpointPageItems) {
		writer.Frame(codec.KindCheckpointNodes, &codec.CheckpointNodes{Version: codec.Version, Nodes: page})
	}
	for page := range slices.Chunk(p.duties, codec.CheckpointPageItems) {
		writer.Frame(codec.KindCheckpointDuties, &codec.CheckpointDuties{Version: codec.Version, Nodes: page})
	}
	for page := range slices.Chunk(p.names, codec.CheckpointPageItems) {
		writer.Frame(codec.KindCheckpointNames, &codec.CheckpointNames{Version: codec.Version, Nodes: page})
	}
	inodes, chunks := p.encodeInodes(writer)
	p.encodeRetry(writer)
	return writer.End(inodes, chunks)
}

func (p *Snapshot) encodeInodes(writer *codec.CheckpointWriter) (inodes, chunks uint64) {
	page := codec.CheckpointFiles{Version: codec.Version}
	bytesInPage := 0
	var room []codec.CheckpointChunk // of the chunks in page
	flush := func() {
		if len(page.Inodes) > 0 {
			writer.Frame(codec.KindCheckpointFiles, &page)
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
		for chunks := range slices.Chunk(more, codec.CheckpointPageItems) {
			writer.Frame(codec.KindCheckpointMore, &codec.CheckpointMore{Version: codec.Version, Chunks: chunks})
		}
	}
	if p.view.Root() == 0 {
		return 0, 0
	}
	put(p.view.Root(), "")
	p.view.Entries(func(name string, slot namespace.InodeSlot) bool {
		put(slot, name)
		return writer.Err() == nil
	})
	for _, id := range slices.Sorted(maps.Keys(p.openSlot)) {
		put(p.openSlot[id], "")
	}
	flush()
	return inodes, chunks
}

// inode describes one; its first chunks stand behind room, which is returned.
func (p *Snapshot) inode(slot namespace.InodeSlot, name string,
	room []codec.CheckpointChunk) (inode codec.CheckpointInode, more, rest []codec.CheckpointChunk) {
	n := p.view.Inode(slot)
	attributes := n.Attributes()
	inode = codec.CheckpointInode{ID: attributes.ID, Parent: attributes.Parent, Name: name, Flags: attributes.Flags,
		Created: attributes.Created, Modified: attributes.Modified,
		Blocks: attributes.Blocks, Replication: attributes.Replication}
	if n.Directory() {
		return inode, nil, room
	}
	from := len(room)
	for next := n.First(); next != 0; {
		record := p.view.Chunk(next)
		c := codec.CheckpointChunk{ID: record.ID(), Generation: record.Generation(), Promised: record.Promised(),
			Length: uint32(record.Length()), Open: record.Open()}
		if w := p.view.OpenChunk(next); w != nil {
			c.Minimum, c.Strict, c.Base, c.Cut, c.Members = w.Minimum, w.Strict, w.Base, w.Cut, w.Members
		}
		if len(room)-from < codec.CheckpointPageItems {
			room = append(room, c)
		} else {
			more = append(more, c)
		}
		next = record.Next()
	}
	if len(room) > from {
		inode.Chunks = room[from:len(room):len(room)]
	}
	if o := p.open[attributes.ID]; o != nil {
		l := codec.CheckpointLease{Holder: o.Holder, Since: o.Since, Path: o.Path, Overwrite: o.Overwrite, Leaf: o.Leaf}
		if !o.Recovering() {
			l.Client = o.Client[:]
		}
		inode.Lease = []codec.CheckpointLease{l}
	}
	return inode, more, room
}

// encodeRetry writes the retry cache, the client idle for longest first.
func (p *Snapshot) encodeRetry(writer *codec.CheckpointWriter) {
	for n := range p.answers {
		client := &p.answers[n]
		page := codec.CheckpointRetry{Version: codec.Version, Client: client.ID, Last: client.Last, Floor: client.Floor}
		size := 0
		for i, e := range client.Answers {
			result := writer.Answer(e.Result)
			page.Answers = append(page.Answers, codec.CheckpointAnswer{Sequence: e.Sequence, Kind: answerKind(e.Result),
				Result: result})
			size += len(result) + 32
			if size > codec.CheckpointPageBytes && i+1 < len(client.Answers) {
				writer.Frame(codec.KindCheckpointRetry, &page)
				page.Answers, size = page.Answers[:0], 0
			}
		}
		writer.Frame(codec.KindCheckpointRetry, &page)
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

// ReadCheckpoint restores the state that r yields, to its end, into an empty State. bytes is about how many they
// are, so that tables need not grow; 0: not known. After an error the State must be dropped.
func (s *State) ReadCheckpoint(r io.Reader, bytes int64) error {
	if s.step.Txid != 0 {
		return fault.New(fault.Exists, "load checkpoint", "the state is at txid %d already", s.step.Txid)
	}
	l := &checkpointLoader{s: s, reader: codec.NewCheckpointReader(r), sizeBytes: bytes}
	if err := l.load(); err != nil {
		return &fault.Error{Kind: fault.KindOf(err), Op: "load checkpoint",
			Reason: fmt.Sprintf("frame %d", l.reader.Frames()), Err: err}
	}
	return nil
}

type checkpointLoader struct {
	s              *State
	reader         *codec.CheckpointReader
	inodes, chunks uint64
	sizeBytes      int64
	last           namespace.InodeSlot   // inode whose chunks may go on
	directories    []namespace.InodeSlot // their inodes' slots
	keys           []byte                // of some entries of a page
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
		case codec.KindCheckpointDuties:
			err = l.duties()
		case codec.KindCheckpointNames:
			err = l.names()
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
		return codec.CorruptCheckpoint("head: cluster %q, txid %d, next inode %d", limits.Clip(h.ClusterID, 64), h.Txid,
			h.NextInode)
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

func (l *checkpointLoader) duties() error {
	var page codec.CheckpointDuties
	if err := l.reader.Decode(&page); err != nil {
		return err
	}
	for _, n := range page.Nodes {
		if !l.s.replicas.Nodes.Knows(n.Index) || n.Duty == datanode.DutyServe || n.Duty > datanode.DutyForgotten ||
			(n.Duty == datanode.DutyMaintenance) != (n.Until > 0) {
			return codec.CorruptCheckpoint("duty %d of node index %d until %d", n.Duty, n.Index, n.Until)
		}
		l.s.replicas.Duties.Set(n.Index, replicas.Assignment{Duty: n.Duty, Since: n.Since, Until: n.Until})
	}
	return nil
}

func (l *checkpointLoader) names() error {
	var page codec.CheckpointNames
	if err := l.reader.Decode(&page); err != nil {
		return err
	}
	for _, n := range page.Nodes {
		if !l.s.replicas.Nodes.Knows(n.Index) || n.Name == "" ||
			limits.CheckText("name", n.Name, limits.TextBytesMax) != "" {
			return codec.CorruptCheckpoint("name of node index %d: %q", n.Index, limits.Clip(n.Name, 64))
		}
		l.s.replicas.Names.Set(n.Index, n.Name)
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
func (l *checkpointLoader) inode(inode *codec.CheckpointInode, key string) error {
	state := l.s
	directory, hidden := inode.Flags&namespace.FlagDirectory != 0, inode.Flags&namespace.FlagHidden != 0
	root := inode.ID == namespace.RootID
	fail := func(what string) error { return codec.CorruptCheckpoint("inode %d: %s", inode.ID, what) }
	switch {
	case inode.ID == 0 || inode.ID >= state.tree.NextID() || state.tree.Find(inode.ID) != 0:
		return fail("bad id")
	case root != (l.inodes == 0) || root && (!directory || hidden):
		return fail("the root is not first")
	case (root || hidden) != (inode.Name == "") || inode.Name != "" && limits.CheckName(inode.Name) != "":
		return fail("bad name")
	case (root || hidden) != (inode.Parent == 0):
		return fail("bad parent")
	case directory && (hidden || len(inode.Chunks) > 0 || len(inode.Lease) > 0):
		return fail("bad flags")
	case !directory && (inode.Replication == 0 || inode.Replication > limits.ReplicationMax ||
		limits.CheckChunkSize(int64(inode.Blocks)*chunk.ChecksumBlockBytes) != ""):
		return fail("bad replication or chunk size")
	case len(inode.Lease) > 1 || hidden &&
		(len(inode.Lease) == 0 || limits.CheckPath("load", inode.Lease[0].Path) != nil || inode.Lease[0].Path == "/"):
		return fail("bad lease")
	case !hidden && len(inode.Lease) > 0 && inode.Lease[0].Leaf != inode.Name:
		return fail("its lease has another name")
	case !directory && len(inode.Lease) == 0 && inode.Flags&namespace.FlagCompleted == 0:
		return fail("closed but never completed")
	}
	if inode.Name == "" {
		key = ""
	}
	slot, free := state.tree.Load(namespace.Attributes{ID: inode.ID, Parent: inode.Parent, Created: inode.Created,
		Modified: inode.Modified, Blocks: inode.Blocks, Replication: inode.Replication, Flags: inode.Flags}, key)
	l.inodes++
	l.last = slot
	if directory {
		l.directories = append(l.directories, slot)
	}
	if !free {
		return fail("its name is there twice")
	}
	for _, lease := range inode.Lease {
		o := &leases.Lease{Holder: strings.Clone(lease.Holder), Since: lease.Since, Path: strings.Clone(lease.Path),
			Overwrite: lease.Overwrite, Leaf: strings.Clone(lease.Leaf)}
		if len(lease.Client) > 0 {
			if len(lease.Client) != len(o.Client) {
				return fail("bad lease holder")
			}
			o.Client = ClientID(lease.Client)
		}
		state.leases.Grant(inode.ID, o, state.step.Mono)
	}
	return l.addChunks(slot, inode.Chunks)
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
	state := l.s
	size := state.tree.Inode(file).ChunkSize()
	leased := state.leases.Of(state.tree.Inode(file).ID()) != nil
	for n := range chunks {
		stored := &chunks[n]
		if last := state.tree.Inode(file).Last(); last != 0 && !leased && state.files.Chunk(last).Length() != size {
			return codec.CorruptCheckpoint("chunk %s follows a short one", stored.ID)
		}
		if stored.ID.IsZero() || state.files.Find(stored.ID) != 0 || stored.Generation == 0 ||
			stored.Generation > stored.Promised || int64(stored.Length) > size ||
			stored.Open && (!leased || stored.Minimum == 0 || stored.Minimum > stored.Generation || stored.Base < 0 ||
				stored.Base > int64(stored.Length) || stored.Cut < -1 || stored.Cut >= 0 &&
				stored.Cut != int64(stored.Length) || len(stored.Members) > limits.NodesPerCallMax) {
			return codec.CorruptCheckpoint("chunk %s", stored.ID)
		}
		for _, m := range stored.Members {
			if !state.replicas.Nodes.Knows(m) {
				return codec.CorruptCheckpoint("chunk %s: node index %d", stored.ID, m)
			}
		}
		loaded := namespace.LoadedChunk{ID: stored.ID, Generation: stored.Generation, Promised: stored.Promised,
			Length: int64(stored.Length)}
		if stored.Open {
			loaded.Open = &namespace.OpenChunk{Minimum: stored.Minimum, Strict: stored.Strict,
				Base: stored.Base, Cut: stored.Cut, Members: stored.Members}
		}
		state.files.Load(file, &loaded)
		l.chunks++
	}
	return nil
}

func (l *checkpointLoader) retry() error {
	var page codec.CheckpointRetry
	state := l.s
	if err := l.reader.Decode(&page); err != nil {
		return err
	}
	loaded := leases.RetryClient{ID: page.Client, Last: page.Last, Floor: page.Floor}
	for i := range page.Answers {
		a := &page.Answers[i]
		result := newAnswer(a.Kind)
		if result == nil {
			return codec.CorruptCheckpoint("retry cache: client %x, sequence %d, kind %d", page.Client, a.Sequence,
				a.Kind)
		}
		if err := l.reader.Answer(a, result); err != nil {
			return err
		}
		loaded.Answers = append(loaded.Answers, leases.Answer{Sequence: a.Sequence, Result: result})
	}
	if !state.answers.Load(loaded) {
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
