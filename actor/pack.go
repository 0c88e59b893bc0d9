package actor

import (
	"encoding/binary"
	"math"

	"github.com/whispering-woods/ww/internal/chunk"
)

// The records that make up nearly all of a log have their own msgpack code: the
// codec's, driven by reflection, took a quarter of a mutation's time. What
// pack writes is byte for byte what the codec writes for the same struct, and
// readFast accepts exactly that; everything else (a newer writer's additional
// elements, say) it leaves to the codec. Tests compare the two.

// packed is implemented by records that are encoded here.
type packed interface{ pack(b []byte) []byte }

// fast is implemented by records that are decoded here. unpack fills an empty
// record; what it leaves behind after a failure of u is of no use.
type fast interface{ unpack(u *unpacker) }

var (
	_ packed = (*mkdirRecord)(nil)
	_ fast   = (*mkdirRecord)(nil)
	_ packed = (*createRecord)(nil)
	_ fast   = (*createRecord)(nil)
	_ packed = (*addChunksRecord)(nil)
	_ fast   = (*addChunksRecord)(nil)
	_ packed = (*completeRecord)(nil)
	_ fast   = (*completeRecord)(nil)
	_ packed = (*renameRecord)(nil)
	_ fast   = (*renameRecord)(nil)
	_ packed = (*removeRecord)(nil)
	_ fast   = (*removeRecord)(nil)
)

// First bytes of msgpack values (msgpack.org, spec.md).
const (
	packNil    = 0xc0
	packFalse  = 0xc2
	packTrue   = 0xc3
	packBin8   = 0xc4
	packUint8  = 0xcc
	packUint16 = 0xcd
	packUint32 = 0xce
	packUint64 = 0xcf
	packInt8   = 0xd0
	packInt16  = 0xd1
	packInt32  = 0xd2
	packInt64  = 0xd3
	packStr8   = 0xd9
	packStr16  = 0xda
	packStr32  = 0xdb
	packArr16  = 0xdc
	packArr32  = 0xdd
	packFixArr = 0x90
	packFixStr = 0xa0
)

func packUint(b []byte, v uint64) []byte {
	switch {
	case v <= math.MaxInt8:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, packUint8, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, packUint16), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, packUint32), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, packUint64), v)
}

// packInt writes the signed forms that the codec chooses.
func packInt(b []byte, v int64) []byte {
	switch {
	case v >= -32 && v <= math.MaxInt8:
		return append(b, byte(v))
	case v >= math.MinInt8 && v < -32:
		return append(b, packInt8, byte(v))
	case v >= math.MinInt16 && v <= math.MaxInt16:
		return binary.BigEndian.AppendUint16(append(b, packInt16), uint16(v))
	case v >= math.MinInt32 && v <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(b, packInt32), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, packInt64), uint64(v))
}

func packBool(b []byte, v bool) []byte {
	if v {
		return append(b, packTrue)
	}
	return append(b, packFalse)
}

func packString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, packFixStr|byte(n))
	case n <= math.MaxUint8:
		b = append(b, packStr8, byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, packStr16), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, packStr32), uint32(n))
	}
	return append(b, s...)
}

// packID writes the 16 bytes of a client's or chunk's id.
func packID(b []byte, id [16]byte) []byte { return append(append(b, packBin8, 16), id[:]...) }

func packArray(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, packFixArr|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, packArr16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, packArr32), uint32(n))
}

func packList[T any](b []byte, list []T, item func([]byte, T) []byte) []byte {
	if list == nil {
		return append(b, packNil)
	}
	b = packArray(b, len(list))
	for _, v := range list {
		b = item(b, v)
	}
	return b
}

func packHead(b []byte, version uint8, h *header) []byte {
	b = packArray(packUint(b, uint64(version)), 4)
	b = packID(packInt(b, h.Time), h.Client)
	return packUint(packUint(b, h.Sequence), h.Oldest)
}

func packNode(b []byte, n uint16) []byte { return packUint(b, uint64(n)) }

func packPlacement(b []byte, p placement) []byte {
	return packList(packID(packArray(b, 2), p.ID), p.Nodes, packNode)
}

func packSealing(b []byte, q sealing) []byte {
	b = packUint(packArray(b, 3), uint64(q.Index))
	return packUint(packUint(b, q.Generation), uint64(q.Length))
}

