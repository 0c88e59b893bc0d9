package client_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestTheActiveNamenodeIsFound(t *testing.T) {
	c := newCluster(t, 1)
	standby := startNamenode(t)
	standby.set(func() {
		standby.before = func(string) error { return fault.New(fault.NotActive, "serve", "standby of epoch 3") }
	})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	cl := c.dial(func(o *client.Options) {
		o.Namenodes = []string{standby.address, gone.Addr().String(), c.namenode.address}
	})
	for range 5 {
		_, err = cl.Stat(t.Context(), "/")
		require.NoError(t, err)
	}
	require.Equal(t, 1, standby.count("Stat"), "the one that works is remembered")

	// The active one steps down: the other takes over in the middle of things.
	c.namenode.set(func() {
		c.namenode.before = func(string) error { return fault.New(fault.Fenced, "serve", "epoch 4 exists") }
	})
	standby.set(func() { standby.before = nil })
	_, err = cl.Stat(t.Context(), "/")
	require.NoError(t, err)

	// Nobody serves: the error names every address and why.
	standby.set(func() {
		standby.before = func(string) error { return fault.New(fault.NotActive, "serve", "standby of epoch 5") }
	})
	_, err = cl.Stat(t.Context(), "/some/file")
	require.ErrorIs(t, err, fault.NotActive)
	for _, part := range []string{"stat", `"/some/file"`, standby.address + ": standby of epoch 5",
		gone.Addr().String() + ": connection refused", c.namenode.address + ": epoch 4 exists"} {
		require.ErrorContains(t, err, part)
	}
}

func TestAWrongAddressFailsSoonAndSaysWhy(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	for address, reason := range map[string]string{
		gone.Addr().String():                   "connection refused",
		strings.TrimPrefix(web.URL, "http://"): "speaks something else",
	} {
		cl, err := client.Dial(t.Context(), client.Options{Namenodes: []string{address},
			FirstContact: 300 * time.Millisecond, CallTimeout: 2 * time.Second})
		require.NoError(t, err)
		began := time.Now()
		_, err = cl.Stat(t.Context(), "/f")
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorContains(t, err, address)
		require.ErrorContains(t, err, reason)
		require.Less(t, time.Since(began), 10*time.Second)
		require.NoError(t, cl.Close())
	}
	_, err = client.Dial(t.Context(), client.Options{})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = client.Dial(t.Context(), client.Options{Namenodes: []string{"nonsense"}})
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "host:port")
	for _, o := range []client.Options{{PacketBytes: 1000}, {PacketBytes: 2 << 20}, {ParallelChunks: 100},
		{WindowBytes: 1}, {ReadaheadBytes: 1 << 40}, {DialTimeout: -1}, {Name: strings.Repeat("x", 300)}} {
		o.Namenodes = []string{"127.0.0.1:1"}
		_, err = client.Dial(t.Context(), o)
		require.ErrorIs(t, err, fault.Invalid, "%+v", o)
	}
}

