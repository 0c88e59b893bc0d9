package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
)

// cluster is the child process that runs ww mini.
type cluster struct {
	command *exec.Cmd
	log     string        // file that holds what it printed
	ended   chan struct{} // closed after err is set
	err     error
}

// run starts the cluster and waits until it serves.
func (s *show) run(ctx context.Context) error {
	directory, log := s.path("cluster"), s.path("cluster.log")
	ready := filepath.Join(directory, "client.yaml")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Path: ready, Err: err}
	}
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Path: log, Err: err}
	}
	defer output.Close() // the child has its own descriptor
	command := exec.Command(s.o.Program, "mini", "--dir", directory, "--listen", "127.0.0.1:0", "--datanodes",
		fmt.Sprint(datanodes))
	command.Stdout, command.Stderr, command.Env = output, output, environment()
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to handle
	if err := command.Start(); err != nil {
		return &fault.Error{Kind: fault.Unavailable, Op: "demo", Path: s.o.Program, Err: err}
	}
	system := &cluster{command: command, log: log, ended: make(chan struct{})}
	go func() {
		system.err = command.Wait()
		close(system.ended)
	}()
	s.cluster = system
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := os.Stat(ready); err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-system.ended:
			return system.failed("ended at its start: %v", system.err)
		case <-deadline.C:
			return system.failed("does not serve after %s", startTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// failed is an error with the end of the cluster's log.
func (c *cluster) failed(format string, args ...any) error {
	text, _ := os.ReadFile(c.log) // best effort: it only adds to the message
	text = text[max(0, len(text)-2000):]
	return fault.New(fault.Unavailable, "demo", "the cluster %s; its log ends with:\n%s",
		fmt.Sprintf(format, args...), text)
}

// end stops the cluster in order.
func (c *cluster) end(ctx context.Context) error {
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		return c.failed("cannot be stopped: %v", err)
	}
	select {
	case <-c.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.err != nil {
		return c.failed("ended badly: %v", c.err)
	}
	return nil
}

// kill ends the cluster if it still runs.
func (c *cluster) kill() {
	_ = c.command.Process.Kill() // it may be gone already
	<-c.ended
}

// ww runs a verb and returns what it printed.
func (s *show) ww(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, s.o.Program,
		append([]string{"--config", filepath.Join(s.path("cluster"), "client.yaml")}, args...)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr, command.Env = &stdout, &stderr, environment()
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fault.New(fault.Internal, "demo", "ww %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// environment is ours without WW_* settings, which would reach into the demo.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "WW_") })
}