func (r *mkdirRecord) pack(b []byte) []byte {
	b = packHead(packArray(b, 5), r.Version, &r.Head)
	return packList(packUint(packUint(b, r.Parent), r.FirstID), r.Names, packString)
}

func (r *createRecord) pack(b []byte) []byte {
	b = packHead(packArray(b, 14), r.Version, &r.Head)
	b = packList(packUint(packUint(b, r.Parent), r.FirstID), r.Directories, packString)
	b = packUint(packUint(packString(b, r.Name), uint64(r.Replication)), uint64(r.Blocks))
	b = packUint(packBool(packBool(b, r.Hidden), r.Overwrite), r.Replaced)
	return packList(packString(packString(b, r.Path), r.Holder), r.Chunks, packPlacement)
}

func (r *addChunksRecord) pack(b []byte) []byte {
	b = packUint(packHead(packArray(b, 7), r.Version, &r.Head), r.File)
	b = packBool(packList(b, r.Commits, packSealing), r.Replace)
	return packList(packUint(b, uint64(r.Index)), r.Chunks, packPlacement)
}

func (r *completeRecord) pack(b []byte) []byte {
	b = packUint(packHead(packArray(b, 8), r.Version, &r.Head), r.File)
	b = packUint(packList(b, r.Commits, packSealing), uint64(r.Keep))
	return packUint(packString(packUint(b, r.Parent), r.Name), r.Replaced)
}

func (r *renameRecord) pack(b []byte) []byte {
	b = packUint(packHead(packArray(b, 8), r.Version, &r.Head), r.Inode)
	b = packString(packUint(b, r.SourceParent), r.SourceName)
	return packUint(packString(packUint(b, r.TargetParent), r.TargetName), r.Replaced)
}

func (r *removeRecord) pack(b []byte) []byte {
	b = packUint(packHead(packArray(b, 5), r.Version, &r.Head), r.Inode)
	return packString(packUint(b, r.Parent), r.Name)
}

// readFast decodes a payload that pack wrote; false means that the codec must
// try, on an empty record.
func readFast(r fast, payload []byte) bool {
	u := unpacker{rest: payload}
	r.unpack(&u)
	return !u.failed && len(u.rest) == 0
}

// readFastShared is readFast whose strings are cut from one: they keep the whole
// payload's memory, so what outlives it must be cloned.
func readFastShared(r fast, payload []byte) bool {
	u := unpacker{rest: payload, text: string(payload)}
	r.unpack(&u)
	return !u.failed && len(u.rest) == 0
}

// unpacker reads the forms that the functions above write, and fails on all
// others: nothing it reads is trusted, and it allocates no more than it has
// seen bytes for.
type unpacker struct {
	rest   []byte
	failed bool
	// text is all of what is read, as one string from which strings are cut, or
	// "": then each is made by itself.
	text string
}

