package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// run starts the cluster, a child process that runs ww mini, and waits until it serves.
func (s *show) run(ctx context.Context) error {
	directory := s.path("cluster")
	ready := filepath.Join(directory, "client.yaml")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Path: ready, Err: err}
	}
	s.cluster = cluster.NewProcess("cluster", s.path("cluster.log"), s.o.Program, "mini", "--dir", directory,
		"--listen", "127.0.0.1:0", "--datanodes", fmt.Sprint(datanodes))
	if err := s.cluster.Start(); err != nil {
		return &fault.Error{Kind: fault.Unavailable, Op: "demo", Path: s.o.Program, Err: err}
	}
	waiting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	serves := false
	_ = clock.Poll(waiting, clock.Real{}, 10*time.Millisecond, func() error {
		ended := s.cluster.Pid() == 0
		_, err := os.Stat(ready)
		if serves = err == nil; ended {
			return nil
		}
		return err
	})
	switch {
	case serves:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case s.cluster.Pid() != 0:
		return s.failed(fmt.Errorf("it does not serve after %s", startTimeout))
	}
	_, how := s.cluster.Ended()
	return s.failed(fmt.Errorf("it ended at its start: %w", how()))
}

// failed is an error of the cluster with the end of its log.
func (s *show) failed(err error) error {
	if err == nil {
		return nil
	}
	text, _ := os.ReadFile(s.cluster.Log) // best effort: it only adds to the message
	text = text[max(0, len(text)-2000):]
	return fault.New(fault.Unavailable, "demo", "the cluster: %v; its log ends with:\n%s", err, text)
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
	command.Stdout, command.Stderr, command.Env = &stdout, &stderr, cluster.Environment()
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fault.New(fault.Internal, "demo", "ww %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}
