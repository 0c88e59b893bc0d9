package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

const blockBytes = chunk.ChecksumBlockBytes

// sizes around every border: packet, block, chunk (two packets).
var sizes = []int{0, 1, 4095, 4096, 4097, blockBytes - 1, blockBytes, blockBytes + 1, 2*blockBytes - 1, 2 * blockBytes,
	2*blockBytes + 1, 3 * blockBytes, 4 * blockBytes, 6*blockBytes + 17, 20*blockBytes + 3}

var chunk128 = client.CreateOptions{ChunkSize: 2 * blockBytes}

func TestStoredFilesComeBackWhole(t *testing.T) {
	c := newCluster(t, 4)
	for i, size := range sizes {
		content := pattern(uint64(i), size)
		var progress atomic.Int64
		info, err := c.Store(t.Context(), "/f", bytes.NewReader(content), int64(size), client.StoreOptions{
			CreateOptions: client.CreateOptions{ChunkSize: 2 * blockBytes,
				Overwrite: true}, Progress: func(n int64) { progress.Add(n) }})
		require.NoError(t, err, "size %d", size)
		require.Equal(t, int64(size), info.Length)
		require.Equal(t, int64(size), progress.Load())
		require.False(t, info.Open)
		c.everywhere("/f", content)
		same(t, content, c.get("/f"))

		target := &memory{}
		progress.Store(0)
		info, err = c.Fetch(t.Context(), "/f", target, client.FetchOptions{Progress: func(n int64) { progress.Add(n) }})
		require.NoError(t, err)
		require.Equal(t, int64(size), info.Length)
		require.Equal(t, int64(size), progress.Load())
		same(t, content, target.content)
	}
}

// memory is an io.WriterAt that grows.
type memory struct {
	sync.Mutex
	content []byte
}

func (m *memory) WriteAt(p []byte, offset int64) (int, error) {
	m.Lock()
	defer m.Unlock()
	if grow := int(offset) + len(p) - len(m.content); grow > 0 {
		m.content = append(m.content, make([]byte, grow)...)
	}
	return copy(m.content[offset:], p), nil
}

func TestWrittenFilesComeBackWhole(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		c := newCluster(t, 3)
		for i, size := range sizes {
			content := pattern(uint64(100+i), size)
			w, err := c.Create(t.Context(), "/d/f", client.CreateOptions{ChunkSize: 2 * blockBytes, Overwrite: true,
				Parents: true, VisibleOnComplete: hidden})
			require.NoError(t, err)
			source := rand.New(rand.NewPCG(1, uint64(size)))
			for rest := content; len(rest) > 0; {
				n := min(len(rest), 1+source.IntN(3*blockBytes))
				m, err := w.Write(rest[:n])
				require.NoError(t, err)
				require.Equal(t, n, m)
				rest = rest[n:]
				if source.IntN(3) == 0 {
					require.NoError(t, w.Flush(t.Context()))
				}
				if source.IntN(4) == 0 {
					require.NoError(t, w.Sync(t.Context()))
				}
			}
			require.Equal(t, int64(size), w.Offset())
			require.NoError(t, w.Close())
			require.NoError(t, w.Close())
			require.Equal(t, int64(size), w.Info().Length)
			c.everywhere("/d/f", content)
			same(t, content, c.get("/d/f"))
			_, err = w.Write([]byte("x"))
			require.ErrorIs(t, err, fault.Closed)
		}
	}
}

func TestASmallFileTakesOneSessionAndTwoCalls(t *testing.T) {
	c := newCluster(t, 3)
	c.put("/f", pattern(1, 4096), client.CreateOptions{})
	require.Equal(t, 1, c.namenode.count("Create"))
	require.Equal(t, 1, c.namenode.count("Complete"))
	require.Zero(t, c.namenode.count("AddChunks"))
	for _, d := range c.nodes {
		d.set(func() { require.Equal(t, 1, d.accepted) })
	}
}

