package msgpack

import (
	"encoding/binary"
	"math"
)

// Writer is the bytes that were written; like append, each method gives what is to be used from then on. It is a
// slice, and no struct, so that a chain of values stays in registers.
type Writer []byte

// Uint writes a number of an unsigned type.
func (w Writer) Uint(value uint64) Writer {
	switch {
	case value <= math.MaxInt8:
		return append(w, byte(value))
	case value <= math.MaxUint8:
		return append(w, codeUint8, byte(value))
	case value <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(w, codeUint16), uint16(value))
	case value <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(w, codeUint32), uint32(value))
	}
	return binary.BigEndian.AppendUint64(append(w, codeUint64), value)
}

// Int writes a number of a signed type. Like the codec it gives large numbers a signed form, even if they are positive.
func (w Writer) Int(value int64) Writer {
	switch {
	case value >= -32 && value <= math.MaxInt8:
		return append(w, byte(value))
	case value >= math.MinInt8 && value < -32:
		return append(w, codeInt8, byte(value))
	case value >= math.MinInt16 && value <= math.MaxInt16:
		return binary.BigEndian.AppendUint16(append(w, codeInt16), uint16(value))
	case value >= math.MinInt32 && value <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(w, codeInt32), uint32(value))
	}
	return binary.BigEndian.AppendUint64(append(w, codeInt64), uint64(value))
}

// Bool writes a bool.
func (w Writer) Bool(v bool) Writer {
	if v {
		return append(w, codeTrue)
	}
	return append(w, codeFalse)
}

// Text writes a string.
func (w Writer) Text(text string) Writer {
	switch n := len(text); {
	case n < 32:
		w = append(w, codeFixStr|byte(n))
	case n <= math.MaxUint8:
		w = append(w, codeStr8, byte(n))
	case n <= math.MaxUint16:
		w = binary.BigEndian.AppendUint16(append(w, codeStr16), uint16(n))
	default:
		w = binary.BigEndian.AppendUint32(append(w, codeStr32), uint32(n))
	}
	return append(w, text...)
}

// ID writes the 16 bytes of an id as a byte string.
func (w Writer) ID(id [16]byte) Writer { return append(append(w, codeBin8, 16), id[:]...) }

// ShortBytes writes a byte string of less than 256 bytes; nil is a value of its own.
func (w Writer) ShortBytes(s []byte) Writer {
	if s == nil {
		return append(w, codeNil)
	}
	return append(append(w, codeBin8, byte(len(s))), s...)
}

// Array writes the head of an array, or struct, of n elements, which follow.
func (w Writer) Array(n int) Writer {
	switch {
	case n < 16:
		return append(w, codeFixArray|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(w, codeArray16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(w, codeArray32), uint32(n))
}

// WriteList writes a list; nil is a value of its own. item writes one element,
// which is passed by pointer since it may be large.
func WriteList[T any](w Writer, list []T, item func(Writer, *T) Writer) Writer {
	if list == nil {
		return append(w, codeNil)
	}
	w = w.Array(len(list))
	for i := range list {
		w = item(w, &list[i])
	}
	return w
}

// Texts writes a list of strings.
func (w Writer) Texts(list []string) Writer {
	return WriteList(w, list, func(w Writer, s *string) Writer { return w.Text(*s) })
}

// WriteUint16s writes a list of unsigned numbers.
func WriteUint16s[T ~uint16](w Writer, list []T) Writer {
	return WriteList(w, list, func(w Writer, n *T) Writer { return w.Uint(uint64(*n)) })
}
