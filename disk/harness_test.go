package disk

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testChunkSize = 3 * blockBytes

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testID makes the id of chunk n.
func testID(n int) chunk.ID {
	return chunk.NewID(uint64(testTime.UnixMilli())+uint64(n), [10]byte{byte(n >> 8), byte(n), 3, 4, 5, 6, 7, 8, 9,
		byte(n)})
}

// testOptions are those of a store with one volume at /d and one worker.
func testOptions(fsys vfs.FS) Options {
	return Options{
		Directories: []string{"/d"}, FS: fsys, Clock: fakeclock.New(testTime), Logger: slog.New(slog.DiscardHandler),
		TrashDelay: time.Hour, WorkersPerVolume: 1, noMonitor: true, Random: rand.NewChaCha8([32]byte{1}),
	}
}

func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// reopenStore closes a store and opens it again.
func reopenStore(t testing.TB, s *Store) *Store {
	t.Helper()
	require.NoError(t, s.Close())
	return openStore(t, s.options)
}

// run submits a job and waits for it.
func run(w *Writer, job Job) (length int64, err error) {
	type result struct {
		length int64
		err    error
	}
	done := make(chan result, 1)
	job.Done = func(length int64, err error) { done <- result{length, err} }
	if err := w.Submit(job); err != nil {
		return 0, err
	}
	r := <-done
	return r.length, r.err
}

// mustAppend appends data at the writer's length.
func mustAppend(t testing.TB, w *Writer, data []byte, sync bool) {
	t.Helper()
	for first := true; first || len(data) > 0; first = false {
		piece := data[:min(len(data), JobBytesMax)]
		data = data[len(piece):]
		before := w.Length()
		length, err := run(w, Job{Offset: before, Data: piece, Sync: sync})
		require.NoError(t, err)
		require.Equal(t, before+int64(len(piece)), length)
	}
}

func mustSeal(t testing.TB, w *Writer) {
	t.Helper()
	_, err := run(w, Job{Offset: w.Length(), Seal: true})
	require.NoError(t, err)
}

func mustCreate(t testing.TB, s *Store, id chunk.ID) *Writer {
	t.Helper()
	w, err := s.Create(id, 1, CreateOptions{ChunkSize: testChunkSize})
	require.NoError(t, err)
	return w
}

// pattern is n bytes that depend on the seed.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// readVerified reads a replica as a client does: it compares every byte with
// the sums of Range.
func readVerified(s *Store, id chunk.ID) ([]byte, error) {
	r, err := s.OpenReader(id, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	got, err := r.Range(0, -1)
	if err != nil {
		return nil, err
	}
	data := make([]byte, got.DataLength)
	if _, err := r.ReadAt(data, got.DataOffset); err != nil {
		return nil, err
	}
	for i := 0; i*blockBytes < len(data); i++ {
		block := data[i*blockBytes : min(len(data), (i+1)*blockBytes)]
		if xxh3.Hash(block) != chunkfile.SumIn(got.Sums, int64(i)) {
			return nil, fmt.Errorf("block %d of %s does not match its sum", i, id)
		}
	}
	if want := (len(data) + blockBytes - 1) / blockBytes * chunkfile.SumBytes; len(got.Sums) != want {
		return nil, fmt.Errorf("%d bytes of sums, want %d", len(got.Sums), want)
	}
	return data, nil
}

func requireContent(t testing.TB, s *Store, id chunk.ID, want []byte) {
	t.Helper()
	got, err := readVerified(s, id)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "got %d bytes, want %d", len(got), len(want))
}

func requireState(t testing.TB, s *Store, id chunk.ID, want chunk.Replica) {
	t.Helper()
	want.ID = id
	got, err := s.Stat(id)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