func TestConnectionsAreReused(t *testing.T) {
	c := newCluster(t, 1)
	one := client.CreateOptions{Replication: 1, ChunkSize: blockBytes, Overwrite: true}
	for i := range 10 {
		c.put("/f", pattern(uint64(i), 1000), one)
		c.get("/f")
	}
	c.nodes[0].set(func() { require.Equal(t, 1, c.nodes[0].accepted) })
	// A datanode that restarts closes idle connections; the next use dials.
	c.nodes[0].stop()
	c.nodes[0].listen(t, c.nodes[0].address)
	c.put("/f", pattern(77, 1000), one)
	require.Zero(t, c.namenode.count("AddChunks"), "the node was blamed")
}

func TestAppendGoesOnAtEveryBorder(t *testing.T) {
	c := newCluster(t, 3)
	for i, size := range sizes {
		for _, more := range []int{0, 1, blockBytes - 1, 2*blockBytes + 5} {
			content := pattern(uint64(i), size+more)
			o := chunk128
			o.Overwrite = true
			c.put("/f", content[:size], o)
			w, err := c.Append(t.Context(), "/f", client.AppendOptions{})
			require.NoError(t, err)
			require.Equal(t, int64(size), w.Offset())
			_, err = w.Write(content[size:])
			require.NoError(t, err)
			require.NoError(t, w.Close())
			require.Equal(t, int64(len(content)), w.Info().Length)
			same(t, content, c.get("/f"))
			if more > 0 {
				c.everywhere("/f", content)
			}
		}
	}
}

