package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// follow collects what Follow hands over.
func follow(t *testing.T, c *client.Client, path string,
	o client.FollowOptions) (shown *lockedBuffer, stop func() error) {
	shown = &lockedBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		at := int64(0)
		done <- c.Follow(ctx, path, 0, o, func(offset int64, p []byte) error {
			if offset != at && offset != 0 {
				return fmt.Errorf("offset %d after %d", offset, at)
			}
			at = offset + int64(len(p))
			_, err := shown.Write(p)
			return err
		})
	}()
	return shown, func() error {
		cancel()
		return <-done
	}
}

// TestFollowShowsEveryFlushedLineOnce follows a file that another client appends to, across chunk borders, the loss of
// a datanode and a restart of the namenode.
func TestFollowShowsEveryFlushedLineOnce(t *testing.T) {
	p := startParts(t, 4, client.Options{})
	reader, err := client.Dial(t.Context(), client.Options{Namenodes: []string{p.address}})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	w, err := p.Create(t.Context(), "/log", client.CreateOptions{ChunkSize: blockBytes, Replication: 3})
	require.NoError(t, err)
	shown, stop := follow(t, reader, "/log", client.FollowOptions{Every: 5 * time.Millisecond})
	var wrote strings.Builder
	const lines, perLine = 1600, 200
	for i := range lines {
		line := fmt.Sprintf("%08d %s\n", i, strings.Repeat("x", perLine-10))
		wrote.WriteString(line)
		_, err := w.Write([]byte(line))
		require.NoError(t, err, "line %d", i)
		require.NoError(t, w.Flush(t.Context()), "line %d", i)
		switch i {
		case lines / 4:
			chunks, err := p.Locate(t.Context(), "/log", w.Offset()-1, 1)
			require.NoError(t, err)
			p.kill(chunks[0].Replicas[1].NodeID)
		case lines / 2:
			p.stop(p.namenode)
			p.startNamenode()
		}
		if i%100 == 50 {
			require.Eventually(t, func() bool { return shown.String() == wrote.String() }, 30*time.Second,
				2*time.Millisecond, "a flushed line shows soon")
		}
	}
	require.NoError(t, w.Close())
	w, err = p.Append(t.Context(), "/log", client.AppendOptions{})
	require.NoError(t, err)
	_, err = w.Write([]byte("appended\n"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	wrote.WriteString("appended\n")
	require.Eventually(t, func() bool { return len(shown.String()) >= wrote.Len() }, 30*time.Second, 2*time.Millisecond)
	require.ErrorIs(t, stop(), context.Canceled)
	require.True(t, wrote.String() == shown.String(), "every line once, in order")
}

func TestFollowBeginsAgain(t *testing.T) {
	c := newCluster(t, 3)
	c.put("/f", []byte("first\n"), chunk128)
	restarts := make(chan struct{}, 10)
	shown, stop := follow(t, c.Client, "/f", client.FollowOptions{Every: time.Millisecond,
		Restarted: func() { restarts <- struct{}{} }})
	require.Eventually(t, func() bool { return shown.String() == "first\n" }, 5*time.Second, time.Millisecond)
	o := chunk128
	o.Overwrite = true
	c.put("/f", []byte("another, longer\n"), o)
	require.Eventually(t, func() bool { return shown.String() == "first\nanother, longer\n" }, 5*time.Second,
		time.Millisecond)
	<-restarts
	_, err := c.Remove(t.Context(), "/f", client.RemoveOptions{})
	require.NoError(t, err)
	err = stop()
	require.True(t, errors.Is(err, fault.NotFound) || errors.Is(err, context.Canceled), "%v", err)
	broken := errors.New("the pipe is closed")
	c.put("/g", bytes.Repeat([]byte("x"), 100), chunk128)
	require.ErrorIs(t, c.Follow(t.Context(), "/g", 0, client.FollowOptions{}, func(int64,
		[]byte) error {
		return broken
	}), broken)
	require.ErrorIs(t, c.Follow(t.Context(), "/none", 0, client.FollowOptions{}, nil), fault.NotFound)
}

// TestTruncateOnARealCluster cuts in the middle of a block, at a chunk border and to nothing, and appends behind the
// cut.
func TestTruncateOnARealCluster(t *testing.T) {
	m := startMini(t, 3)
	content := pattern(4, 5*blockBytes+1000)
	_, err := m.Store(t.Context(), "/f", bytes.NewReader(content), int64(len(content)),
		client.StoreOptions{CreateOptions: client.CreateOptions{ChunkSize: 2 * blockBytes}})
	require.NoError(t, err)
	_, err = m.Truncate(t.Context(), "/f", int64(len(content))+1)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = m.Truncate(t.Context(), "/none", 1)
	require.ErrorIs(t, err, fault.NotFound)
	for _, length := range []int64{int64(len(content)), 5*blockBytes + 10, 4 * blockBytes, 3*blockBytes + 7, 1, 0} {
		info, err := m.Truncate(t.Context(), "/f", length)
		require.NoError(t, err, "cut to %d", length)
		require.Equal(t, length, info.Length)
		require.False(t, info.Open)
		same(t, content[:length], m.get("/f"))
	}
	w, err := m.Append(t.Context(), "/f", client.AppendOptions{})
	require.NoError(t, err)
	_, err = w.Write([]byte("new"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	same(t, []byte("new"), m.get("/f"))
	copied, err := m.Copy(t.Context(), "/f", "/copy", client.CopyOptions{})
	require.NoError(t, err)
	require.Equal(t, int64(3), copied.Length)
	same(t, []byte("new"), m.get("/copy"))
}
