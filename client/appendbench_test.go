package client_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/client"
)

// BenchmarkAppend measures one writer, three replicas on one disk, beside what the same disk does for one loop that
// appends and calls fdatasync. Directories are made below TMPDIR.
func BenchmarkAppend(b *testing.B) {
	b.Run("flushed-100B", func(b *testing.B) { benchmarkAppend(b, 100, (*client.FileWriter).Flush) })
	b.Run("synced-4KiB", func(b *testing.B) { benchmarkAppend(b, 4096, (*client.FileWriter).Sync) })
	b.Run("fdatasync-4KiB", func(b *testing.B) {
		f, err := os.OpenFile(filepath.Join(b.TempDir(), "f"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		require.NoError(b, err)
		record := make([]byte, 4096)
		for b.Loop() {
			_, err := f.Write(record)
			require.NoError(b, err)
			require.NoError(b, unix.Fdatasync(int(f.Fd())))
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		require.NoError(b, f.Close())
	})
}

func benchmarkAppend(b *testing.B, size int, push func(*client.FileWriter, context.Context) error) {
	m := startMini(b, 3)
	w, err := m.Create(b.Context(), "/f", client.CreateOptions{Replication: 3})
	require.NoError(b, err)
	record := make([]byte, size)
	for b.Loop() {
		_, err := w.Write(record)
		require.NoError(b, err)
		require.NoError(b, push(w, b.Context()))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	require.NoError(b, w.Close())
}
