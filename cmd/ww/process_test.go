package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childRole is the variable that turns the test binary into another program. It
// has no prefix WW_, so that the demo passes it to its own children.
const childRole = "TEST_CHILD_OF_WW"

// child is what the test binary does in a role; false: run the tests.
func child() (code int, is bool) {
	switch os.Getenv(childRole) {
	case "ww":
		return mainExit(), true
	case "stubborn": // a program that does not end when its context does
		ctx, stop := notifySignals(context.Background())
		defer stop()
		fmt.Println("waiting")
		<-ctx.Done()
		fmt.Println("still here")
		select {}
	}
	return 0, false
}

// spawn starts the test binary in a role.
func spawn(t *testing.T, role string, args ...string) (*exec.Cmd, *bufio.Reader, io.WriteCloser) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, os.Args[0], args...)
	command.Env = []string{childRole + "=" + role, "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	return command, bufio.NewReader(stdout), stdin
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

// line reads one line of a child.
func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	text, err := r.ReadString('\n')
	require.NoError(t, err)
	return text
}

func TestSignalsEndAMini(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "with space")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		command, stdout, _ := spawn(t, "ww", "mini", "--dir", directory, "--listen", "127.0.0.1:0", "--datanodes",
			"1", "--reserve", "0")
		said := line(t, stdout)
		require.Contains(t, said, "export WW_CONFIG='"+filepath.Join(directory, "client.yaml")+"'")
		r := runWW(t.Context(), strings.NewReader("hello"), nil, "--config", filepath.Join(directory, "client.yaml"),
			"put", "-f", "-", "/f")
		require.Zero(t, r.code, r.stderr)
		require.NoError(t, command.Process.Signal(signal))
		require.Zero(t, exitCode(t, command.Wait()))
	}
}

func TestSIGINTEndsAVerbThatWaits(t *testing.T) {
	system := startWoods(t, 1)
	command, stdout, stdin := spawn(t, "ww", "--config", filepath.Join(system.directory, "client.yaml"),
		"--json", "cat", "/none")
	require.Equal(t, exitNotFound, exitCode(t, command.Wait()))
	_, _ = stdout, stdin

	command, stdout, stdin = spawn(t, "ww", "--config", filepath.Join(system.directory, "client.yaml"), "append",
		"--create", "-", "/f")
	_, err := stdin.Write([]byte("half a line"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return system.run("", "cat", "/f").stdout == "half a line"
	}, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, command.Process.Signal(syscall.SIGINT))
	require.Equal(t, exitInterrupted, exitCode(t, command.Wait()))
	_ = stdout
	require.Equal(t, "half a line", system.must("cat", "/f"), "what was written stays")
	require.NotContains(t, system.must("stat", "/f"), "written by", "the lease was given back")
}

func TestTheSecondSignalEndsAtOnce(t *testing.T) {
	command, stdout, _ := spawn(t, "stubborn")
	require.Equal(t, "waiting\n", line(t, stdout))
	require.NoError(t, command.Process.Signal(syscall.SIGINT))
	require.Equal(t, "still here\n", line(t, stdout))
	require.NoError(t, command.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitInterrupted, exitCode(t, command.Wait()))
}

// TestDemo runs the demo with little data: it ends well, is short, and leaves
// nothing behind.
func TestDemo(t *testing.T) {
	tree, scratch := t.TempDir(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(tree, "a", "empty"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(tree, "a", "file one"), bytesOf(1, 100_000), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(tree, "two"), nil, 0o644))
	command, stdout, _ := spawn(t, "ww", "demo", "--tree", tree, "--size", "3MiB", "--in", scratch)
	said, err := io.ReadAll(stdout)
	require.NoError(t, err)
	require.Zero(t, exitCode(t, command.Wait()), string(said))
	require.LessOrEqual(t, strings.Count(string(said), "\n"), 25)
	for _, word := range []string{"2 files", "3.0 MiB", "fetched", "appended", "started it again",
		"deleted", "To go on"} {
		require.Contains(t, string(said), word)
	}
	left, err := os.ReadDir(scratch)
	require.NoError(t, err)
	require.Empty(t, left)

	command, _, _ = spawn(t, "ww", "demo", "--tree", filepath.Join(tree, "none"), "--in", scratch)
	require.Equal(t, exitNotFound, exitCode(t, command.Wait()))
}
