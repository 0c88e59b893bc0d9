package actor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// A checkpoint is a row of frames (docs/format/edit-record.md): a head, nodes,
// inodes, the retry cache, an end with totals and a sum over all frames before.
// Its order is canonical (directory, then name), so equal states give equal
// bytes whatever their history.

// checkpointVersion is the version of every frame of a checkpoint.
const checkpointVersion = recordVersion

type checkpointHead struct {
	Version   uint8
	ClusterID string
	Created   int64
	Epoch     uint64
	Txid      uint64
	Time      int64
	NextInode uint64
}

type checkpointNode struct {
	ID      string
	Address string
}

type checkpointNodes struct {
	Version uint8
	Nodes   []checkpointNode // in order of their indexes, 1 first
}

type checkpointChunk struct {
	ID         chunk.ID
	Generation uint64
	Promised   uint64
	Length     uint32
	// Of an open chunk.
	Open    bool
	Minimum uint64
	Strict  bool
	Base    int64
	Cut     int64
	Members []uint16
}

type checkpointLease struct {
	Client    []byte
	Holder    string
	Since     int64
	Path      string
	Overwrite bool
	Leaf      string
}

type checkpointInode struct {
	ID          uint64
	Parent      uint64
	Name        string
	Flags       uint8
	Created     int64
	Modified    int64
	Blocks      uint16
	Replication uint8
	Chunks      []checkpointChunk // the first ones; checkpointMore holds the rest
	Lease       []checkpointLease // one or none
}

type checkpointFiles struct {
	Version uint8
	Inodes  []checkpointInode
}

// checkpointMore continues the chunks of the last inode before it.
type checkpointMore struct {
	Version uint8
	Chunks  []checkpointChunk
}

type checkpointAnswer struct {
	Sequence uint64
	Kind     uint8
	Result   []byte // msgpack
}

// checkpointRetry is one client of the retry cache, or more answers of the
// client before.
type checkpointRetry struct {
	Version uint8
	Client  ClientID
	Last    int64
	Floor   uint64
	Answers []checkpointAnswer
}

type checkpointEnd struct {
	Version uint8
	Frames  uint64
	Inodes  uint64
	Chunks  uint64
	Sum     uint64
}

// Snapshot is the durable state at one moment. Another goroutine may encode it
// while the State runs on; it costs memory only for what changes meanwhile.
type Snapshot struct {
	head     checkpointHead
	nodes    []checkpointNode
	view     *namespace.View
	open     map[uint64]*leases.Lease
	openSlot map[uint64]namespace.InodeSlot // hidden files
	answers  []leases.RetryClient
}