func TestReaderSeesFlushedBytesAndNoOthers(t *testing.T) {
	c := newCluster(t, 3)
	reader := c.dial()
	content := pattern(9, 7*blockBytes+99)
	w, err := c.Create(t.Context(), "/log", chunk128)
	require.NoError(t, err)
	r, err := reader.Open(t.Context(), "/log")
	require.NoError(t, err)
	var seen []byte
	buffer := make([]byte, 3*blockBytes)
	for rest, written := content, 0; len(rest) > 0; {
		n := min(len(rest), 50_001)
		_, err := w.Write(rest[:n])
		require.NoError(t, err)
		rest = rest[n:]
		written += n
		require.NoError(t, w.Flush(t.Context()))
		for {
			n, err := r.Read(buffer)
			seen = append(seen, buffer[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
		}
		same(t, content[:written], seen)
		fresh, err := reader.Open(t.Context(), "/log")
		require.NoError(t, err)
		all, err := io.ReadAll(fresh)
		require.NoError(t, err)
		same(t, content[:written], all)
		require.NoError(t, fresh.Close())
	}
	_, err = w.Write([]byte("not flushed"))
	require.NoError(t, err)
	size, err := r.Size(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(len(content)), size)
	require.NoError(t, w.Close())
	size, err = r.Size(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(len(content)+11), size)
	require.NoError(t, r.Close())
}

// A datanode whose machine lost power may have lost bytes that were flushed and not synced. Readers do not take its
// word for the end of the file.
func TestARestartedReplicaDoesNotEndAFile(t *testing.T) {
	c := newCluster(t, 3)
	content := pattern(4, 100_000)
	w, err := c.Create(t.Context(), "/log", chunk128)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	c.namenode.set(func() { c.namenode.readOrder = []string{"dn0", "dn1", "dn2"} })
	c.nodes[0].set(func() {
		for _, r := range c.nodes[0].replicas {
			r.data, r.state = r.data[:70_000], chunk.Recovered
		}
	})
	same(t, content, c.get("/log"))

	// The others might say more, and are away: that is no end either.
	away := func(s step) error {
		if s.op == wire.OpStat {
			return fault.New(fault.Unavailable, "test", "away")
		}
		return nil
	}
	for _, n := range c.nodes[1:] {
		n.set(func() { n.hook = away })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := c.Open(ctx, "/log")
	if err == nil {
		_, err = r.Size(ctx)
		_ = r.Close()
	}
	require.ErrorIs(t, err, fault.Unavailable)

	// All of them were restarted: the longest has everything that is left.
	for i, n := range c.nodes[1:] {
		n.set(func() {
			n.hook = nil
			for _, r := range n.replicas {
				r.data, r.state = r.data[:80_000+i], chunk.Recovered
			}
		})
	}
	same(t, content[:80_001], c.get("/log"))
	require.NoError(t, w.Abort())
}

func TestReaderWhileAppendHasReopenedNothingYet(t *testing.T) {
	c := newCluster(t, 3)
	content := pattern(3, 100_000)
	c.put("/f", content, client.CreateOptions{})
	w, err := c.Append(t.Context(), "/f", client.AppendOptions{})
	require.NoError(t, err)
	same(t, content, c.get("/f")) // the namenode's generation is ahead of the replicas'
	require.NoError(t, w.Close())
	same(t, content, c.get("/f"))
}

func TestReaderKeepsTheContractOfPackageIO(t *testing.T) {
	c := newCluster(t, 3)
	content := pattern(5, 1234)
	c.put("/f", content, chunk128)
	r, err := c.Open(t.Context(), "/f")
	require.NoError(t, err)
	require.NoError(t, iotest.TestReader(r, content))
	require.NoError(t, r.Close())
}

func TestReadAndSeekWalkLikeABytesReader(t *testing.T) {
	c := newCluster(t, 3)
	content := pattern(6, 11*blockBytes+4321)
	c.put("/f", content, client.CreateOptions{ChunkSize: 3 * blockBytes})
	for _, ahead := range []int64{-1, 1, 256 << 10, 0} {
		cl := c.dial(func(o *client.Options) { o.ReadaheadBytes = ahead })
		r, err := cl.Open(t.Context(), "/f")
		require.NoError(t, err)
		model := bytes.NewReader(content)
		source := rand.New(rand.NewPCG(3, uint64(ahead)))
		for range 300 {
			if source.IntN(4) == 0 {
				offset := source.Int64N(int64(len(content)) + 100)
				_, err := r.Seek(offset, io.SeekStart)
				require.NoError(t, err)
				_, err = model.Seek(offset, io.SeekStart)
				require.NoError(t, err)
			}
			got, want := make([]byte, 1+source.IntN(90_000)), make([]byte, 90_000)
			n, err := r.Read(got)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				require.Zero(t, n)
				require.Zero(t, model.Len())
				continue
			}
			require.NotZero(t, n)
			m, err := io.ReadFull(model, want[:n])
			require.NoError(t, err)
			same(t, want[:m], got[:n])
		}
		require.NoError(t, r.Close())
	}
}

func TestRandomReads(t *testing.T) {
	c := newCluster(t, 3)
	content := pattern(5, 11*blockBytes+4321)
	c.put("/f", content, client.CreateOptions{ChunkSize: 3 * blockBytes})
	for _, ahead := range []int64{-1, 0} {
		cl := c.dial(func(o *client.Options) { o.ReadaheadBytes = ahead })
		r, err := cl.Open(t.Context(), "/f")
		require.NoError(t, err)
		var group sync.WaitGroup
		for g := range 6 {
			group.Go(func() {
				source := rand.New(rand.NewPCG(uint64(g), 2))
				for range 40 {
					offset := source.IntN(len(content))
					p := make([]byte, source.IntN(4*blockBytes))
					n, err := r.ReadAt(p, int64(offset))
					want := content[offset:min(len(content), offset+len(p))]
					if !bytes.Equal(want, p[:n]) || (n < len(p)) != errors.Is(err, io.EOF) {
						t.Errorf("read %d+%d: %d bytes, %v", offset, len(p), n, err)
					}
				}
			})
		}
		group.Wait()
		_, err = r.Seek(-100, io.SeekEnd)
		require.NoError(t, err)
		var tail bytes.Buffer
		n, err := r.WriteTo(&tail)
		require.NoError(t, err)
		require.Equal(t, int64(100), n)
		same(t, content[len(content)-100:], tail.Bytes())
		_, err = r.Seek(0, io.SeekStart)
		require.NoError(t, err)
		tail.Reset()
		_, err = r.WriteTo(&tail)
		require.NoError(t, err)
		same(t, content, tail.Bytes())
		_, err = r.ReadAt(make([]byte, 1), int64(len(content)))
		require.ErrorIs(t, err, io.EOF)
		_, err = r.ReadAt(make([]byte, 1), -1)
		require.ErrorIs(t, err, fault.Invalid)
		_, err = r.Seek(-1, io.SeekStart)
		require.ErrorIs(t, err, fault.Invalid)
		require.NoError(t, r.Close())
		_, err = r.Read(make([]byte, 1))
		require.ErrorIs(t, err, fault.Closed)
	}
}

func TestAbort(t *testing.T) {
	c := newCluster(t, 3)
	w, err := c.Create(t.Context(), "/hidden", client.CreateOptions{ChunkSize: blockBytes, VisibleOnComplete: true})
	require.NoError(t, err)
	_, err = w.Write(pattern(1, 5*blockBytes+7))
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	require.NoError(t, w.Abort())
	_, err = w.Write([]byte("x"))
	require.ErrorIs(t, err, fault.Closed)
	require.ErrorIs(t, w.Close(), fault.Closed)
	_, err = c.Stat(t.Context(), "/hidden")
	require.ErrorIs(t, err, fault.NotFound)
	c.namenode.set(func() { require.Equal(t, 1, c.namenode.abandoned) })

	w, err = c.Create(t.Context(), "/visible", chunk128)
	require.NoError(t, err)
	_, err = w.Write(pattern(1, 1000))
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	require.NoError(t, w.Abort())
	require.Equal(t, 1, c.namenode.count("RecoverLease"))
	require.Equal(t, 1, func() (n int) { c.namenode.set(func() { n = c.namenode.abandoned }); return }(),
		"a visible file must never be abandoned")
}

func TestAStoreThatFailsLeavesNothing(t *testing.T) {
	c := newCluster(t, 3)
	broken := errors.New("the source broke")
	source := iotestReaderAt{pattern(1, 10*blockBytes), 7 * blockBytes, broken}
	_, err := c.Store(t.Context(), "/f", source, 10*blockBytes, client.StoreOptions{CreateOptions: chunk128})
	require.ErrorIs(t, err, broken)
	_, err = c.Store(t.Context(), "/f", bytes.NewReader(pattern(1, 100)), 200, client.StoreOptions{})
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "it ended after 100 bytes, 200 were announced")
	_, err = c.Stat(t.Context(), "/f")
	require.ErrorIs(t, err, fault.NotFound)
	c.namenode.set(func() { require.Equal(t, 2, c.namenode.abandoned); require.Empty(t, c.namenode.ids) })
	require.Zero(t, client.OpenConnections(c.Client))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Store(ctx, "/f", bytes.NewReader(nil), 0, client.StoreOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// iotestReaderAt fails beyond a limit.
type iotestReaderAt struct {
	content []byte
	limit   int64
	err     error
}

func (s iotestReaderAt) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > s.limit {
		return 0, s.err
	}
	return copy(p, s.content[offset:]), nil
}

func TestChecksumIsOfContentAndChunkSize(t *testing.T) {
	c := newCluster(t, 4)
	content := pattern(8, 5*blockBytes+1)
	c.put("/a", content, chunk128)
	c.put("/b", content, chunk128)
	c.put("/c", content, client.CreateOptions{ChunkSize: 3 * blockBytes})
	c.put("/d", pattern(9, len(content)), chunk128)
	c.put("/e", nil, chunk128)
	sum := func(path string) string {
		s, err := c.Checksum(t.Context(), path)
		require.NoError(t, err)
		require.Regexp(t, "^xxh3-[0-9a-f]{16}$", s)
		return s
	}
	require.Equal(t, sum("/a"), sum("/b"))
	require.NotEqual(t, sum("/a"), sum("/c"))
	require.NotEqual(t, sum("/a"), sum("/d"))
	sum("/e")
	w, err := c.Create(t.Context(), "/open", chunk128)
	require.NoError(t, err)
	_, err = c.Checksum(t.Context(), "/open")
	require.ErrorIs(t, err, fault.LeaseHeld)
	require.NoError(t, w.Close())
	_, err = c.Checksum(t.Context(), "/none")
	require.ErrorIs(t, err, fault.NotFound)
}
