package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/test/built"
)

// program is the path of the ww under test, for all tests of the package.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(tests *testing.M) int {
	program = os.Getenv("E2E_PROGRAM")
	if program == "" {
		directory, err := os.MkdirTemp("", "ww-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(directory)
		program, err = built.Program(built.Options{Module: "../..", Directory: directory, Race: underRace()})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return tests.Run()
}

// underRace reports whether ww is built with the race detector, which makes it
// several times slower and larger.
func underRace() bool { return os.Getenv("E2E_RACE") == "1" }

// skipUnderRace leaves out a test of messages and exit codes: the race detector
// has little to see in a process that lives for a moment.
func skipUnderRace(t *testing.T) {
	t.Helper()
	if underRace() && testing.Short() {
		t.Skip("not under the race detector with -short")
	}
}

// patient returns a context that ends the test when nothing moves any more.
func patient(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	if underRace() {
		d *= 4
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// start runs a cluster for one test.
func start(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	o.Program = program
	o.Directory = scratch(t)
	system, err := cluster.New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			var text strings.Builder
			system.LogTail(&text, 15)
			t.Log("last lines of the daemons' logs:\n" + text.String())
		}
		require.NoError(t, system.Close())
		refusePanics(t, system)
	})
	require.NoError(t, system.Start(patient(t, cluster.StartTimeout)))
	return system
}

// scratch is a directory for one test, kept on failure if E2E_KEEP is set.
func scratch(t *testing.T) string {
	t.Helper()
	if os.Getenv("E2E_KEEP") == "" {
		return t.TempDir()
	}
	directory, err := os.MkdirTemp("", "ww-e2e-kept-")
	require.NoError(t, err)
	t.Log("state is kept in", directory)
	return directory
}

// refusePanics fails the test if a daemon panicked or raced, whatever else the
// test saw.
func refusePanics(t *testing.T, system *cluster.Cluster) {
	t.Helper()
	for _, p := range system.Processes() {
		b, err := os.ReadFile(p.Log)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "invariant broken"} {
			if at := bytes.Index(b, []byte(sign)); at >= 0 {
				t.Errorf("%s: %s", p.Name, b[at:min(len(b), at+4000)])
			}
		}
	}
}

// result is how one run of ww ended.
type result struct {
	stdout, stderr string
	code           int
}

// call is one run of ww.
type call struct {
	arguments []string
	stdin     []byte
	directory string   // where it runs; default: the test's
	namenode  string   // default: the cluster's
	setting   []string // more environment
}

// ww runs a client verb against the cluster.
func ww(t *testing.T, system *cluster.Cluster, arguments ...string) result {
	t.Helper()
	return do(t, system, call{arguments: arguments})
}

// mustWW is ww that has to succeed; it returns what was printed.
func mustWW(t *testing.T, system *cluster.Cluster, arguments ...string) string {
	t.Helper()
	r := ww(t, system, arguments...)
	require.Zero(t, r.code, "ww %s\nstdout: %s\nstderr: %s", strings.Join(arguments, " "), clip(r.stdout), r.stderr)
	return r.stdout
}

func do(t *testing.T, system *cluster.Cluster, answer call) result {
	t.Helper()
	if answer.namenode == "" {
		answer.namenode = system.Address()
	}
	command := exec.CommandContext(patient(t, 3*time.Minute), program,
		append([]string{"--namenode", answer.namenode}, answer.arguments...)...)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr, command.Dir = bytes.NewReader(answer.stdin), &stdout,
		&stderr, answer.directory
	// A program with the race detector otherwise takes a second to end.
	command.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), answer.setting...)
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err, "run ww %v", answer.arguments)
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), code: command.ProcessState.ExitCode()}
}

// Exit codes of ww.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitExists      = 4
	exitUnavailable = 5
	exitCorrupt     = 6
)

// refused runs ww, which has to fail with code and a message that holds each of
// the words; a stack trace is never an answer.
func refused(t *testing.T, system *cluster.Cluster, l call, code int, words ...string) {
	t.Helper()
	r := do(t, system, l)
	text := fmt.Sprintf("ww %q\nstdout: %s\nstderr: %s", l.arguments, clip(r.stdout), r.stderr)
	require.Equal(t, code, r.code, text)
	require.NotContains(t, r.stderr, "goroutine ", text)
	require.NotEmpty(t, strings.TrimSpace(r.stderr), text)
	for _, word := range words {
		require.Contains(t, r.stderr, word, text)
	}
}

func clip(s string) string {
	if len(s) > 2000 {
		return s[:2000] + "…"
	}
	return s
}

// bytesOf makes size bytes that depend on seed, different at every offset, so
// that a piece that was lost, doubled or moved shows.
func bytesOf(seed uint64, size int) []byte {
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 1})
	b := make([]byte, size)
	_, _ = source.Read(b) // never fails
	return b
}

// sameBytes compares without printing megabytes.
func sameBytes(t *testing.T, want, got []byte, what string) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	require.FailNow(t, "bytes differ", "%s: %d bytes wanted, %d got, first difference at %d", what,
		len(want), len(got), at)
}

// localFile writes a file for ww to read.
func localFile(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "source")
	require.NoError(t, os.WriteFile(name, content, 0o644))
	return name
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}