// Snapshot freezes the durable state. It costs a copy of the tables of open
// files and of the retry cache, and a pointer per 256 inodes and chunks.
func (s *State) Snapshot() *Snapshot {
	p := &Snapshot{
		head: checkpointHead{Version: checkpointVersion, ClusterID: s.clusterID, Created: s.created, Epoch: s.epoch,
			Txid: s.txid, Time: s.time, NextInode: s.tree.NextID()},
		view: s.files.View(), open: s.leases.Snapshot(), openSlot: make(map[uint64]namespace.InodeSlot),
	}
	for _, n := range s.nodes[1:] {
		p.nodes = append(p.nodes, checkpointNode{ID: n.id, Address: n.address})
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

// checkpointWriter writes frames and sums them.
type checkpointWriter struct {
	w       io.Writer
	encoder *frameEncoder
	sum     xxh3.Hasher
	frames  uint64
	err     error
}

func (c *checkpointWriter) frame(kind uint8, value any) {
	if c.err != nil {
		return
	}
	frame, err := c.encoder.encode(kind, value)
	if err != nil {
		c.err = err
		return
	}
	c.frames++
	_, _ = c.sum.Write(frame[:frameHeaderBytes]) // holds the payload's sum
	_, c.err = c.w.Write(frame)
}

// Encode writes the checkpoint. Any goroutine may call it, once at a time.
func (p *Snapshot) Encode(w io.Writer) error {
	c := &checkpointWriter{w: w, encoder: newFrameEncoder()}
	c.frame(kindCheckpointHead, &p.head)
	for from := 0; from < len(p.nodes); from += checkpointPageItems {
		page := p.nodes[from:min(from+checkpointPageItems, len(p.nodes))]
		c.frame(kindCheckpointNodes, &checkpointNodes{Version: checkpointVersion, Nodes: page})
	}
	inodes, chunks := p.encodeInodes(c)
	p.encodeRetry(c)
	c.frame(kindCheckpointEnd, &checkpointEnd{Version: checkpointVersion, Frames: c.frames, Inodes: inodes, Chunks: chunks, Sum: c.sum.Sum64()})
	return c.err
}

func (p *Snapshot) encodeInodes(c *checkpointWriter) (inodes, chunks uint64) {
	page := checkpointFiles{Version: checkpointVersion}
	bytesInPage := 0
	var room []checkpointChunk // of the chunks in page
	flush := func() {
		if len(page.Inodes) > 0 {
			c.frame(kindCheckpointFiles, &page)
			page.Inodes, bytesInPage, room = page.Inodes[:0], 0, room[:0]
		}
	}
	put := func(slot namespace.InodeSlot, name string) {
		var i checkpointInode
		var more []checkpointChunk
		i, more, room = p.inode(slot, name, room)
		inodes++
		chunks += uint64(len(i.Chunks) + len(more))
		page.Inodes = append(page.Inodes, i)
		// At most about 300 bytes per chunk, 256 KiB for a hidden file's path.
		bytesInPage += 64 + len(name) + 320*len(i.Chunks)
		for _, l := range i.Lease {
			bytesInPage += len(l.Path) + 600
		}
		if len(page.Inodes) == checkpointPageItems || bytesInPage > recordBytesMax/4 || len(more) > 0 {
			flush()
		}
		for from := 0; from < len(more); from += checkpointPageItems {
			c.frame(kindCheckpointMore, &checkpointMore{Version: checkpointVersion, Chunks: more[from:min(from+checkpointPageItems, len(more))]})
		}
	}
	if p.view.Root() == 0 {
		return 0, 0
	}
	put(p.view.Root(), "")
	p.view.Entries(func(name string, slot namespace.InodeSlot) bool {
		put(slot, name)
		return c.err == nil
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
func (p *Snapshot) inode(slot namespace.InodeSlot, name string, room []checkpointChunk) (i checkpointInode, more, rest []checkpointChunk) {
	n := p.view.Inode(slot)
	a := n.Attributes()
	i = checkpointInode{ID: a.ID, Parent: a.Parent, Name: name, Flags: a.Flags, Created: a.Created, Modified: a.Modified,
		Blocks: a.Blocks, Replication: a.Replication}
	if n.Directory() {
		return i, nil, room
	}
	from := len(room)
	for k := n.First(); k != 0; {
		r := p.view.Chunk(k)
		c := checkpointChunk{ID: r.ID(), Generation: uint64(r.Generation()), Promised: uint64(r.Promised()), Length: uint32(r.Length()), Open: r.Open()}
		if w := p.view.OpenChunk(k); w != nil {
			c.Minimum, c.Strict, c.Base, c.Cut, c.Members = uint64(w.Minimum), w.Strict, w.Base, w.Cut, w.Members
		}
		if len(room)-from < checkpointPageItems {
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
		l := checkpointLease{Holder: o.Holder, Since: o.Since, Path: o.Path, Overwrite: o.Overwrite, Leaf: o.Leaf}
		if !o.Recovering() {
			l.Client = o.Client[:]
		}
		i.Lease = []checkpointLease{l}
	}
	return i, more, room
}

// encodeRetry writes the retry cache, the client idle for longest first.
func (p *Snapshot) encodeRetry(c *checkpointWriter) {
	results := newFrameEncoder()
	for n := range p.answers {
		client := &p.answers[n]
		page := checkpointRetry{Version: checkpointVersion, Client: client.ID, Last: client.Last, Floor: client.Floor}
		size := 0
		for i, e := range client.Answers {
			frame, err := results.encode(0, e.Result)
			if err != nil {
				c.err = err
				return
			}
			payload := frame[frameHeaderBytes:]
			page.Answers = append(page.Answers, checkpointAnswer{Sequence: e.Sequence, Kind: resultKind(e.Result), Result: payload})
			size += len(payload) + 32
			if size > recordBytesMax/4 && i+1 < len(client.Answers) {
				c.frame(kindCheckpointRetry, &page)
				page.Answers, size = page.Answers[:0], 0
			}
		}
		c.frame(kindCheckpointRetry, &page)
	}
}

// Kinds of results are the kinds of the records that make them.
func resultKind(result any) uint8 {
	switch result.(type) {
	case *MkdirResult:
		return kindMkdir
	case *CreateResult:
		return kindCreate
	case *AddChunksResult:
		return kindAddChunks
	case *CompleteResult:
		return kindComplete
	case *AbandonResult:
		return kindAbandon
	case *AppendResult:
		return kindAppend
	case *RecoverPipelineResult:
		return kindRecoverPipeline
	case *UpdatePipelineResult:
		return kindUpdatePipeline
	case *RenameResult:
		return kindRename
	case *RemoveResult:
		return kindRemove
	case *RecoverLeaseResult:
		return kindRecoverLease
	case *TruncateResult:
		return kindTruncate
	}
	return 0
}

func newResult(kind uint8) any {
	switch kind {
	case kindMkdir:
		return new(MkdirResult)
	case kindCreate:
		return new(CreateResult)
	case kindAddChunks:
		return new(AddChunksResult)
	case kindComplete:
		return new(CompleteResult)
	case kindAbandon:
		return new(AbandonResult)
	case kindAppend:
		return new(AppendResult)
	case kindRecoverPipeline:
		return new(RecoverPipelineResult)
	case kindUpdatePipeline:
		return new(UpdatePipelineResult)
	case kindRename:
		return new(RenameResult)
	case kindRemove:
		return new(RemoveResult)
	case kindRecoverLease:
		return new(RecoverLeaseResult)
	case kindTruncate:
		return new(TruncateResult)
	}
	return nil
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
	if s.txid != 0 {
		return fault.New(fault.Exists, "load checkpoint", "the state is at txid %d already", s.txid)
	}
	l := &checkpointLoader{s: s, reader: r}
	l.sizeBytes = bytes
	if err := l.load(); err != nil {
		return &fault.Error{Kind: fault.KindOf(err), Op: "load checkpoint", Reason: fmt.Sprintf("frame %d", l.frames), Err: err}
	}
	return nil
}

type checkpointLoader struct {
	s         *State
	reader    io.Reader
	buffer    []byte
	sum       xxh3.Hasher
	frames    uint64
	inodes    uint64
	chunks    uint64
	sizeBytes int64
	last      namespace.InodeSlot // inode whose chunks may go on
	// directories are their inodes' slots.
	directories []namespace.InodeSlot
	// page and chunkPage are filled again with each frame; keys holds the keys of
	// some entries of a page.
	page      checkpointFiles
	chunkPage checkpointMore
	keys      []byte
}

func corruptCheckpoint(format string, args ...any) error {
	return fault.New(fault.CorruptData, "decode", format, args...)
}

// next reads one frame; its payload is valid until the next call.
func (l *checkpointLoader) next() (kind uint8, header [frameHeaderBytes]byte, payload []byte, err error) {
	if _, err := io.ReadFull(l.reader, header[:]); err != nil {
		return 0, header, nil, &fault.Error{Kind: fault.CorruptData, Op: "read", Reason: "the checkpoint ends early", Err: err}
	}
	length := binary.LittleEndian.Uint32(header[:])
	if length > recordBytesMax {
		return 0, header, nil, corruptCheckpoint("length %d is above the limit of %d", length, recordBytesMax)
	}
	size := frameHeaderBytes + int(length)
	if cap(l.buffer) < size {
		l.buffer = make([]byte, size)
	}
	frame := l.buffer[:size]
	copy(frame, header[:])
	if _, err := io.ReadFull(l.reader, frame[frameHeaderBytes:]); err != nil {
		return 0, header, nil, &fault.Error{Kind: fault.CorruptData, Op: "read", Reason: "the checkpoint ends early", Err: err}
	}
	kind, version, payload, _, err := cutFrame(frame)
	if err == nil && version > checkpointVersion {
		err = fault.New(fault.Version, "read", "frame version %d is not known", version)
	}
	return kind, header, payload, err
}

func (l *checkpointLoader) load() error {
	for {
		kind, header, payload, err := l.next()
		if err != nil {
			return err
		}
		if (l.frames == 0) != (kind == kindCheckpointHead) {
			return corruptCheckpoint("frame kind %d is out of place", kind)
		}
		switch kind {
		case kindCheckpointHead:
			err = l.head(payload)
		case kindCheckpointNodes:
			err = l.nodes(payload)
		case kindCheckpointFiles:
			err = l.files(payload)
		case kindCheckpointMore:
			err = l.more(payload)
		case kindCheckpointRetry:
			err = l.retry(payload)
		case kindCheckpointEnd:
			return l.end(payload)
		default:
			err = fault.New(fault.Version, "read", "frame kind %d is not known", kind)
		}
		if err != nil {
			return err
		}
		l.frames++
		_, _ = l.sum.Write(header[:])
	}
}

func (l *checkpointLoader) head(payload []byte) error {
	var h checkpointHead
	if err := l.s.decoder.decode(payload, &h); err != nil {
		return err
	}
	if h.Txid == 0 || h.ClusterID == "" || len(h.ClusterID) > nodeNameBytesMax || h.NextInode <= namespace.RootID {
		return corruptCheckpoint("head: cluster %q, txid %d, next inode %d", clip(h.ClusterID, 64), h.Txid, h.NextInode)
	}
	l.s.clusterID, l.s.created, l.s.epoch, l.s.txid = h.ClusterID, h.Created, h.Epoch, h.Txid
	l.s.time = h.Time
	l.s.files.StartLoad(h.NextInode, min(l.sizeBytes/checkpointBytesPerChunk, checkpointChunksInit))
	return nil
}

func (l *checkpointLoader) nodes(payload []byte) error {
	var page checkpointNodes
	if err := l.s.decoder.decode(payload, &page); err != nil {
		return err
	}
	for _, n := range page.Nodes {
		if len(l.s.nodes) > nodesMax || n.ID == "" || len(n.ID) > nodeNameBytesMax || l.s.nodeIndex[n.ID] != 0 {
			return corruptCheckpoint("node %q", clip(n.ID, 64))
		}
		index := uint16(len(l.s.nodes))
		l.s.nodes = append(l.s.nodes, newNode(index, n.ID, n.Address))
		l.s.nodeIndex[n.ID] = index
	}
	return nil
}

func (l *checkpointLoader) files(payload []byte) error {
	if !readFastShared(&l.page, payload) {
		l.page = checkpointFiles{}
		if err := l.s.decoder.decode(payload, &l.page); err != nil {
			return err
		}
	}
	for group := range slices.Chunk(l.page.Inodes, checkpointKeysShared) {
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
func (l *checkpointLoader) inode(i *checkpointInode, key string) error {
	s := l.s
	directory, hidden := i.Flags&namespace.FlagDirectory != 0, i.Flags&namespace.FlagHidden != 0
	fail := func(what string) error { return corruptCheckpoint("inode %d: %s", i.ID, what) }
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
	case !directory && (i.Replication == 0 || i.Replication > replicationMax || limits.CheckChunkSize(int64(i.Blocks)*chunk.ChecksumBlockBytes) != ""):
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
		s.leases.Grant(i.ID, o, s.mono)
	}
	return l.addChunks(slot, i.Chunks)
}

func (l *checkpointLoader) more(payload []byte) error {
	if !readFastShared(&l.chunkPage, payload) {
		l.chunkPage = checkpointMore{}
		if err := l.s.decoder.decode(payload, &l.chunkPage); err != nil {
			return err
		}
	}
	if l.last == 0 || l.s.tree.Inode(l.last).Directory() {
		return corruptCheckpoint("chunks of no file")
	}
	return l.addChunks(l.last, l.chunkPage.Chunks)
}

func (l *checkpointLoader) addChunks(file namespace.InodeSlot, chunks []checkpointChunk) error {
	s := l.s
	size := s.tree.Inode(file).ChunkSize()
	leased := s.leases.Of(s.tree.Inode(file).ID()) != nil
	for n := range chunks {
		c := &chunks[n]
		if last := s.tree.Inode(file).Last(); last != 0 && !leased && s.files.Chunk(last).Length() != size {
			return corruptCheckpoint("chunk %s follows a short one", c.ID)
		}
		if c.ID.IsZero() || s.files.Find(c.ID) != 0 || c.Generation == 0 || c.Generation > c.Promised || int64(c.Length) > size ||
			c.Open && (!leased || c.Minimum == 0 || c.Minimum > c.Generation || c.Base < 0 || c.Base > int64(c.Length) || c.Cut < -1 || c.Cut >= 0 && c.Cut != int64(c.Length) || len(c.Members) > nodesPerCallMax) {
			return corruptCheckpoint("chunk %s", c.ID)
		}
		for _, m := range c.Members {
			if m == 0 || int(m) >= len(s.nodes) {
				return corruptCheckpoint("chunk %s: node index %d", c.ID, m)
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

func (l *checkpointLoader) retry(payload []byte) error {
	var page checkpointRetry
	s := l.s
	if err := s.decoder.decode(payload, &page); err != nil {
		return err
	}
	loaded := leases.RetryClient{ID: page.Client, Last: page.Last, Floor: page.Floor}
	for _, a := range page.Answers {
		result := newResult(a.Kind)
		if result == nil {
			return corruptCheckpoint("retry cache: client %x, sequence %d, kind %d", page.Client, a.Sequence, a.Kind)
		}
		if err := s.decoder.decode(a.Result, result); err != nil {
			return err
		}
		loaded.Answers = append(loaded.Answers, leases.Answer{Sequence: a.Sequence, Result: result})
	}
	if !s.answers.Load(loaded) {
		return corruptCheckpoint("retry cache: client %x", page.Client)
	}
	return nil
}

// end checks the totals and builds what is derived.
func (l *checkpointLoader) end(payload []byte) error {
	var e checkpointEnd
	s := l.s
	if err := s.decoder.decode(payload, &e); err != nil {
		return err
	}
	if e.Frames != l.frames || e.Inodes != l.inodes || e.Chunks != l.chunks || e.Sum != l.sum.Sum64() || s.tree.Find(namespace.RootID) == 0 {
		return corruptCheckpoint("the end counts %d frames, %d inodes, %d chunks, sum %016x; there are %d, %d, %d, %016x",
			e.Frames, e.Inodes, e.Chunks, e.Sum, l.frames, l.inodes, l.chunks, l.sum.Sum64())
	}
	if n, err := io.ReadFull(l.reader, make([]byte, 1)); n != 0 || err != io.EOF {
		return corruptCheckpoint("bytes follow the end")
	}
	return s.tree.FinishLoad(l.directories)
}
