package pack

import (
	"math/rand/v2"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testID makes the id of chunk n.
func testID(n int) chunk.ID {
	return chunk.NewID(uint64(testTime.UnixMilli())+uint64(n), [10]byte{byte(n >> 8), byte(n), 3, 4, 5, 6, 7, 8, 9,
		byte(n)})
}

// pattern is n bytes that depend on the seed.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}
