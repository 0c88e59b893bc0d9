package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
)

// stopTimeout bounds the time from SIGTERM to the end of a process.
const stopTimeout = 20 * time.Second

// Process is one daemon that can end and start again. Safe for concurrent use.
type Process struct {
	Name string // "namenode", "datanode-2"
	Log  string // file that holds everything it ever printed

	program  string
	args     []string
	launcher *launcher // nil: it may outlive its parent
	mu       struct {
		sync.Mutex
		run *run
	}
}

// NewProcess describes a daemon that belongs to no Cluster; Start starts it. What it prints is added to the file log.
func NewProcess(name, log, program string, args ...string) *Process {
	return &Process{Name: name, Log: log, program: program, args: args}
}

// run is one life of a process.
type run struct {
	command *exec.Cmd
	ended   chan struct{} // closed after err is set
	err     error         // how it ended
}

// Start starts the process; it fails if it runs already. It does not wait for the daemon to serve.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.run != nil && !p.mu.run.over() {
		return fmt.Errorf("start %s: it runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer log.Close() // the child has its own descriptor
	command := exec.Command(p.program, p.args...)
	command.Stdout, command.Stderr = log, log
	command.Env = Environment()
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the parent to handle
	start := command.Start
	if p.launcher != nil {
		command.SysProcAttr.Pdeathsig = syscall.SIGKILL
		start = func() error { return p.launcher.start(command) }
	}
	if err := start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	r := &run{command: command, ended: make(chan struct{})}
	go func() {
		r.err = command.Wait()
		close(r.ended)
	}()
	p.mu.run = r
	return nil
}

// Pid is the id of the running process, 0 if there is none.
func (p *Process) Pid() int {
	if r := p.running(); r != nil {
		return r.command.Process.Pid
	}
	return 0
}

// Kill ends the process with SIGKILL, as a power cut of this one machine would
// (except that the page cache survives), and waits until it is gone.
func (p *Process) Kill() error {
	r := p.running()
	if r == nil {
		return nil
	}
	if err := r.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.Name, err)
	}
	<-r.ended
	return nil
}

// Stop ends the process with SIGTERM and waits. It fails if the process does
// not end in time (it is killed then), or ends with another exit code than 0.
func (p *Process) Stop() error {
	run := p.running()
	if run == nil {
		return nil
	}
	if err := run.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-run.ended:
	case <-timer.C:
		return errors.Join(fmt.Errorf("stop %s: still running %s after SIGTERM", p.Name, stopTimeout), p.Kill())
	}
	if run.err != nil {
		return fmt.Errorf("stop %s: %w", p.Name, run.err)
	}
	return nil
}

// Pause stops the process without ending it (SIGSTOP), and waits until it stands still; Resume lets it go on.
func (p *Process) Pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return Poll(ctx, func() error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
		if err == nil && !bytes.Contains(status, []byte("State:\tT")) {
			err = fmt.Errorf("%s does not stop", p.Name)
		}
		return err
	})
}

// Resume ends a Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	r := p.running()
	if r == nil {
		return fmt.Errorf("signal %s: it does not run", p.Name)
	}
	return r.command.Process.Signal(s)
}

// Ended returns a channel that is closed when the current run is over, and a function that then says how.
func (p *Process) Ended() (<-chan struct{}, func() error) {
	r := p.current()
	if r == nil {
		closed := make(chan struct{})
		close(closed)
		return closed, func() error { return nil }
	}
	return r.ended, func() error { <-r.ended; return r.err }
}

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.run
}

// running is the run that is not over; nil if there is none.
func (p *Process) running() *run {
	if r := p.current(); r != nil && !r.over() {
		return r
	}
	return nil
}

func (r *run) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// Environment is the parent's without WW_* settings, which would reach into what is started.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "WW_") })
}

// launcher starts processes from one thread that lives as long as the launcher.
type launcher struct {
	jobs chan func()
	done chan struct{}
}

func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for job := range l.jobs {
			job()
		}
	}()
	return l
}

func (l *launcher) start(command *exec.Cmd) error {
	result := make(chan error, 1)
	l.jobs <- func() { result <- command.Start() }
	return <-result
}

// close ends the launcher; it kills what still runs.
func (l *launcher) close() {
	close(l.jobs)
	<-l.done
}

// Poll calls ready until it returns nil or the context ends; then it returns the last error too.
func Poll(ctx context.Context, ready func() error) error {
	err := clock.Poll(ctx, clock.Real{}, 20*time.Millisecond, ready)
	if err != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// A process that is slowed down stands still for SlowStopped, and then runs for SlowRuns, again and again: everything
// takes it some ten times as long. Unlike slowing a disk, that needs no privileges.
const (
	SlowStopped = 45 * time.Millisecond
	SlowRuns    = 5 * time.Millisecond
)

// SlowDown makes the process slow until stop is called.
func (p *Process) SlowDown() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		for {
			err := p.Pause()
			_ = clock.Sleep(ctx, clock.Real{}, SlowStopped) // it resumes in any case
			if err = errors.Join(err, p.Resume()); err != nil || clock.Sleep(ctx, clock.Real{}, SlowRuns) != nil {
				done <- err
				return
			}
		}
	}()
	return func() error {
		cancel()
		return <-done
	}
}
