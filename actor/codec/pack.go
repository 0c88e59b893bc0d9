package codec

import (
	"slices"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/msgpack"
)

// The records that make up nearly all of a log have their own msgpack code: the codec's, driven by reflection, took a
// quarter of a mutation's time. What write appends is byte for byte what the codec writes for the same struct, and read
// accepts exactly that; everything else (a newer writer's additional elements, say) is left to the codec. Tests compare
// the two.

// packed is implemented by structs that are encoded and decoded here. read fills an empty struct, or a page of a
// checkpoint that was read before; what it leaves behind when the reader has failed is of no use.
type packed interface {
	write(w msgpack.Writer) msgpack.Writer
	read(r *msgpack.Reader)
}

var (
	_ packed = (*MkdirRecord)(nil)
	_ packed = (*CreateRecord)(nil)
	_ packed = (*AddChunksRecord)(nil)
	_ packed = (*CompleteRecord)(nil)
	_ packed = (*RenameRecord)(nil)
	_ packed = (*RemoveRecord)(nil)
	_ packed = (*CheckpointFiles)(nil)
	_ packed = (*CheckpointMore)(nil)
)

// start writes the head of a record of n elements, its prefix among them.
func (p *Prefix) start(w msgpack.Writer, n int) msgpack.Writer {
	h := &p.Head
	return w.Array(n + 2).Uint(uint64(p.Version)).Array(4).Int(h.Time).ID(h.Client).Uint(h.Sequence).Uint(h.Oldest)
}

// readStart reads what start wrote.
func (p *Prefix) readStart(r *msgpack.Reader, n int) {
	r.Struct(n + 2)
	p.Version = r.Uint8()
	r.Struct(4)
	h := &p.Head
	h.Time, h.Client, h.Sequence, h.Oldest = r.Int64(), r.ID(), r.Uint64(), r.Uint64()
}

func writePlacements(w msgpack.Writer, list []Placement) msgpack.Writer {
	return msgpack.WriteList(w, list, func(w msgpack.Writer, p *Placement) msgpack.Writer {
		return msgpack.WriteUint16s(w.Array(2).ID(p.ID), p.Nodes)
	})
}

func readPlacements(r *msgpack.Reader) []Placement {
	return msgpack.ReadList(r, func(r *msgpack.Reader) (p Placement) {
		r.Struct(2)
		p.ID, p.Nodes = r.ID(), msgpack.ReadUint16s[datanode.Index](r)
		return p
	})
}

func writeSealings(w msgpack.Writer, list []Sealing) msgpack.Writer {
	return msgpack.WriteList(w, list, func(w msgpack.Writer, s *Sealing) msgpack.Writer {
		return w.Array(3).Uint(uint64(s.Index)).Uint(uint64(s.Generation)).Uint(uint64(s.Length))
	})
}

func readSealings(r *msgpack.Reader) []Sealing {
	return msgpack.ReadList(r, func(r *msgpack.Reader) (s Sealing) {
		r.Struct(3)
		s.Index, s.Generation, s.Length = r.Uint32(), chunk.Generation(r.Uint64()), r.Uint32()
		return s
	})
}

func (m *MkdirRecord) write(w msgpack.Writer) msgpack.Writer {
	return m.start(w, 3).Uint(m.Parent).Uint(m.FirstID).Texts(m.Names)
}

func (m *MkdirRecord) read(r *msgpack.Reader) {
	m.readStart(r, 3)
	m.Parent, m.FirstID, m.Names = r.Uint64(), r.Uint64(), r.Texts()
}

func (c *CreateRecord) write(w msgpack.Writer) msgpack.Writer {
	w = c.start(w, 12).Uint(c.Parent).Uint(c.FirstID).Texts(c.Directories)
	w = w.Text(c.Name).Uint(uint64(c.Replication)).Uint(uint64(c.Blocks)).Bool(c.Hidden).Bool(c.Overwrite)
	return writePlacements(w.Uint(c.Replaced).Text(c.Path).Text(c.Holder), c.Chunks)
}

func (c *CreateRecord) read(r *msgpack.Reader) {
	c.readStart(r, 12)
	c.Parent, c.FirstID, c.Directories = r.Uint64(), r.Uint64(), r.Texts()
	c.Name, c.Replication, c.Blocks, c.Hidden, c.Overwrite = r.Text(), r.Uint8(), r.Uint16(), r.Bool(), r.Bool()
	c.Replaced, c.Path, c.Holder, c.Chunks = r.Uint64(), r.Text(), r.Text(), readPlacements(r)
}

func (a *AddChunksRecord) write(w msgpack.Writer) msgpack.Writer {
	w = writeSealings(a.start(w, 5).Uint(a.File), a.Commits)
	return writePlacements(w.Bool(a.Replace).Uint(uint64(a.Index)), a.Chunks)
}

func (a *AddChunksRecord) read(r *msgpack.Reader) {
	a.readStart(r, 5)
	a.File, a.Commits = r.Uint64(), readSealings(r)
	a.Replace, a.Index, a.Chunks = r.Bool(), r.Uint32(), readPlacements(r)
}

func (c *CompleteRecord) write(w msgpack.Writer) msgpack.Writer {
	w = writeSealings(c.start(w, 6).Uint(c.File), c.Commits)
	return w.Uint(uint64(c.Keep)).Uint(c.Parent).Text(c.Name).Uint(c.Replaced)
}

