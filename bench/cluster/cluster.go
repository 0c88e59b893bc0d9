package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
)

// Options says what cluster New makes.
type Options struct {
	Program     string // the built ww
	Directory   string // all state, configuration and logs; must exist
	Datanodes   int    // default 4
	Disks       int    // directories per datanode; default 1
	Replication int    // default 3
	ChunkSize   int64  // default of files, in bytes; default 1 MiB
	// LeaseSoftLimit is after how long another client may take a lease over; default 1 s, so that tests need not wait.
	LeaseSoftLimit time.Duration
	LeaseHardLimit time.Duration // after how long the namenode ends a lease; default 1 min
	// RepairGrace is how long a dead datanode may come back before its chunks are copied; 0: the namenode's default.
	RepairGrace time.Duration
	// DeadAfter is the silence after which a datanode counts as dead; 0: the namenode's default.
	DeadAfter time.Duration
	// Settings are more of the configuration, by key: "datanode.window" and then
	// "1MiB". They win over what the options above say.
	Settings map[string]any
	LogLevel string // of all processes; default "debug"
}

// StartTimeout is more than a cluster needs to serve, on a busy machine.
const StartTimeout = time.Minute

// Cluster is one log server, one namenode and some datanodes. Its methods may
// be called from several goroutines, but Start and Close from one.
type Cluster struct {
	LogServer *Process
	Namenode  *Process
	Datanodes []*Process

	// Ports that listen on 127.0.0.1, for tests that speak to them directly.
	LogPort, RaftPort, NamenodePort int
	DataPorts                       []int

	options  Options
	launcher *launcher
	client   *client.Client
}

// New writes the configuration of a cluster; Start starts it.
func New(options Options) (*Cluster, error) {
	options.Datanodes = cmp.Or(options.Datanodes, 4)
	options.Disks = cmp.Or(options.Disks, 1)
	options.Replication = cmp.Or(options.Replication, 3)
	options.ChunkSize = cmp.Or(options.ChunkSize, 1<<20)
	options.LogLevel = cmp.Or(options.LogLevel, "debug")
	options.LeaseSoftLimit = cmp.Or(options.LeaseSoftLimit, time.Second)
	options.LeaseHardLimit = cmp.Or(options.LeaseHardLimit, time.Minute)
	ports, err := freePorts(3 + options.Datanodes)
	if err != nil {
		return nil, err
	}
	cluster := &Cluster{
		LogPort: ports[0], RaftPort: ports[1], NamenodePort: ports[2], DataPorts: ports[3:],
		options: options, launcher: newLauncher(),
	}
	if err := cluster.configure(); err != nil {
		cluster.launcher.close()
		return nil, err
	}
	cluster.client, err = client.Dial(context.Background(),
		client.Options{Namenodes: []string{cluster.Address()}, Name: "e2e"})
	if err != nil {
		cluster.launcher.close()
		return nil, err
	}
	return cluster, nil
}

// configure writes one configuration file per process.
func (c *Cluster) configure() (err error) {
	options := c.options
	logServer := fmt.Sprintf("127.0.0.1:%d", c.LogPort)
	c.LogServer, err = c.process("logserver", "logserver", map[string]any{
		"logserver.id": "log1", "logserver.dir": c.Path("logserver"),
		"logserver.listen": logServer, "logserver.raft_listen": fmt.Sprintf("127.0.0.1:%d", c.RaftPort),
	})
	if err != nil {
		return err
	}
	namenode := map[string]any{
		"namenode.listen": c.Address(), "namenode.log_servers": []string{logServer},
		"namenode.replication": options.Replication, "namenode.chunk_size": options.ChunkSize,
		"namenode.lease_soft_limit": options.LeaseSoftLimit, "namenode.lease_hard_limit": options.LeaseHardLimit,
	}
	if options.DeadAfter > 0 {
		namenode["namenode.dead_after"] = options.DeadAfter
	}
	if options.RepairGrace > 0 {
		namenode["namenode.repair_grace"] = options.RepairGrace
	}
	if c.Namenode, err = c.process("namenode", "namenode", namenode); err != nil {
		return err
	}
	for i := range options.Datanodes {
		process, err := c.process("datanode", fmt.Sprintf("datanode-%d", i), map[string]any{
			"datanode.listen": fmt.Sprintf("127.0.0.1:%d", c.DataPorts[i]), "datanode.disks": c.Disks(i),
			"datanode.namenodes": []string{c.Address()}, "datanode.trash_delay": time.Second,
			"datanode.reserve": "1MiB",
		})
		if err != nil {
			return err
		}
		c.Datanodes = append(c.Datanodes, process)
	}
	return nil
}

