package client_test

import (
	"encoding/binary"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
)

// TestManySmallAppendsKeepMemoryFlat writes and flushes 100,000 records of 100 bytes through one writer, over dozens of
// chunks. The heap is that of client, datanode, namenode and log server together. APPENDS=1000000 makes it long.
func TestManySmallAppendsKeepMemoryFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	m := startMini(t, 1)
	w, err := m.Create(t.Context(), "/f", client.CreateOptions{Replication: 1, ChunkSize: 32 * blockBytes})
	require.NoError(t, err)
	record := make([]byte, 100)
	next := 0
	write := func(count int) uint64 {
		for range count {
			binary.LittleEndian.PutUint64(record, uint64(next))
			next++
			_, err := w.Write(record)
			require.NoError(t, err)
			require.NoError(t, w.Flush(t.Context()))
		}
		runtime.GC()
		runtime.GC() // the second one empties what pools kept
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	total := 100_000
	if text := os.Getenv("APPENDS"); text != "" {
		total, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	warm := total / 5
	before := write(warm)
	after := write(total - warm)
	t.Logf("heap after %d appends %d KiB, after %d %d KiB", warm, before>>10, total, after>>10)
	require.Less(t, int64(after)-int64(before), int64(2<<20))
	require.NoError(t, w.Close())
	content := m.get("/f")
	require.Len(t, content, next*len(record))
	for i := range next {
		require.Equal(t, uint64(i), binary.LittleEndian.Uint64(content[i*len(record):]))
	}
}
