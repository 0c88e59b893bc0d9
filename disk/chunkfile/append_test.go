package chunkfile

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

func TestRunningHashEqualsPlainHash(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := pattern(rapid.Uint64().Draw(rt, "seed"), 3*blockBytes)
		appender := &Appender{}
		var sums []byte
		length := int64(0)
		for length < int64(len(data)) {
			size := rapid.OneOf(rapid.Int64Range(1, 300), rapid.Int64Range(1, 3*blockBytes)).Draw(rt, "size")
			piece := data[length:min(length+size, int64(len(data)))]
			end, count := appender.hash(piece, length)
			length = end
			sums = append(sums, appender.sums[:count*SumBytes]...)
			if border := length / blockBytes * blockBytes; border < length {
				require.Equal(rt, xxh3.Hash(data[border:length]), appender.hasher.Sum64())
			}
		}
		require.Len(rt, sums, 3*SumBytes)
		for i := range int64(3) {
			require.Equal(rt, xxh3.Hash(data[i*blockBytes:(i+1)*blockBytes]), SumIn(sums, i))
		}
	})
}
