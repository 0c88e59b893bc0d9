package actor

import (
	"slices"

	"github.com/whispering-woods/ww/internal/chunk"
)

// The frames of a checkpoint that hold nearly all of it, by hand like the
// frequent records (pack.go): the same bytes as the codec's. Reading one fills
// the structs of the frame before again, so that a file costs no allocation
// here.

var (
	_ packed = (*checkpointFiles)(nil)
	_ fast   = (*checkpointFiles)(nil)
	_ packed = (*checkpointMore)(nil)
	_ fast   = (*checkpointMore)(nil)
)

func (r *checkpointFiles) pack(b []byte) []byte {
	b = packUint(packArray(b, 2), uint64(r.Version))
	if r.Inodes == nil {
		return append(b, packNil)
	}
	b = packArray(b, len(r.Inodes))
	for n := range r.Inodes {
		b = r.Inodes[n].pack(b)
	}
	return b
}

func (i *checkpointInode) pack(b []byte) []byte {
	b = packUint(packUint(packArray(b, 10), i.ID), i.Parent)
	b = packUint(packString(b, i.Name), uint64(i.Flags))
	b = packInt(packInt(b, i.Created), i.Modified)
	b = packUint(packUint(b, uint64(i.Blocks)), uint64(i.Replication))
	return packList(packChunks(b, i.Chunks), i.Lease, packLease)
}

func packChunks(b []byte, chunks []checkpointChunk) []byte {
	if chunks == nil {
		return append(b, packNil)
	}
	b = packArray(b, len(chunks))
	for n := range chunks {
		c := &chunks[n]
		b = packUint(packID(packArray(b, 10), c.ID), c.Generation)
		b = packUint(packUint(b, c.Promised), uint64(c.Length))
		b = packUint(packBool(b, c.Open), c.Minimum)
		b = packInt(packInt(packBool(b, c.Strict), c.Base), c.Cut)
		b = packList(b, c.Members, packNode)
	}
	return b
}

func packLease(b []byte, l checkpointLease) []byte {
	b = packArray(b, 6)
	if l.Client == nil {
		b = append(b, packNil)
	} else {
		b = append(append(b, packBin8, byte(len(l.Client))), l.Client...) // an id or nothing
	}
	b = packInt(packString(b, l.Holder), l.Since)
	return packString(packBool(packString(b, l.Path), l.Overwrite), l.Leaf)
}

func (r *checkpointMore) pack(b []byte) []byte {
	return packChunks(packUint(packArray(b, 2), uint64(r.Version)), r.Chunks)
}

// again cuts the next item off the spare room of a list that is filled again.
func again[T any](list []T) ([]T, *T) {
	if len(list) < cap(list) {
		list = list[:len(list)+1]
	} else {
		var zero T
		list = append(list, zero)
	}
	return list, &list[len(list)-1]
}

func (r *checkpointFiles) unpack(u *unpacker) {
	u.elements(2)
	r.Version = u.uint8()
	n := u.array()
	if r.Inodes = r.Inodes[:0]; n < 0 {
		r.Inodes = nil
	} else if r.Inodes == nil {
		r.Inodes = make([]checkpointInode, 0, min(n, recordItemsInit))
	}
	for ; n > 0 && !u.failed; n-- {
		var i *checkpointInode
		r.Inodes, i = again(r.Inodes)
		i.unpack(u)
	}
}

func (i *checkpointInode) unpack(u *unpacker) {
	u.elements(10)
	i.ID, i.Parent, i.Name, i.Flags = u.uint64(), u.uint64(), u.string(), u.uint8()
	i.Created, i.Modified = u.int64(), u.int64()
	i.Blocks, i.Replication = u.uint16(), u.uint8()
	i.Chunks = unpackChunks(u, i.Chunks)
	i.Lease = unpackList(u, unpackLease)
}

// unpackChunks fills list again.
func unpackChunks(u *unpacker, list []checkpointChunk) []checkpointChunk {
	n := u.array()
	if n < 0 || u.failed {
		return nil
	}
	if list = list[:0]; list == nil {
		list = make([]checkpointChunk, 0, min(n, recordItemsInit))
	}
	for ; n > 0 && !u.failed; n-- {
		var c *checkpointChunk
		list, c = again(list)
		u.elements(10)
		c.ID, c.Generation, c.Promised, c.Length = chunk.ID(u.id()), u.uint64(), u.uint64(), u.uint32()
		c.Open, c.Minimum, c.Strict = u.bool(), u.uint64(), u.bool()
		c.Base, c.Cut = u.int64(), u.int64()
		c.Members = unpackList(u, (*unpacker).uint16) // is kept
	}
	return list
}

func unpackLease(u *unpacker) (l checkpointLease) {
	u.elements(6)
	if len(u.rest) > 0 && u.rest[0] == packNil {
		u.byte()
	} else {
		id := u.bin()
		l.Client = slices.Clone(id)
	}
	l.Holder, l.Since, l.Path = u.string(), u.int64(), u.string()
	l.Overwrite, l.Leaf = u.bool(), u.string()
	return l
}

// bin reads a byte string of less than 256 bytes.
func (u *unpacker) bin() []byte {
	if u.byte() != packBin8 {
		u.failed = true
	}
	return u.take(int(u.byte()))
}

func (r *checkpointMore) unpack(u *unpacker) {
	u.elements(2)
	r.Version = u.uint8()
	r.Chunks = unpackChunks(u, r.Chunks)
}
