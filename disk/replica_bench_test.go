package disk

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/vfs"
)

// benchmarkReplica makes a store below WW_BENCH_DIR and an open replica in it.
func benchmarkReplica(b *testing.B) (*Store, *Writer) {
	root, err := os.MkdirTemp(os.Getenv("WW_BENCH_DIR"), "ww-replica-")
	require.NoError(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(root) })
	s := openStore(b, Options{Directories: []string{filepath.Join(root, "d")}, FS: vfs.OS{}})
	w, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: 64 << 20})
	require.NoError(b, err)
	return s, w
}

// BenchmarkAppend appends to a replica: verified blocks, the file of checksums,
// write-out. A full one is followed by the next. One op is one append, with its
// sync where that is said.
func BenchmarkAppend(b *testing.B) {
	for _, bytes := range []int{100, 4096, 256 << 10} {
		for _, sync := range []bool{false, true} {
			b.Run(strconv.Itoa(bytes)+map[bool]string{true: "-synced"}[sync], func(b *testing.B) {
				s, w := benchmarkReplica(b)
				data := pattern(1, bytes)
				done := make(chan error, 1)
				report := func(_ int64, err error) { done <- err }
				replica := 1
				b.SetBytes(int64(bytes))
				b.ReportAllocs()
				for b.Loop() {
					if w.Length()+int64(bytes) > 64<<20 {
						b.StopTimer()
						mustSeal(b, w)
						require.NoError(b, s.Delete(testID(replica), 1))
						replica++
						var err error
						w, err = s.Create(testID(replica), 1, CreateOptions{ChunkSize: 64 << 20})
						require.NoError(b, err)
						b.StartTimer()
					}
					err := w.Submit(Job{Offset: w.Length(), Data: data, Sync: sync, Done: report})
					if err == nil {
						err = <-done
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRead reads a sealed replica of 64 MiB from the page cache: with the
// checksums that go out with the bytes, and without touching the bytes (a range,
// as sendfile gets it).
func BenchmarkRead(b *testing.B) {
	const size, piece = 64 << 20, 256 << 10
	s, w := benchmarkReplica(b)
	done := make(chan error, 1)
	report := func(_ int64, err error) { done <- err }
	data := pattern(1, piece)
	for w.Length() < size {
		require.NoError(b, w.Submit(Job{Offset: w.Length(), Data: data, Seal: w.Length() == size-piece, Done: report}))
		require.NoError(b, <-done)
	}
	r, err := s.OpenReader(testID(1), 0)
	require.NoError(b, err)
	b.Cleanup(func() { _ = r.Close() })
	buffer := make([]byte, piece)
	run := func(name string, moved int64, read func(offset int64) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(moved)
			b.ReportAllocs()
			offset := int64(0)
			for b.Loop() {
				if err := read(offset); err != nil {
					b.Fatal(err)
				}
				offset = (offset + piece) % size
			}
		})
	}
	run("range", 0, func(offset int64) error { _, err := r.Range(offset, piece); return err })
	run("readat", piece, func(offset int64) error { _, err := r.ReadAt(buffer, offset); return err })
}
