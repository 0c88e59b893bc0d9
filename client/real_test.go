package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// miniCluster is a real cluster in this process: log server, namenode, datanodes, real files and sockets.
type miniCluster struct {
	*client.Client
	t         testing.TB
	directory string
	daemon    *daemon.Daemon
}

func startMini(t testing.TB, datanodes int) *miniCluster {
	m := &miniCluster{t: t, directory: t.TempDir()}
	c := config.Default().Mini
	c.Dir, c.Listen, c.Datanodes, c.Reserve = m.directory, "127.0.0.1:0", datanodes, 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	m.daemon, err = daemon.StartMini(ctx, c, slog.New(slog.NewTextHandler(testWriter{t},
		&slog.HandlerOptions{Level: slog.LevelWarn})))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, m.daemon.Close(ctx))
	})
	require.NoError(t, m.daemon.WaitReady(ctx))
	m.Client = m.dial(client.Options{})
	return m
}

func (m *miniCluster) dial(o client.Options) *client.Client {
	o.Namenodes = []string{m.daemon.Address("grpc")}
	cl, err := client.Dial(m.t.Context(), o)
	require.NoError(m.t, err)
	m.t.Cleanup(func() {
		require.NoError(m.t, cl.Close())
		require.Zero(m.t, client.OutstandingBuffers(cl), "buffers leaked")
	})
	return cl
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func (m *miniCluster) get(path string) []byte {
	m.t.Helper()
	r, err := m.Open(m.t.Context(), path)
	require.NoError(m.t, err)
	content, err := io.ReadAll(r)
	require.NoError(m.t, err)
	require.NoError(m.t, r.Close())
	return content
}

func TestRealCluster(t *testing.T) {
	m := startMini(t, 3)
	ctx := t.Context()
	t.Run("files of all sizes", func(t *testing.T) {
		for i, size := range append(sizes, 1<<20, 5<<20+123) {
			content := pattern(uint64(i), size)
			o := client.CreateOptions{ChunkSize: 4 * blockBytes, Overwrite: true, Parents: true}
			info, err := m.Store(ctx, "/sizes/stored", bytes.NewReader(content), int64(size),
				client.StoreOptions{CreateOptions: o})
			require.NoError(t, err, "size %d", size)
			require.Equal(t, int64(size), info.Length)
			same(t, content, m.get("/sizes/stored"))
			w, err := m.Create(ctx, "/sizes/written", o)
			require.NoError(t, err)
			_, err = w.Write(content)
			require.NoError(t, err)
			require.NoError(t, w.Close(), "size %d", size)
			target := &memory{}
			_, err = m.Fetch(ctx, "/sizes/written", target, client.FetchOptions{})
			require.NoError(t, err)
			same(t, content, target.content)
			a, err := m.Checksum(ctx, "/sizes/stored")
			require.NoError(t, err)
			b, err := m.Checksum(ctx, "/sizes/written")
			require.NoError(t, err)
			require.Equal(t, a, b)
		}
	})
	t.Run("append, flush, sync and tail", func(t *testing.T) {
		content := pattern(50, 9*blockBytes+1234)
		w, err := m.Create(ctx, "/log", client.CreateOptions{ChunkSize: 2 * blockBytes})
		require.NoError(t, err)
		r, err := m.Open(ctx, "/log")
		require.NoError(t, err)
		source := rand.New(rand.NewPCG(1, 1))
		var seen []byte
		buffer := make([]byte, 100_000)
		for at := 0; at < len(content); {
			n := min(len(content)-at, 1+source.IntN(40_000))
			_, err := w.Write(content[at : at+n])
			require.NoError(t, err)
			at += n
			switch source.IntN(4) {
			case 0:
				require.NoError(t, w.Sync(ctx))
			case 1: // closed, and opened again for append
				require.NoError(t, w.Close())
				w, err = m.Append(ctx, "/log", client.AppendOptions{})
				require.NoError(t, err)
				require.Equal(t, int64(at), w.Offset())
			default:
				require.NoError(t, w.Flush(ctx))
			}
			_, err = r.Size(ctx)
			require.NoError(t, err)
			for {
				n, err := r.Read(buffer)
				seen = append(seen, buffer[:n]...)
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
			}
			same(t, content[:at], seen)
		}
		require.NoError(t, w.Close())
		require.NoError(t, r.Close())
		same(t, content, m.get("/log"))
		w, err = m.Append(ctx, "/log", client.AppendOptions{}) // and nothing written
		require.NoError(t, err)
		_, err = m.dial(client.Options{Name: "intruder"}).Append(ctx, "/log", client.AppendOptions{})
		require.ErrorIs(t, err, fault.LeaseHeld)
		require.NoError(t, w.Close())
		same(t, content, m.get("/log"))
	})
	t.Run("abort and lease recovery", func(t *testing.T) {
		w, err := m.Create(ctx, "/aborted", client.CreateOptions{VisibleOnComplete: true})
		require.NoError(t, err)
		_, err = w.Write(pattern(1, 1<<20))
		require.NoError(t, err)
		require.NoError(t, w.Abort())
		_, err = m.Stat(ctx, "/aborted")
		require.ErrorIs(t, err, fault.NotFound)

		w, err = m.Create(ctx, "/flushed", client.CreateOptions{})
		require.NoError(t, err)
		_, err = w.Write(pattern(1, 200_000))
		require.NoError(t, err)
		require.NoError(t, w.Flush(ctx))
		require.NoError(t, w.Abort())
		require.Eventually(t, func() bool {
			info, err := m.Stat(ctx, "/flushed")
			return err == nil && !info.Open
		}, 20*time.Second, 20*time.Millisecond)
		same(t, pattern(1, 200_000), m.get("/flushed"))

		content := pattern(2, 300_000)
		w, err = m.Create(ctx, "/left", client.CreateOptions{})
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
		require.NoError(t, w.Sync(ctx))
		_, err = m.dial(client.Options{}).RecoverLease(ctx, "/left")
		require.NoError(t, err, "an operator's word counts at once")
		require.Eventually(t, func() bool { // the datanodes bring it to one length
			closed, err := m.RecoverLease(ctx, "/left")
			return err == nil && closed
		}, 20*time.Second, 20*time.Millisecond)
		same(t, content, m.get("/left"))
		_, err = w.Write([]byte("late"))
		require.NoError(t, err)
		require.ErrorIs(t, w.Close(), fault.LeaseLost)
		same(t, content, m.get("/left"))

		// It has its first chunk, but nothing is there yet when the lease ends.
		w, err = m.Create(ctx, "/hesitant", client.CreateOptions{})
		require.NoError(t, err)
		operator := m.dial(client.Options{})
		require.Eventually(t, func() bool {
			closed, err := operator.RecoverLease(ctx, "/hesitant")
			return err == nil && closed
		}, 20*time.Second, 20*time.Millisecond)
		_, err = w.Write([]byte("late"))
		require.NoError(t, err)
		require.ErrorIs(t, w.Flush(ctx), fault.LeaseLost)
		require.ErrorIs(t, w.Close(), fault.LeaseLost)
		require.Empty(t, m.get("/hesitant"))
	})
	t.Run("io/fs", func(t *testing.T) {
		for i, name := range []string{"a", "b c", "d/e", "d/🌲"} {
			content := pattern(uint64(i), 100*i)
			_, err := m.Store(ctx, "/fs/"+name, bytes.NewReader(content), int64(len(content)),
				client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
			require.NoError(t, err)
		}
		sub, err := m.FS(ctx).(interface {
			Sub(string) (fs.FS, error)
		}).Sub("fs")
		require.NoError(t, err)
		require.NoError(t, fstest.TestFS(sub, "a", "b c", "d/e", "d/🌲"))
	})
	t.Run("many writers at once", func(t *testing.T) {
		var group sync.WaitGroup
		for i := range 16 {
			group.Go(func() {
				for j := range 8 {
					path := fmt.Sprintf("/many/%d/%d", i, j)
					content := pattern(uint64(i*100+j), 4096+i*1000)
					if _, err := m.Store(ctx, path, bytes.NewReader(content), int64(len(content)),
						client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}}); err != nil {
						t.Errorf("%s: %v", path, err)
						continue
					}
					r, err := m.Open(ctx, path)
					if err != nil {
						t.Error(err)
						continue
					}
					got, err := io.ReadAll(r)
					if err != nil || !bytes.Equal(content, got) {
						t.Errorf("%s: %d bytes, %v", path, len(got), err)
					}
					_ = r.Close()
				}
			})
		}
		group.Wait()
		summary, err := m.Summary(ctx, "/many")
		require.NoError(t, err)
		require.Equal(t, int64(128), summary.Files)
	})
	t.Run("cancel at many moments", func(t *testing.T) {
		content := pattern(77, 20*blockBytes)
		o := client.CreateOptions{ChunkSize: 2 * blockBytes, Overwrite: true}
		_, err := m.Store(ctx, "/cancel", bytes.NewReader(content), int64(len(content)),
			client.StoreOptions{CreateOptions: o})
		require.NoError(t, err)
		for i := range 40 {
			short, cancel := context.WithTimeout(ctx, time.Duration(i*i)*20*time.Microsecond)
			_, err := m.Store(short, "/cancel2", bytes.NewReader(content), int64(len(content)),
				client.StoreOptions{CreateOptions: o})
			_, err2 := m.Fetch(short, "/cancel", &memory{}, client.FetchOptions{})
			for _, err := range []error{err, err2} {
				if err != nil {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
			}
			cancel()
			require.Zero(t, client.OutstandingBuffers(m.Client))
			require.Zero(t, client.OpenConnections(m.Client))
		}
		same(t, content, m.get("/cancel"))
		if _, err := m.Stat(ctx, "/cancel2"); err == nil {
			same(t, content, m.get("/cancel2"))
		}
	})
	t.Run("a flipped byte on disk", func(t *testing.T) {
		content := pattern(88, 300_000)
		_, err := m.Store(ctx, "/rot", bytes.NewReader(content), int64(len(content)), client.StoreOptions{})
		require.NoError(t, err)
		chunks, err := m.Locate(ctx, "/rot", 0, 0)
		require.NoError(t, err)
		files, err := filepath.Glob(filepath.Join(m.directory, "dn*", "chunks", "*", chunks[0].ID.String()+"*"))
		require.NoError(t, err)
		require.Len(t, files, 3)
		for i, file := range files {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{0xAA}, 8192+200_000)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			r, err := m.Open(ctx, "/rot")
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.NoError(t, r.Close())
			if i < 2 {
				require.NoError(t, err)
				same(t, content, got)
				continue
			}
			require.ErrorIs(t, err, fault.CorruptData)
			require.ErrorContains(t, err, chunks[0].ID.String())
			same(t, content[:len(got)], got)
		}
	})
}