func (c *CompleteRecord) read(r *msgpack.Reader) {
	c.readStart(r, 6)
	c.File, c.Commits = r.Uint64(), readSealings(r)
	c.Keep, c.Parent, c.Name, c.Replaced = r.Uint32(), r.Uint64(), r.Text(), r.Uint64()
}

func (m *RenameRecord) write(w msgpack.Writer) msgpack.Writer {
	w = m.start(w, 6).Uint(m.Inode).Uint(m.SourceParent).Text(m.SourceName)
	return w.Uint(m.TargetParent).Text(m.TargetName).Uint(m.Replaced)
}

func (m *RenameRecord) read(r *msgpack.Reader) {
	m.readStart(r, 6)
	m.Inode, m.SourceParent, m.SourceName = r.Uint64(), r.Uint64(), r.Text()
	m.TargetParent, m.TargetName, m.Replaced = r.Uint64(), r.Text(), r.Uint64()
}

func (m *RemoveRecord) write(w msgpack.Writer) msgpack.Writer {
	return m.start(w, 3).Uint(m.Inode).Uint(m.Parent).Text(m.Name)
}

func (m *RemoveRecord) read(r *msgpack.Reader) {
	m.readStart(r, 3)
	m.Inode, m.Parent, m.Name = r.Uint64(), r.Uint64(), r.Text()
}

func (c *CheckpointFiles) write(w msgpack.Writer) msgpack.Writer {
	w = w.Array(2).Uint(uint64(c.Version))
	return msgpack.WriteList(w, c.Inodes, func(w msgpack.Writer, i *CheckpointInode) msgpack.Writer {
		w = w.Array(10).Uint(i.ID).Uint(i.Parent).Text(i.Name).Uint(uint64(i.Flags)).Int(i.Created).Int(i.Modified)
		w = writeChunks(w.Uint(uint64(i.Blocks)).Uint(uint64(i.Replication)), i.Chunks)
		return msgpack.WriteList(w, i.Lease, func(w msgpack.Writer, l *CheckpointLease) msgpack.Writer {
			w = w.Array(6).ShortBytes(l.Client).Text(l.Holder).Int(l.Since)
			return w.Text(l.Path).Bool(l.Overwrite).Text(l.Leaf)
		})
	})
}

func (c *CheckpointFiles) read(reader *msgpack.Reader) {
	reader.Struct(2)
	c.Version = reader.Uint8()
	c.Inodes = c.Inodes[:0]
	for n := reader.Array(); n > 0 && !reader.Failed(); n-- {
		var i *CheckpointInode
		c.Inodes, i = msgpack.Extend(c.Inodes)
		reader.Struct(10)
		i.ID, i.Parent, i.Name, i.Flags = reader.Uint64(), reader.Uint64(), reader.Text(), reader.Uint8()
		i.Created, i.Modified, i.Blocks, i.Replication = reader.Int64(), reader.Int64(), reader.Uint16(), reader.Uint8()
		i.Chunks = readChunks(reader, i.Chunks)
		i.Lease = msgpack.ReadList(reader, readLease)
	}
}

func readLease(r *msgpack.Reader) (l CheckpointLease) {
	r.Struct(6)
	l.Client, l.Holder, l.Since = slices.Clone(r.ShortBytes()), r.Text(), r.Int64()
	l.Path, l.Overwrite, l.Leaf = r.Text(), r.Bool(), r.Text()
	return l
}

func (c *CheckpointMore) write(w msgpack.Writer) msgpack.Writer {
	return writeChunks(w.Array(2).Uint(uint64(c.Version)), c.Chunks)
}

func (c *CheckpointMore) read(r *msgpack.Reader) {
	r.Struct(2)
	c.Version, c.Chunks = r.Uint8(), readChunks(r, c.Chunks)
}

func writeChunks(w msgpack.Writer, list []CheckpointChunk) msgpack.Writer {
	return msgpack.WriteList(w, list, func(w msgpack.Writer, c *CheckpointChunk) msgpack.Writer {
		w = w.Array(10).ID(c.ID).Uint(uint64(c.Generation)).Uint(uint64(c.Promised)).Uint(uint64(c.Length))
		w = w.Bool(c.Open).Uint(uint64(c.Minimum)).Bool(c.Strict).Int(c.Base).Int(c.Cut)
		return msgpack.WriteUint16s(w, c.Members)
	})
}

// readChunks reads to the memory of list, which an older page holds.
func readChunks(r *msgpack.Reader, list []CheckpointChunk) []CheckpointChunk {
	list = list[:0]
	for n := r.Array(); n > 0 && !r.Failed(); n-- {
		var c *CheckpointChunk
		list, c = msgpack.Extend(list)
		r.Struct(10)
		c.ID, c.Generation, c.Promised = r.ID(), chunk.Generation(r.Uint64()), chunk.Generation(r.Uint64())
		c.Length, c.Open, c.Minimum, c.Strict = r.Uint32(), r.Bool(), chunk.Generation(r.Uint64()), r.Bool()
		c.Base, c.Cut = r.Int64(), r.Int64()
		c.Members = msgpack.ReadUint16s[datanode.Index](r) // a list of its own: the loader keeps it
	}
	return list
}
