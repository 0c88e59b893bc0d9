package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every daemon writes the profile that it was asked for when it ends by a
// signal, also one that still waits for its peers.
func TestEveryDaemonWritesItsProfile(t *testing.T) {
	for _, test := range []struct {
		kind, file string
		args       []string
	}{
		{"cpu", "cpu.pprof", []string{"logserver", "--listen", "127.0.0.1:0", "--raft-listen", "",
			"--dir", t.TempDir()}},
		{"mem", "mem.pprof", []string{"namenode", "--listen", "127.0.0.1:0", "--log-servers", "127.0.0.1:1"}},
		{"mutex", "mutex.pprof", []string{"datanode", "--listen", "127.0.0.1:0", "--namenode", "127.0.0.1:1",
			"--disk", t.TempDir()}},
		{"block", "block.pprof", []string{"mini", "--listen", "127.0.0.1:0", "--dir", t.TempDir()}},
		{"trace", "trace.out", []string{"mini", "--listen", "127.0.0.1:0", "--dir", t.TempDir()}},
	} {
		directory := t.TempDir()
		file := filepath.Join(directory, test.file)
		command, _, _ := spawn(t, "ww", append(test.args, "--profile", test.kind, "--profile-dir", directory,
			"--log-level", "error")...)
		require.Eventually(t, func() bool { // made when profiling begins
			_, err := os.Stat(file)
			return err == nil
		}, 30*time.Second, 5*time.Millisecond, test.args[0])
		require.NoError(t, command.Process.Signal(syscall.SIGTERM))
		_ = command.Wait() // the exit code is other tests' business
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Positive(t, info.Size(), test.args[0])
	}
}
