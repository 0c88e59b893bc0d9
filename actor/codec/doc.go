// Package codec is the form in which the state machine's changes are durable: edit records, the frames around them, and
// the frames of a checkpoint (docs/format/edit-record.md).
//
// It gives structs for what is in a frame, an Encoder and a Decoder of records, and a CheckpointWriter and a
// CheckpointReader. Structs are msgpack arrays; the frequent ones are written and read by hand (pack.go), the others by
// github.com/ugorji/go/codec, which defines the bytes of both.
//
// A new kind of edit record is a Kind and a struct here (record.go), a row in the table of package actor (records.go)
// with an apply function (apply.go), golden bytes, and a row in docs/format/edit-record.md.
//
// It owns no state and runs no goroutine. It trusts no byte that it reads, but
// does not know whether what it read fits the state: the actor does.
package codec
