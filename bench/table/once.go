package table

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// start measures a person's first minute: ww mini to the first stored file, and the time of a verb.
func start(ctx context.Context, run *runner) error {
	runs := max(run.options.Rounds, 3)
	if run.options.Short {
		runs = 1
	}
	for i := range runs {
		run.say("start of ww mini, %d of %d", i+1, runs)
		if err := run.startOnce(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) startOnce(ctx context.Context) (err error) {
	directory, err := os.MkdirTemp(r.directory, "mini-")
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "start ww mini", Path: r.directory, Err: err}
	}
	file := filepath.Join(directory, "client.yaml")
	started := time.Now()
	mini := cluster.NewProcess("mini", filepath.Join(directory, "mini.log"), r.options.Program,
		"mini", "--dir", directory, "--listen", "127.0.0.1:0", "--log-level", "error")
	if err := mini.Start(); err != nil {
		return &fault.Error{Kind: fault.Unavailable, Op: "start ww mini", Path: r.options.Program, Err: err}
	}
	defer func() { err = errors.Join(err, mini.Stop()) }()
	address, err := waitForFile(ctx, file)
	if err != nil {
		return err
	}
	woods, err := client.Dial(ctx, client.Options{Namenodes: []string{address}, Name: "wwbench"})
	if err != nil {
		return err
	}
	defer woods.Close()
	if _, err := woods.Store(ctx, "/first", workload.Source(1, 1), 4096, client.StoreOptions{}); err != nil {
		return err
	}
	r.add(Row{Name: "ww mini to the first stored file", Unit: "s", Goal: 2, Less: true}, time.Since(started).Seconds(),
		"empty directory, 3 datanodes, durable on all")
	started = time.Now()
	list := exec.CommandContext(ctx, r.options.Program, "--config", file, "ls", "/")
	list.Env = cluster.Environment()
	out, err := list.Output()
	if err != nil || !strings.Contains(string(out), "first") {
		return fault.New(fault.Internal, "ww ls /", "%v: %q", err, out)
	}
	r.add(Row{Name: "ww ls /", Unit: "ms", Goal: 30, Less: true},
		float64(time.Since(started).Microseconds())/1e3, "from fork to exit")
	return nil
}

// waitForFile waits for a client.yaml and returns the namenode's address.
func waitForFile(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := clock.Poll(ctx, clock.Real{}, 2*time.Millisecond, func() error {
		_, err := os.Stat(path)
		return err
	})
	if err != nil {
		return "", fault.New(fault.Unavailable, "start ww mini", "it does not serve after a minute")
	}
	loaded, err := config.Load(config.Source{File: path})
	if err != nil {
		return "", err
	}
	return loaded.Client.Namenodes[0], nil
}

// idle counts the CPU time of processes without requests.
func idle(ctx context.Context, run *runner) error {
	system, err := run.processes(ctx)
	if err != nil {
		return err
	}
	span := time.Duration(run.scale.idle * float64(time.Second))
	settle := span / 2 // deletions of the parts before go on for a moment
	run.say("idle processes, %s", settle+span)
	if err := clock.Sleep(ctx, clock.Real{}, settle); err != nil {
		return err
	}
	before := map[string]time.Duration{}
	for _, process := range system.Processes() {
		if before[process.Name], err = process.CPU(); err != nil {
			return err
		}
	}
	started := time.Now()
	if err := clock.Sleep(ctx, clock.Real{}, span); err != nil {
		return err
	}
	took := time.Since(started)
	most, name := 0.0, ""
	for _, process := range system.Processes() {
		after, err := process.CPU()
		if err != nil {
			return err
		}
		if share := (after - before[process.Name]).Seconds() / took.Seconds(); share >= most {
			most, name = share, process.Name
		}
	}
	run.add(Row{Name: "CPU of the busiest idle process", Unit: "ratio", Goal: 0.01, Less: true}, most,
		"%s, %.1f %% over %.0f s", name, 100*most, took.Seconds())
	return nil
}

// death stops a datanode without ending it, which closes no connection, and waits until the namenode misses its
// replica. It is the last part that uses the cluster.
func death(ctx context.Context, run *runner) error {
	row := Row{Name: "a hung datanode counts as dead", Unit: "s", Goal: 10, Less: true}
	if run.options.Short {
		row.Missing = "not in a short run"
		run.missing(row)
		return nil
	}
	system, err := run.processes(ctx)
	if err != nil {
		return err
	}
	run.say("death of a datanode")
	woods := system.clients[0]
	if _, err := woods.Store(ctx, "/death", workload.Source(1, 1), 4096, client.StoreOptions{}); err != nil {
		return err
	}
	if err := system.Datanodes[2].Pause(); err != nil {
		return err
	}
	started := time.Now()
	if err := system.watchMissed(ctx, func(missed int64) bool { return missed > 0 }); err != nil {
		return err
	}
	run.add(row, time.Since(started).Seconds(),
		"SIGSTOP to the first chunk that counts as under-replicated; default settings")
	return nil
}

// later lists the targets that nothing measures yet.
func later(_ context.Context, run *runner) error {
	run.missing(Row{Name: "first mutation after the active namenode died", Unit: "s", Goal: 3, Less: true,
		Missing: "not built: standbys"})
	return nil
}
