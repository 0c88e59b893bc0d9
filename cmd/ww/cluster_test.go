package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/config"
)

func TestMain(m *testing.M) {
	if code, is := child(); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m,
		// gnet's import starts a pool that nothing can stop.
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
}

// chunkBytes is the chunk size of the tests' clusters: the smallest one.
const chunkBytes = 64 << 10

// woods is a mini cluster in this process, and ww in front of it.
type woods struct {
	t         *testing.T
	directory string
	expiry    time.Duration // of the users' trash
}

// startWoods starts a cluster that ends with the test.
func startWoods(t *testing.T, datanodes int) *woods {
	t.Helper()
	system := &woods{t: t, directory: t.TempDir()}
	d := system.start(datanodes)
	t.Cleanup(func() { system.stop(d) })
	return system
}

func (w *woods) start(datanodes int) *daemon.Daemon {
	w.t.Helper()
	c := config.Default().Mini
	c.Dir, c.Listen, c.Datanodes, c.ChunkSize, c.Reserve = w.directory, "127.0.0.1:0", datanodes, chunkBytes, 0
	c.TrashDelay, c.TrashExpiry = config.Duration(time.Hour), config.Duration(w.expiry)
	d, err := daemon.StartMini(w.t.Context(), c, nil)
	require.NoError(w.t, err)
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(w.t, d.WaitReady(ctx))
	return d
}

func (w *woods) stop(d *daemon.Daemon) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(w.t, d.Close(ctx))
}

// ran is how a command ended.
type ran struct {
	code           int
	stdout, stderr string
}

// run runs ww with input on stdin.
func (w *woods) run(input string, args ...string) ran {
	w.t.Helper()
	return runWW(w.t.Context(), strings.NewReader(input),
		[]string{"WW_CONFIG=" + filepath.Join(w.directory, daemon.ClientFile)}, args...)
}

func runWW(ctx context.Context, stdin io.Reader, environ []string, args ...string) ran {
	var stdout, stderr bytes.Buffer
	program := &app{
		stdin: stdin, stdout: &stdout, stderr: &stderr, environ: environ,
		interrupt: func(context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) },
	}
	defer program.close()
	code := program.run(args)
	return ran{code, stdout.String(), stderr.String()}
}

// must runs ww, which has to succeed, and returns what it printed.
func (w *woods) must(args ...string) string {
	w.t.Helper()
	r := w.run("", args...)
	require.Zero(w.t, r.code, "ww %q: %s", args, r.stderr)
	return r.stdout
}

// in is a view of the cluster for a subtest.
func (w *woods) in(t *testing.T) *woods { return &woods{t: t, directory: w.directory} }

// objects parses the JSON lines of an output.
func objects(t *testing.T, output string) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(output) {
		var o map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &o), line)
		require.Equal(t, 1.0, o["version"], line)
		require.NotEmpty(t, o["type"], line)
		list = append(list, o)
	}
	return list
}

// bytesOf makes bytes that differ at every place.
func bytesOf(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// localFile writes a file of its own directory.
func localFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "local")
	require.NoError(t, os.WriteFile(path, content, 0o644))
	return path
}

func sameBytes(t *testing.T, want, got []byte) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	require.True(t, bytes.Equal(want, got), "the bytes differ")
}
