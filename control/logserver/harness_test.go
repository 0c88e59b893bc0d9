package logserver

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDirectory) != "" {
		os.Exit(childMain())
	}
	goleak.VerifyTestMain(m)
}

// testLogger shows warnings with -v.
func testLogger(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// options are those of a small server on free ports.
func options(t *testing.T, dir string) Options {
	return Options{Directory: dir, ListenGRPC: "127.0.0.1:0", SegmentBytes: walcheck.SegmentBytesMin,
		Logger: testLogger(t)}
}

// start runs a server until the test ends or stop is called.
func start(t *testing.T, o Options) (server *Server, stop func()) {
	t.Helper()
	server, err := Start(o)
	require.NoError(t, err)
	stop = func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, server.Close(ctx))
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Close(ctx)
	})
	return server, stop
}

// dial connects a client to servers.
func dial(t *testing.T, addresses ...string) *editlog.Log {
	t.Helper()
	l, err := editlog.Dial(editlog.Options{Addresses: addresses, Logger: testLogger(t)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// within bounds everything in a test that could hang.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// record is what stands at a txid in every test.
func record(txid uint64) []byte {
	return fmt.Appendf(nil, "record %d %s", txid, make([]byte, txid%300))
}

// recordsOf are count records from a txid on.
func recordsOf(first uint64, count int) [][]byte {
	out := make([][]byte, count)
	for i := range out {
		out[i] = record(first + uint64(i))
	}
	return out
}

// watch collects what a Writer reports.
type watch struct {
	durable chan uint64
	failed  chan error
}

func newWatch() *watch {
	return &watch{durable: make(chan uint64, 100_000), failed: make(chan error, 1)}
}

// open acquires an epoch and opens a writer under it.
func open(t *testing.T, l *editlog.Log, holder string) (*editlog.Writer, editlog.Grant, *watch) {
	t.Helper()
	grant, err := l.AcquireEpoch(within(t), holder)
	require.NoError(t, err)
	w, watch := openAt(t, l, grant)
	return w, grant, watch
}

// openAt opens a writer under a grant.
func openAt(t *testing.T, l *editlog.Log, grant editlog.Grant) (*editlog.Writer, *watch) {
	t.Helper()
	watch := newWatch()
	w, err := l.OpenWriter(editlog.WriterOptions{Grant: grant,
		OnDurable: func(last uint64) { watch.durable <- last },
		OnFailed:  func(err error) { watch.failed <- err }})
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w, watch
}

// until waits for a txid to be durable.
func (w *watch) until(t *testing.T, txid uint64) {
	t.Helper()
	require.NoError(t, w.waitFor(txid))
}

func (w *watch) waitFor(txid uint64) error {
	deadline := time.After(30 * time.Second)
	for {
		select {
		case last := <-w.durable:
			if last >= txid {
				return nil
			}
		case err := <-w.failed:
			return fmt.Errorf("the writer failed before txid %d: %w", txid, err)
		case <-deadline:
			return fmt.Errorf("txid %d did not become durable in time", txid)
		}
	}
}

// failure waits for the writer's end.
func (w *watch) failure(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.failed:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the writer did not fail in time")
		return nil
	}
}

// fill appends batches of up to 7 records until the log holds last.
func fill(t *testing.T, l *editlog.Log, last uint64) {
	t.Helper()
	w, grant, watch := open(t, l, "fill")
	next := grant.LastTxid + 1
	for next <= last {
		count := int(min(1+next%7, last-next+1))
		require.NoError(t, w.Append(within(t), next, recordsOf(next, count)))
		next += uint64(count)
	}
	if grant.LastTxid < last {
		watch.until(t, last)
	}
	w.Close()
}

// fillSlowly is fill with one batch in flight, so that each is a write of its
// own.
func fillSlowly(t *testing.T, l *editlog.Log, last uint64) {
	t.Helper()
	w, grant, watch := open(t, l, "fill")
	for next := grant.LastTxid + 1; next <= last; next++ {
		require.NoError(t, w.TryAppend(next, recordsOf(next, 1)))
		watch.until(t, next)
	}
	w.Close()
}

// requireRecords replays from..to and compares every record.
func requireRecords(t *testing.T, l *editlog.Log, from, to uint64) {
	t.Helper()
	next := from
	require.NoError(t, l.Replay(within(t), from, to, func(b editlog.Batch) error {
		require.Equal(t, next, b.FirstTxid)
		for _, got := range b.Records {
			require.Equal(t, record(next), got)
			next++
		}
		return nil
	}))
	require.Equal(t, to+1, next)
}

// requireKind checks an error's kind and shows its text.
func requireKind(t *testing.T, kind fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, kind, fault.KindOf(err), "%v", err)
	t.Logf("as it should: %v", err)
}

// copyTree copies a directory of plain files, as a crash would leave it.
func copyTree(t *testing.T, source string) string {
	t.Helper()
	target := t.TempDir()
	require.NoError(t, filepath.WalkDir(source, func(path string, item os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		if item.IsDir() {
			return os.MkdirAll(filepath.Join(target, relative), 0o755)
		}
		from, err := os.Open(path)
		if err != nil {
			return err
		}
		defer from.Close()
		to, err := os.Create(filepath.Join(target, relative))
		if err != nil {
			return err
		}
		defer to.Close()
		_, err = io.Copy(to, from)
		return err
	}))
	return target
}