// process writes the configuration of a process.
func (c *Cluster) process(verb, name string, settings map[string]any) (*Process, error) {
	settings["log.level"], settings["log.format"] = c.options.LogLevel, "text"
	for key, value := range c.options.Settings {
		if strings.HasPrefix(key, verb+".") {
			settings[key] = value
		}
	}
	text, err := config.Encode(settings)
	if err != nil {
		return nil, fmt.Errorf("configure %s: %w", name, err)
	}
	file := c.Path(name + ".yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return nil, fmt.Errorf("configure %s: %w", name, err)
	}
	process := NewProcess(name, c.Path(name+".log"), c.options.Program, verb, "--config", file)
	process.launcher = c.launcher
	return process, nil
}

// Path names something below the cluster's directory.
func (c *Cluster) Path(elements ...string) string {
	return filepath.Join(append([]string{c.options.Directory}, elements...)...)
}

// Disks lists the data directories of a datanode.
func (c *Cluster) Disks(datanode int) []string {
	var out []string
	for d := range c.options.Disks {
		out = append(out, c.Path(fmt.Sprintf("datanode-%d", datanode), fmt.Sprintf("disk-%d", d)))
	}
	return out
}

// Address is the namenode's, for --namenode.
func (c *Cluster) Address() string { return fmt.Sprintf("127.0.0.1:%d", c.NamenodePort) }

// Client is a client of the cluster that lives as long as the cluster does.
func (c *Cluster) Client() *client.Client { return c.client }

// Processes lists all daemons, the log server first.
func (c *Cluster) Processes() []*Process {
	return append([]*Process{c.LogServer, c.Namenode}, c.Datanodes...)
}

// Start starts what does not run, all at once and in any order, and waits until the cluster serves.
func (c *Cluster) Start(ctx context.Context) error {
	for _, p := range c.Processes() {
		if p.Pid() != 0 {
			continue
		}
		if err := p.Start(); err != nil {
			return err
		}
	}
	return c.WaitReady(ctx)
}

// WaitReady waits until every process that runs takes part: the namenode has left safe mode, and each running
// datanode is live. It fails at once if a process has ended by itself.
func (c *Cluster) WaitReady(ctx context.Context) error {
	running := 0
	for _, p := range c.Datanodes {
		if p.Pid() != 0 {
			running++
		}
	}
	dead := false
	err := Poll(ctx, func() error {
		if dead = c.LogServer.Pid() == 0 || c.Namenode.Pid() == 0; dead {
			return nil
		}
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		status, err := c.client.ClusterStatus(try)
		switch {
		case err != nil:
			return err
		case status.SafeMode:
			return fmt.Errorf("safe mode: %s", status.SafeModeReason)
		}
		live := 0
		for _, n := range status.Nodes {
			if n.Live {
				live++
			}
		}
		if live < running {
			return fmt.Errorf("%d of %d datanodes are live", live, running)
		}
		return nil
	})
	if dead {
		return errors.New("the log server or the namenode does not run")
	}
	return err
}

// Stop ends all processes with SIGTERM, datanodes first.
func (c *Cluster) Stop() error {
	var errs []error
	processes := c.Processes()
	for i := len(processes) - 1; i >= 0; i-- {
		errs = append(errs, processes[i].Stop())
	}
	return errors.Join(errs...)
}

// Kill ends the given processes with SIGKILL, as nearly at once as signals go.
func (c *Cluster) Kill(processes ...*Process) error {
	errs := make(chan error, len(processes))
	for _, p := range processes {
		go func() { errs <- p.Kill() }()
	}
	var all []error
	for range processes {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// Close kills what runs and frees everything but the directory.
func (c *Cluster) Close() error {
	err := errors.Join(c.client.Close(), c.Kill(c.Processes()...))
	c.launcher.close()
	return err
}

// LogTail writes the last lines of every process's log to w, without those of level debug.
func (c *Cluster) LogTail(out io.Writer, count int) {
	for _, process := range c.Processes() {
		b, err := os.ReadFile(process.Log)
		if err != nil {
			fmt.Fprintf(out, "==> %s: %v\n", process.Name, err)
			continue
		}
		var lines []string
		for line := range strings.Lines(string(b)) {
			if !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		fmt.Fprintf(out, "==> %s <==\n%s", process.Log, strings.Join(lines[max(0, len(lines)-count):], ""))
	}
}

// DatanodeAt is the index of the datanode that listens on an address, -1 if none does.
func (c *Cluster) DatanodeAt(address string) int {
	for i, port := range c.DataPorts {
		if address == fmt.Sprintf("127.0.0.1:%d", port) {
			return i
		}
	}
	return -1
}
