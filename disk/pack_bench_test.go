package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
)

// BenchmarkSmall stores 4 KiB replicas, durably, with and without packing, on
// one store and on three at once (the replicas of a pipeline on one machine).
// One op is one replica on every store. WW_BENCH_DIR is where.
func BenchmarkSmall(b *testing.B) {
	for _, stores := range []int{1, 3} {
		for _, writers := range []int{1, 16, 64} {
			for _, kind := range []string{"file", "record"} {
				b.Run(fmt.Sprintf("stores=%d/writers=%d/%s", stores, writers, kind), func(b *testing.B) {
					benchmarkSmall(b, stores, writers, kind == "record")
				})
			}
		}
	}
}

func benchmarkSmall(b *testing.B, stores, writers int, packed bool) {
	root, err := os.MkdirTemp(os.Getenv("WW_BENCH_DIR"), "ww-small-")
	require.NoError(b, err)
	defer os.RemoveAll(root)
	list := make([]*Store, stores)
	for i := range list {
		o := Options{Directories: []string{filepath.Join(root, fmt.Sprint(i))}, FS: vfs.OS{}}
		if packed {
			o.PackBytesMax = pack.DataBytesMax
		}
		list[i] = openStore(b, o)
	}
	data := pattern(1, 4096)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			done := make(chan error, stores)
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				id := chunk.NewID(uint64(n), [10]byte{9: byte(n)})
				for _, s := range list {
					w, err := s.Create(id, 1, CreateOptions{ChunkSize: chunk.SizeDefault, SizeHint: int64(len(data))})
					if err == nil {
						err = w.Submit(Job{Data: data, Seal: true, Done: func(_ int64, err error) { done <- err }})
					}
					if err != nil {
						done <- err
					}
				}
				for range list {
					if err := <-done; err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
