package chunkfile

import (
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testID makes the id of chunk n.
func testID(n int) chunk.ID {
	return chunk.NewID(uint64(testTime.UnixMilli())+uint64(n), [10]byte{byte(n >> 8), byte(n), 3, 4, 5, 6, 7, 8, 9, byte(n)})
}
