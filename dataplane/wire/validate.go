package wire

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

const (
	addressBytesMax = 300 // a DNS name (253) and a port
	nameBytesMax    = 256
)

func badBody(op, format string, args ...any) error {
	return fault.New(fault.Invalid, op, format, args...)
}

func checkHops(op, what string, hops []Hop) error {
	for i, hop := range hops {
		if len(hop.NodeID) > nameBytesMax || len(hop.Address) > addressBytesMax || hop.Address == "" {
			return badBody(op, "%s %d: node id of %d bytes, address of %d bytes", what, i+1, len(hop.NodeID),
				len(hop.Address))
		}
	}
	return nil
}

// Validate checks what a decoder cannot: ranges and lengths. Error: fault.Invalid.
func (o *OpenWrite) Validate() error {
	const op = "open write"
	switch {
	case len(o.ChunkID) != len(chunk.ID{}):
		return badBody(op, "chunk id has %d bytes", len(o.ChunkID))
	case o.Generation == 0:
		return badBody(op, "generation 0")
	case o.Mode != ModeCreate && o.Mode != ModeAppend && o.Mode != ModeResume:
		return badBody(op, "mode %d", o.Mode)
	case o.Mode != ModeCreate && (o.PreviousGeneration == 0 || o.PreviousGeneration > o.Generation):
		return badBody(op, "previous generation %d before generation %d", o.PreviousGeneration, o.Generation)
	case limits.CheckChunkSize(o.ChunkSize) != "":
		return badBody(op, "%s", limits.CheckChunkSize(o.ChunkSize))
	case o.Offset < 0 || o.Offset > o.ChunkSize:
		return badBody(op, "offset %d in a chunk of %d bytes", o.Offset, o.ChunkSize)
	case o.Mode == ModeCreate && o.Offset != 0:
		return badBody(op, "a new replica begins at 0, not at %d", o.Offset)
	case o.SizeHint < 0 || o.WindowBytes < 0:
		return badBody(op, "size hint %d, window %d", o.SizeHint, o.WindowBytes)
	case len(o.Downstream) > HopsMax-1:
		return badBody(op, "%d hops downstream, limit %d", len(o.Downstream), HopsMax-1)
	case len(o.ClientName) > nameBytesMax:
		return badBody(op, "client name of %d bytes, limit %d", len(o.ClientName), nameBytesMax)
	case o.ReportMicros > 0 && o.ReportMicros < ReportMicrosLeast:
		return badBody(op, "a report every %d microseconds, at least %d", o.ReportMicros, ReportMicrosLeast)
	}
	return checkHops(op, "hop", o.Downstream)
}

// Validate checks ranges and lengths. Error: fault.Invalid.
func (o *OpenRead) Validate() error {
	const op = "open read"
	switch {
	case len(o.ChunkID) != len(chunk.ID{}):
		return badBody(op, "chunk id has %d bytes", len(o.ChunkID))
	case o.Offset < 0 || o.Offset > chunk.SizeMax:
		return badBody(op, "offset %d", o.Offset)
	case o.Length < -1 || o.Length > chunk.SizeMax:
		return badBody(op, "length %d", o.Length)
	}
	return nil
}

// Validate checks ranges and lengths. Error: fault.Invalid.
func (o *StatReplica) Validate() error {
	if len(o.ChunkID) != len(chunk.ID{}) {
		return badBody("stat replica", "chunk id has %d bytes", len(o.ChunkID))
	}
	return nil
}

// Validate checks ranges and lengths. Error: fault.Invalid.
func (o *RecoverReplica) Validate() error {
	const op = "recover replica"
	switch {
	case len(o.ChunkID) != len(chunk.ID{}):
		return badBody(op, "chunk id has %d bytes", len(o.ChunkID))
	case o.Phase != RecoverBegin && o.Phase != RecoverFinish:
		return badBody(op, "phase %d", o.Phase)
	case o.Generation == 0:
		return badBody(op, "generation 0")
	case o.Length < 0 || o.Length > chunk.SizeMax:
		return badBody(op, "length %d", o.Length)
	}
	return nil
}

// Validate checks a read reply that came from the network: a client may then
// trust that Sums covers DataLength. Error: fault.Protocol.
func (r *ReadReply) Validate() error {
	const op = "read reply"
	if r.Status.Code != 0 {
		return nil
	}
	if r.BlockBytes <= 0 || r.DataLength < 0 || r.DataOffset < 0 || r.DataOffset%int64(r.BlockBytes) != 0 ||
		r.DataLength > chunk.SizeMax || r.DataOffset > chunk.SizeMax || r.ReplicaLength < 0 ||
		r.ReplicaLength > chunk.SizeMax {
		return fault.New(fault.Protocol, op, "range %d+%d in blocks of %d, replica of %d bytes", r.DataOffset,
			r.DataLength, r.BlockBytes, r.ReplicaLength)
	}
	blocks := (r.DataLength + int64(r.BlockBytes) - 1) / int64(r.BlockBytes)
	if blocks > ReadBlocksMax || int64(len(r.Sums)) != 8*blocks {
		return fault.New(fault.Protocol, op, "%d bytes of sums for %d blocks", len(r.Sums), blocks)
	}
	return nil
}