func TestRetryableRefusalsAreRetriedOthersAreNot(t *testing.T) {
	c := newCluster(t, 1)
	left := 3
	c.namenode.set(func() {
		c.namenode.before = func(string) error {
			if left--; left >= 0 {
				return fault.New(fault.SafeMode, "mkdir", "waiting for reports: 3 of 9 chunks")
			}
			return nil
		}
	})
	require.NoError(t, c.Mkdir(t.Context(), "/d", client.MkdirOptions{}))
	require.Equal(t, 4, c.namenode.count("Mkdir"))
	require.ErrorIs(t, c.Mkdir(t.Context(), "/d", client.MkdirOptions{}), fault.Exists)
	require.Equal(t, 5, c.namenode.count("Mkdir"))

	c.namenode.set(func() {
		c.namenode.before = func(string) error {
			return fault.New(fault.SafeMode, "mkdir", "waiting for reports: 3 of 9 chunks")
		}
	})
	err := c.Mkdir(t.Context(), "/e", client.MkdirOptions{})
	require.ErrorIs(t, err, fault.SafeMode)
	require.EqualError(t, err, `mkdir: "/e": waiting for reports: 3 of 9 chunks`)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	began := time.Now()
	err = c.Mkdir(ctx, "/e", client.MkdirOptions{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, fault.Unavailable)
	require.Less(t, time.Since(began), time.Second)
}

func TestTooFewNodesIsSaidSoon(t *testing.T) {
	c := newCluster(t, 2)
	began := time.Now()
	_, err := c.Create(t.Context(), "/f", client.CreateOptions{Replication: 3})
	require.ErrorIs(t, err, fault.TooFewNodes)
	require.ErrorContains(t, err, "dn0, dn1")
	require.Less(t, time.Since(began), 5*time.Second)
}

func TestNamespaceCalls(t *testing.T) {
	c := newCluster(t, 3)
	ctx := t.Context()
	require.NoError(t, c.Mkdir(ctx, "//a/b///c/", client.MkdirOptions{Parents: true}))
	require.NoError(t, c.Mkdir(ctx, "/a/b/c", client.MkdirOptions{Parents: true}))
	require.ErrorIs(t, c.Mkdir(ctx, "/x/y", client.MkdirOptions{}), fault.NotFound)
	for i := range 30 {
		c.put(fmt.Sprintf("/a/b/file %02d", i), pattern(1, i), client.CreateOptions{})
	}
	entries, err := c.ReadDir(ctx, "/a/b")
	require.NoError(t, err)
	require.Len(t, entries, 31)
	require.Greater(t, c.namenode.count("List"), 4, "pages")
	require.Equal(t, "/a/b/c", entries[0].Path)
	require.Equal(t, "/a/b/file 29", entries[30].Path)
	require.Equal(t, int64(29), entries[30].Length)
	seen := 0
	for _, err := range c.List(ctx, "/a/b") {
		require.NoError(t, err)
		if seen++; seen == 3 {
			break
		}
	}
	_, err = c.ReadDir(ctx, "/a/b/file 01")
	require.ErrorIs(t, err, fault.NotDirectory)
	_, err = c.ReadDir(ctx, "/none")
	require.ErrorIs(t, err, fault.NotFound)
	_, err = c.Open(ctx, "/a")
	require.ErrorIs(t, err, fault.IsDirectory)
	_, err = c.Create(ctx, "/a", client.CreateOptions{Overwrite: true})
	require.ErrorIs(t, err, fault.IsDirectory)
	_, err = c.Create(ctx, "/f", client.CreateOptions{ChunkSize: 1000})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = c.Create(ctx, "/f", client.CreateOptions{Replication: 99})
	require.ErrorIs(t, err, fault.Invalid)
	require.NoError(t, c.Rename(ctx, "/a/b", "/a/z", client.RenameOptions{}))
	info, err := c.Stat(ctx, "/a/z/file 07")
	require.NoError(t, err)
	require.Equal(t, "file 07", info.Name)
	require.False(t, info.FS().IsDir())
	_, err = c.Remove(ctx, "/a", client.RemoveOptions{})
	require.ErrorIs(t, err, fault.NotEmpty)
	removed, err := c.Remove(ctx, "/a", client.RemoveOptions{Recursive: true})
	require.NoError(t, err)
	require.Equal(t, int64(30), removed.Files)
	summary, err := c.Summary(ctx, "/")
	require.NoError(t, err)
	require.Equal(t, client.Summary{Files: 1, Directories: 2, Bytes: 3, StoredBytes: 9, Chunks: 4}, summary)
	status, err := c.ClusterStatus(ctx)
	require.NoError(t, err)
	require.Equal(t, c.namenode.address, status.Namenode)
	require.Len(t, status.Nodes, 3)
	require.Equal(t, 250*time.Millisecond, status.Nodes[0].LastHeartbeatAge)
	state, err := c.SafeMode(ctx, client.SafeModeEnter)
	require.NoError(t, err)
	require.True(t, state.On)
	_, err = c.SafeMode(ctx, client.SafeModeAction(9))
	require.ErrorIs(t, err, fault.Invalid)
}

func TestLocateAsksForAllPages(t *testing.T) {
	c := newCluster(t, 3)
	c.put("/f", pattern(1, 11*blockBytes+5), client.CreateOptions{ChunkSize: blockBytes})
	for _, r := range []struct {
		offset, length int64
		first, count   int
	}{{0, 0, 0, 12}, {0, -1, 0, 12}, {0, 1, 0, 1}, {blockBytes - 1, 2, 0, 2}, {2 * blockBytes, 7 * blockBytes, 2,
		7}, {11 * blockBytes, 1 << 62, 11, 1}, {5, 1<<63 - 1, 0, 12}} {
		chunks, err := c.Locate(t.Context(), "/f", r.offset, r.length)
		require.NoError(t, err)
		require.Len(t, chunks, r.count, "%+v", r)
		for i, l := range chunks {
			require.Equal(t, r.first+i, l.Index)
			require.Len(t, l.Replicas, 3)
		}
	}
	chunks, err := c.Locate(t.Context(), "/f", 20*blockBytes, 0)
	require.NoError(t, err)
	require.Empty(t, chunks)
}

func TestFS(t *testing.T) {
	c := newCluster(t, 3)
	ctx := t.Context()
	for path, size := range map[string]int{"/tree/a.txt": 10, "/tree/empty": 0, "/tree/d/e/deep file": 3001,
		"/tree/d/ünïcode 🌲": 5, "/tree/z": 700, "/large": 3*blockBytes + 1} {
		c.put(path, pattern(1, size), client.CreateOptions{Parents: true, ChunkSize: blockBytes})
	}
	require.NoError(t, c.Mkdir(ctx, "/tree/nothing", client.MkdirOptions{}))
	whole := c.FS(ctx)
	// TestFS reads every file byte by byte, so the large one stays out of its way.
	sub, err := fs.Sub(whole, "tree")
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(sub, "a.txt", "empty", "d/e/deep file", "d/ünïcode 🌲", "nothing"))
	entries, err := fs.ReadDir(whole, ".")
	require.NoError(t, err)
	require.Len(t, entries, 2)

	_, err = fs.Stat(whole, "none")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, err, fault.NotFound)
	var pathErr *fs.PathError
	require.ErrorAs(t, err, &pathErr)
	require.Equal(t, "none", pathErr.Path)
	_, err = whole.Open("/abs")
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = fs.ReadFile(whole, "tree/a.txt/b")
	require.ErrorIs(t, err, fs.ErrNotExist)
	content, err := fs.ReadFile(whole, "large")
	require.NoError(t, err)
	same(t, pattern(1, 3*blockBytes+1), content)
	f, err := sub.Open("z")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = f.Read(make([]byte, 1))
	require.ErrorIs(t, err, fs.ErrClosed)
}
