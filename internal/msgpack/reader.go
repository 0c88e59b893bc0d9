package msgpack

import "math"

// listItemsInit is what is allocated at most for a list before its elements were seen.
const listItemsInit = 256

// Reader reads the forms that a Writer writes, and fails on all others. Nothing that it reads is trusted: it
// allocates no more than it has seen bytes for. After a failure all that it gave and gives is void.
type Reader struct {
	rest   []byte
	failed bool
	// text is all of what is read, as one string from which strings are cut, or "": then each string is made by itself.
	text string
}

// Reset begins to read data; strings are copies, each by itself.
func (r *Reader) Reset(data []byte) { *r = Reader{rest: data} }

// ResetShared begins to read data; its strings are cut from one copy of data.
// One that is kept keeps all of it, so what outlives the others must be cloned.
func (r *Reader) ResetShared(data []byte) { *r = Reader{rest: data, text: string(data)} }

// Failed reports whether something was refused.
func (r *Reader) Failed() bool { return r.failed }

// Done reports whether all was read and nothing refused.
func (r *Reader) Done() bool { return !r.failed && len(r.rest) == 0 }

// cut takes n bytes off; nil after a failure.
func (r *Reader) cut(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *Reader) byte() byte {
	if len(r.rest) == 0 {
		r.failed = true
		return 0
	}
	c := r.rest[0]
	r.rest = r.rest[1:]
	return c
}

// bigEndian reads the number of n bytes behind a first byte.
func (r *Reader) bigEndian(n int) (v uint64) {
	for _, c := range r.cut(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

// uint reads an unsigned number of at most limit.
func (r *Reader) uint(limit uint64) uint64 {
	c := r.byte()
	value := uint64(c)
	switch {
	case c <= math.MaxInt8:
	case c >= codeUint8 && c <= codeUint64:
		value = r.bigEndian(1 << (c - codeUint8))
	default:
		r.failed = true
	}
	if value > limit {
		r.failed = true
	}
	return value
}

// Uint64 reads an unsigned number.
func (r *Reader) Uint64() uint64 { return r.uint(math.MaxUint64) }

// Uint32 reads an unsigned number that fits.
func (r *Reader) Uint32() uint32 { return uint32(r.uint(math.MaxUint32)) }

// Uint16 reads an unsigned number that fits.
func (r *Reader) Uint16() uint16 { return uint16(r.uint(math.MaxUint16)) }

// Uint8 reads an unsigned number that fits.
func (r *Reader) Uint8() uint8 { return uint8(r.uint(math.MaxUint8)) }

// Int64 reads a number of a signed type.
func (r *Reader) Int64() int64 {
	c := r.byte()
	switch {
	case c <= math.MaxInt8 || c >= codeNegative:
		return int64(int8(c))
	case c >= codeInt8 && c <= codeInt64:
		bytes := 1 << (c - codeInt8)
		unused := 64 - 8*bytes
		return int64(r.bigEndian(bytes)<<unused) >> unused
	}
	r.failed = true
	return 0
}

// Bool reads a bool.
func (r *Reader) Bool() bool {
	c := r.byte()
	if c != codeTrue && c != codeFalse {
		r.failed = true
	}
	return c == codeTrue
}

// textBytes reads a string in place.
func (r *Reader) textBytes() []byte {
	c := r.byte()
	n := int(c &^ codeFixStr)
	switch {
	case c&0xe0 == codeFixStr:
	case c >= codeStr8 && c <= codeStr32:
		n = int(r.bigEndian(1 << (c - codeStr8)))
	default:
		r.failed = true
	}
	return r.cut(n)
}

// Text reads a string.
func (r *Reader) Text() string {
	b := r.textBytes()
	if r.text == "" || r.failed {
		return string(b)
	}
	end := len(r.text) - len(r.rest)
	return r.text[end-len(b) : end]
}

// TextLike reads a string. It gives previous if that is the same, without an allocation.
func (r *Reader) TextLike(previous string) string {
	if b := r.textBytes(); string(b) != previous {
		return string(b)
	}
	return previous
}

// ID reads a byte string of 16 bytes.
func (r *Reader) ID() (id [16]byte) {
	if r.byte() != codeBin8 || r.byte() != 16 {
		r.failed = true
	}
	copy(id[:], r.cut(len(id)))
	return id
}

// ShortBytes reads a byte string of less than 256 bytes, or nil. It is not copied.
func (r *Reader) ShortBytes() []byte {
	switch r.byte() {
	case codeNil:
		return nil
	case codeBin8:
	default:
		r.failed = true
	}
	return r.cut(int(r.byte()))
}

// Array reads the length of a list; -1 for nil. Every item takes at least a
// byte, so a length beyond what is left is refused.
func (r *Reader) Array() int {
	c := r.byte()
	length := int(c &^ codeFixArray)
	switch {
	case c == codeNil:
		return -1
	case c&0xf0 == codeFixArray:
	case c == codeArray16:
		length = int(r.bigEndian(2))
	case c == codeArray32:
		length = int(r.bigEndian(4))
	default:
		r.failed = true
	}
	if length > len(r.rest) {
		r.failed = true
	}
	return length
}

// Struct demands a struct of n elements.
func (r *Reader) Struct(n int) {
	if r.Array() != n {
		r.failed = true
	}
}

// ReadList reads a list.
func ReadList[T any](r *Reader, item func(*Reader) T) []T {
	n := r.Array()
	if n < 0 || r.failed {
		return nil
	}
	list := make([]T, 0, min(n, listItemsInit))
	for i := 0; i < n && !r.failed; i++ {
		list = append(list, item(r))
	}
	return list
}

// Texts reads a list of strings.
func (r *Reader) Texts() []string { return ReadList(r, (*Reader).Text) }

// ReadUint16s reads a list of unsigned numbers.
func ReadUint16s[T ~uint16](r *Reader) []T {
	return ReadList(r, func(r *Reader) T { return T(r.Uint16()) })
}

// Extend lengthens a list by one item, for a loop that reads a list to the memory
// of an older one: the item holds what stood there before, to be overwritten.
func Extend[T any](list []T) ([]T, *T) {
	if len(list) < cap(list) {
		list = list[:len(list)+1]
	} else {
		var zero T
		list = append(list, zero)
	}
	return list, &list[len(list)-1]
}