// take cuts n bytes off; nil after a failure.
func (u *unpacker) take(n int) []byte {
	if u.failed || n > len(u.rest) {
		u.failed = true
		return nil
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacker) byte() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads the big-endian number of n bytes behind a first byte.
func (u *unpacker) number(n int) (v uint64) {
	for _, c := range u.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

// uint reads an unsigned number of at most limit.
func (u *unpacker) uint(limit uint64) uint64 {
	c := u.byte()
	v := uint64(c)
	switch {
	case c <= math.MaxInt8:
	case c >= packUint8 && c <= packUint64:
		v = u.number(1 << (c - packUint8))
	default:
		u.failed = true
	}
	if v > limit {
		u.failed = true
	}
	return v
}

func (u *unpacker) uint64() uint64 { return u.uint(math.MaxUint64) }
func (u *unpacker) uint32() uint32 { return uint32(u.uint(math.MaxUint32)) }
func (u *unpacker) uint16() uint16 { return uint16(u.uint(math.MaxUint16)) }
func (u *unpacker) uint8() uint8   { return uint8(u.uint(math.MaxUint8)) }

func (u *unpacker) int64() int64 {
	c := u.byte()
	switch {
	case c <= math.MaxInt8 || c >= 0xe0:
		return int64(int8(c))
	case c >= packInt8 && c <= packInt64:
		bytes := 1 << (c - packInt8)
		unused := 64 - 8*bytes
		return int64(u.number(bytes)<<unused) >> unused
	}
	u.failed = true
	return 0
}

func (u *unpacker) bool() bool {
	c := u.byte()
	if c != packTrue && c != packFalse {
		u.failed = true
	}
	return c == packTrue
}

func (u *unpacker) string() string {
	c := u.byte()
	n := int(c &^ packFixStr)
	switch {
	case c&0xe0 == packFixStr:
	case c >= packStr8 && c <= packStr32:
		n = int(u.number(1 << (c - packStr8)))
	default:
		u.failed = true
	}
	if u.text == "" {
		return string(u.take(n))
	}
	from := len(u.text) - len(u.rest)
	u.take(n)
	if u.failed {
		return ""
	}
	return u.text[from : from+n]
}

func (u *unpacker) id() (id [16]byte) {
	if u.byte() != packBin8 || u.byte() != 16 {
		u.failed = true
	}
	copy(id[:], u.take(len(id)))
	return id
}

// array reads the length of a list; -1 for nil. Every item takes at least a
// byte, so a length beyond what is left is refused.
func (u *unpacker) array() int {
	c := u.byte()
	n := int(c &^ packFixArr)
	switch {
	case c == packNil:
		return -1
	case c&0xf0 == packFixArr:
	case c == packArr16:
		n = int(u.number(2))
	case c == packArr32:
		n = int(u.number(4))
	default:
		u.failed = true
	}
	if n > len(u.rest) {
		u.failed = true
	}
	return n
}

// elements demands a struct of n elements.
func (u *unpacker) elements(n int) {
	if u.array() != n {
		u.failed = true
	}
}

func unpackList[T any](u *unpacker, item func(*unpacker) T) []T {
	n := u.array()
	if n < 0 || u.failed {
		return nil
	}
	list := make([]T, 0, min(n, recordItemsInit))
	for i := 0; i < n && !u.failed; i++ {
		list = append(list, item(u))
	}
	return list
}

func (u *unpacker) head(version *uint8, h *header) {
	*version = u.uint8()
	u.elements(4)
	h.Time, h.Client = u.int64(), u.id()
	h.Sequence, h.Oldest = u.uint64(), u.uint64()
}

func unpackPlacement(u *unpacker) (p placement) {
	u.elements(2)
	p.ID = chunk.ID(u.id())
	p.Nodes = unpackList(u, (*unpacker).uint16)
	return p
}

func unpackSealing(u *unpacker) (q sealing) {
	u.elements(3)
	q.Index, q.Generation, q.Length = u.uint32(), u.uint64(), u.uint32()
	return q
}

func (r *mkdirRecord) unpack(u *unpacker) {
	u.elements(5)
	u.head(&r.Version, &r.Head)
	r.Parent, r.FirstID = u.uint64(), u.uint64()
	r.Names = unpackList(u, (*unpacker).string)
}

func (r *createRecord) unpack(u *unpacker) {
	u.elements(14)
	u.head(&r.Version, &r.Head)
	r.Parent, r.FirstID = u.uint64(), u.uint64()
	r.Directories = unpackList(u, (*unpacker).string)
	r.Name, r.Replication, r.Blocks = u.string(), u.uint8(), u.uint16()
	r.Hidden, r.Overwrite, r.Replaced = u.bool(), u.bool(), u.uint64()
	r.Path, r.Holder = u.string(), u.string()
	r.Chunks = unpackList(u, unpackPlacement)
}

func (r *addChunksRecord) unpack(u *unpacker) {
	u.elements(7)
	u.head(&r.Version, &r.Head)
	r.File = u.uint64()
	r.Commits = unpackList(u, unpackSealing)
	r.Replace, r.Index = u.bool(), u.uint32()
	r.Chunks = unpackList(u, unpackPlacement)
}

func (r *completeRecord) unpack(u *unpacker) {
	u.elements(8)
	u.head(&r.Version, &r.Head)
	r.File = u.uint64()
	r.Commits = unpackList(u, unpackSealing)
	r.Keep, r.Parent = u.uint32(), u.uint64()
	r.Name, r.Replaced = u.string(), u.uint64()
}

func (r *renameRecord) unpack(u *unpacker) {
	u.elements(8)
	u.head(&r.Version, &r.Head)
	r.Inode = u.uint64()
	r.SourceParent, r.SourceName = u.uint64(), u.string()
	r.TargetParent, r.TargetName = u.uint64(), u.string()
	r.Replaced = u.uint64()
}

func (r *removeRecord) unpack(u *unpacker) {
	u.elements(5)
	u.head(&r.Version, &r.Head)
	r.Inode, r.Parent, r.Name = u.uint64(), u.uint64(), u.string()
}
