package chunkfile

import (
	"bytes"
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// SealSector writes the checksum of a sector into its last 8 bytes.
func SealSector(b []byte) {
	const body = SectorBytes - SumBytes
	binary.LittleEndian.PutUint64(b[body:], xxh3.Hash(b[:body]))
}

// SectorOK reports whether a sector matches its checksum.
func SectorOK(b []byte) bool {
	const body = SectorBytes - SumBytes
	return binary.LittleEndian.Uint64(b[body:]) == xxh3.Hash(b[:body])
}

// IsZero reports whether nothing was written there.
func IsZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
