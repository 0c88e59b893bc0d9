package logserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
)

// childDirectory tells the test binary to be a log server on a directory.
const childDirectory = "WW_LOGSERVER_TEST_DIR"

// childMain runs a log server, prints its address, and ends with its standard
// input, or by itself with 3 after a failure.
func childMain() int {
	server, err := Start(Options{
		Directory: os.Getenv(childDirectory), ListenGRPC: "127.0.0.1:0", SegmentBytes: walcheck.SegmentBytesMin,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(server.Addr())
	orphaned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(orphaned)
	}()
	code := 0
	select {
	case <-orphaned:
	case <-server.Done():
		code = 3
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = server.Close(ctx)
	return code
}

// child is a log server in its own process.
type child struct {
	command *exec.Cmd
	stdin   io.Closer
	address string
}

// startChild runs the test binary as a log server.
func startChild(t *testing.T, dir string) *child {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childDirectory+"="+dir)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	c := &child{command: command, stdin: stdin}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, "the child did not start")
	c.address = strings.TrimSpace(line)
	return c
}

// kill is SIGKILL.
func (c *child) kill() {
	if c.command.ProcessState == nil {
		_ = c.command.Process.Kill()
		_ = c.command.Wait()
		_ = c.stdin.Close()
	}
}

// TestKillNineLosesNothingAcknowledged kills a server in the middle of a load,
// again and again, on one directory.
func TestKillNineLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	acked := uint64(0)
	for round := range 6 {
		process := startChild(t, dir)
		log, err := editlog.Dial(editlog.Options{Addresses: []string{process.address}})
		require.NoError(t, err)
		grant, err := log.AcquireEpoch(within(t), fmt.Sprintf("round %d", round))
		require.NoError(t, err)
		require.GreaterOrEqual(t, grant.LastTxid, acked, "acknowledged records are lost")
		requireRecords(t, log, 1, grant.LastTxid)

		var durable atomic.Uint64
		killAt := grant.LastTxid + 1000 + random.Uint64N(3000) // six times that fill more than a log file
		writer, err := log.OpenWriter(editlog.WriterOptions{Grant: grant, OnDurable: func(last uint64) {
			durable.Store(last)
			if last >= killAt {
				_ = process.command.Process.Kill()
			}
		}})
		require.NoError(t, err)
		for next := grant.LastTxid + 1; ; {
			count := 1 + random.IntN(20)
			if err := writer.Append(within(t), next, recordsOf(next, count)); err != nil {
				break
			}
			next += uint64(count)
		}
		writer.Close()
		require.NoError(t, log.Close())
		process.kill()
		acked = max(durable.Load(), grant.LastTxid)
		require.GreaterOrEqual(t, acked, killAt)
	}
	report, err := walcheck.Verify(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, report.LastTxid, acked)
	require.Greater(t, len(report.Segments), 1, "the load should fill several log files")
}
