package appender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// gnet's import starts a pool that nothing can stop.
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
}

// fakeCluster keeps files in memory. A file has one writer at a time; bytes
// that were written and not flushed when a writer breaks are kept in part.
type fakeCluster struct {
	mu      sync.Mutex
	files   map[string]*fakeFile
	refuse  error // what append answers
	appends int
	closed  bool
}

type fakeFile struct {
	cluster *fakeCluster
	info    client.FileInfo
	content []byte
	writer  *fakeWriter
	flushes int
	syncs   int
	fail    error         // of the next flush
	torn    int           // bytes of a failed flush that stay
	hold    chan struct{} // flushes wait for it; nil: none
	entered chan struct{} // a flush waits
	sealed  int
	aborted int
}

type fakeWriter struct {
	file   *fakeFile
	buffer []byte
	broken error
}

func newFakeCluster(paths ...string) *fakeCluster {
	c := &fakeCluster{files: map[string]*fakeFile{}}
	for _, p := range paths {
		c.create(p)
	}
	return c
}

func (c *fakeCluster) create(path string) *fakeFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	file := &fakeFile{cluster: c, info: client.FileInfo{Path: path, FileID: uint64(100 + len(c.files) + c.appends)},
		entered: make(chan struct{}, 100)}
	c.files[path] = file
	return file
}

func (c *fakeCluster) stat(_ context.Context, path string) (client.FileInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if file := c.files[path]; file != nil {
		return file.info, nil
	}
	return client.FileInfo{}, fault.New(fault.NotFound, "stat", "none")
}

func (c *fakeCluster) append(_ context.Context, path string) (writer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appends++
	file := c.files[path]
	switch {
	case c.refuse != nil:
		return nil, c.refuse
	case file == nil:
		return nil, fault.New(fault.NotFound, "append", "none")
	}
	file.writer = &fakeWriter{file: file}
	return file.writer, nil
}

func (c *fakeCluster) close() error { c.closed = true; return nil }

func (w *fakeWriter) Write(p []byte) (int, error) {
	w.file.cluster.mu.Lock()
	defer w.file.cluster.mu.Unlock()
	if w.broken != nil {
		return 0, w.broken
	}
	w.buffer = append(w.buffer, p...)
	return len(p), nil
}

func (w *fakeWriter) flush(sync bool) error {
	file := w.file
	file.cluster.mu.Lock()
	hold := file.hold
	file.cluster.mu.Unlock()
	if hold != nil {
		file.entered <- struct{}{}
		<-hold
	}
	file.cluster.mu.Lock()
	defer file.cluster.mu.Unlock()
	if file.fail != nil && w.broken == nil {
		w.broken, file.fail = file.fail, nil
		file.content = append(file.content, w.buffer[:min(file.torn, len(w.buffer))]...)
	}
	if w.broken != nil {
		return w.broken
	}
	file.content, w.buffer = append(file.content, w.buffer...), nil
	file.flushes++
	if sync {
		file.syncs++
	}
	return nil
}

func (w *fakeWriter) Flush(context.Context) error { return w.flush(false) }
func (w *fakeWriter) Sync(context.Context) error  { return w.flush(true) }

func (w *fakeWriter) Close() error {
	err := w.flush(true)
	file := w.file
	file.cluster.mu.Lock()
	defer file.cluster.mu.Unlock()
	file.sealed++
	file.info.Modified = file.info.Modified.Add(time.Second)
	file.info.Length = int64(len(file.content))
	return err
}

func (w *fakeWriter) Abort() error {
	w.file.cluster.mu.Lock()
	defer w.file.cluster.mu.Unlock()
	w.file.aborted++
	return nil
}

func (w *fakeWriter) Info() client.FileInfo {
	w.file.cluster.mu.Lock()
	defer w.file.cluster.mu.Unlock()
	return w.file.info
}

func (w *fakeWriter) Offset() int64 {
	w.file.cluster.mu.Lock()
	defer w.file.cluster.mu.Unlock()
	return int64(len(w.file.content) + len(w.buffer))
}

func (f *fakeFile) with(change func()) {
	f.cluster.mu.Lock()
	defer f.cluster.mu.Unlock()
	change()
}

func (f *fakeFile) bytes() []byte {
	f.cluster.mu.Lock()
	defer f.cluster.mu.Unlock()
	return bytes.Clone(f.content)
}

// records are the records of a file, as "writer/sequence:payload".
func (f *fakeFile) records(t *testing.T) []string {
	t.Helper()
	content := f.bytes()
	s := record.NewScanner(bytes.NewReader(content), 0, func() (int64, error) { return int64(len(content)), nil })
	var all []string
	for {
		r, err := s.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, fmt.Sprintf("%d/%d:%s", r.Writer[0], r.Sequence, r.Payload))
	}
}

type setup struct {
	*Appender
	t       *testing.T
	cluster *fakeCluster
	clock   *fakeclock.Clock
}

func start(t *testing.T, c *fakeCluster, l Limits) *setup {
	l, err := l.withDefaults()
	require.NoError(t, err)
	clk := fakeclock.New(time.Unix(1000, 0))
	s := &setup{newAppender(c, Options{NodeID: "me", Address: "me:1", Logger: discard(), Clock: clk}, l), t, c, clk}
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// session is one client's.
type session struct {
	dataplane.RecordStream
	t    *testing.T
	last uint64
	mu   sync.Mutex
	told []outcome
	done chan struct{} // one for each record told
}

type outcome struct {
	sequence uint64
	offset   int64
	err      error
}

func (s *setup) open(path string, writer byte) *session {
	s.t.Helper()
	stream, err := s.Open(s.t.Context(), dataplane.RecordsOpen{Path: path, Writer: record.WriterID{writer}})
	require.NoError(s.t, err)
	return &session{RecordStream: stream, t: s.t, done: make(chan struct{}, 10_000)}
}

func (s *session) send(payload string, sync bool) {
	s.last++
	sequence := s.last
	var pieces [][]byte
	for rest := []byte(payload); len(rest) > 0; {
		n := min(len(rest), 1<<20)
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	s.Append(dataplane.Record{Sequence: sequence, Sync: sync, Size: len(payload), Pieces: pieces},
		func(offset int64, err error) {
			s.mu.Lock()
			s.told = append(s.told, outcome{sequence, offset, err})
			s.mu.Unlock()
			s.done <- struct{}{}
		})
}

// wait returns the outcomes once there are n.
func (s *session) wait(count int) []outcome {
	s.t.Helper()
	for {
		s.mu.Lock()
		told := append([]outcome(nil), s.told...)
		s.mu.Unlock()
		if len(told) >= count {
			require.Len(s.t, told, count)
			return told
		}
		select {
		case <-s.done:
		case <-time.After(20 * time.Second):
			require.FailNow(s.t, "no answer", "%d of %d", len(told), count)
		}
	}
}
