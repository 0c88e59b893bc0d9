package step

import (
	"encoding/binary"

	"github.com/whispering-woods/ww/internal/chunk"
)

// Random is a deterministic stream of numbers from a command's random bytes: splitmix64 over both halves of the seed.
// Two commands with equal seeds draw equal numbers, so the seed must be fresh for each.
type Random struct{ low, high, drawn uint64 }

// NewRandom starts a stream.
func NewRandom(seed [16]byte) Random {
	return Random{low: binary.LittleEndian.Uint64(seed[:8]), high: binary.LittleEndian.Uint64(seed[8:])}
}

// Uint64 draws 64 bits.
func (r *Random) Uint64() uint64 {
	r.drawn++
	return mix64(mix64(r.low+r.drawn*0x9e3779b97f4a7c15) ^ (r.high + r.drawn*0xd1342543de82ef95))
}

// Below draws a number in 0..n-1; n is above 0. The bias of the modulo is below n/2^64.
func (r *Random) Below(n int) int { return int(r.Uint64() % uint64(n)) }

// ChunkID draws a UUIDv7.
func (r *Random) ChunkID(unixMillis int64) chunk.ID {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], r.Uint64())
	binary.LittleEndian.PutUint64(b[8:], r.Uint64())
	return chunk.NewID(uint64(max(unixMillis, 0)), [10]byte(b[:10]))
}

func mix64(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
