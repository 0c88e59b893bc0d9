// Package msgpack writes and reads single msgpack values (msgpack.org, spec.md)
// for structs that are encoded too often for a codec driven by reflection.
//
// github.com/ugorji/go/codec stays the definition of the bytes: a Writer writes what it writes for the same value, and
// a Reader accepts these forms and no others. What a Reader refuses (a newer writer's additional elements, say) is not
// wrong for that reason: its caller asks the codec then. Tests of this package and of its callers compare the two.
//
// It owns no state and runs no goroutine. It knows neither frames nor structs.
package msgpack

// First bytes of values. Those from uint8 to uint64, from int8 to int64 and from str8 to str32 follow one another.
const (
	codeNil      = 0xc0
	codeFalse    = 0xc2
	codeTrue     = 0xc3
	codeBin8     = 0xc4
	codeUint8    = 0xcc
	codeUint16   = 0xcd
	codeUint32   = 0xce
	codeUint64   = 0xcf
	codeInt8     = 0xd0
	codeInt16    = 0xd1
	codeInt32    = 0xd2
	codeInt64    = 0xd3
	codeStr8     = 0xd9
	codeStr16    = 0xda
	codeStr32    = 0xdb
	codeArray16  = 0xdc
	codeArray32  = 0xdd
	codeFixArray = 0x90 // to 0x9f, with a length below 16
	codeFixStr   = 0xa0 // to 0xbf, with a length below 32
	codeNegative = 0xe0 // to 0xff, -32 to -1
)
