package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

const (
	// ClientFile is the file in a mini cluster's directory that tells clients
	// how to reach it.
	ClientFile = "client.yaml"
	// safeModeWait bounds how long a mini cluster waits for all its chunks
	// before it says that it serves; reads work in safe mode too.
	safeModeWait = 10 * time.Second
	// miniReplicationMax is the replication of a mini cluster with datanodes
	// enough.
	miniReplicationMax = 3
)

// ClientFilePath is the absolute path of the client file of a mini cluster in a
// directory.
func ClientFilePath(directory string) string {
	if absolute, err := filepath.Abs(directory); err == nil {
		directory = absolute
	}
	return filepath.Join(directory, ClientFile)
}

// StartMini runs a log server, a namenode and datanodes in this process, with
// all state below c.Dir: log/, dn1/, dn2/, …. ctx bounds the start. When
// WaitReady returns nil, the cluster serves and c.Dir/client.yaml names its
// address. A directory that has more datanodes than asked for gets all of them,
// because their chunks would be missing otherwise. One process at a time may
// use a directory: fault.Busy.
func StartMini(ctx context.Context, c config.Mini, logger *slog.Logger) (*Daemon, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	logger = orDiscard(logger)
	directory, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fault.New(fault.Invalid, "mini", "%q: %v", c.Dir, err)
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, miniFault(directory, err)
	}
	lock, err := vfs.LockDirectory(directory, "lock", true)
	if err != nil {
		return nil, miniFault(directory, err)
	}
	c.Dir = directory
	d := newDaemon("mini")
	logger = slog.New(quietAtEnd{logger.Handler(), d.closing})
	d.add("lock", func(context.Context) error { return lock.Close() })
	// What an earlier run wrote may name a port of somebody else by now.
	if err := os.Remove(filepath.Join(directory, ClientFile)); err != nil && !os.IsNotExist(err) {
		return nil, d.abandon(ctx, miniFault(directory, err))
	}
	if n := datanodesIn(directory); n > c.Datanodes {
		logger.Warn("the directory has more datanodes than asked for, starting all of them", "asked", c.Datanodes, "present", n)
		c.Datanodes = n
	}
	o, err := newMiniOptions(c)
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	o.runtime.apply()
	if err := d.startMini(ctx, o, logger); err != nil {
		return nil, d.abandon(ctx, err)
	}
	return d, nil
}

// miniFault makes an error of the cluster's directory a fault; a fault stays.
func miniFault(directory string, err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return &fault.Error{Kind: fault.Disk, Op: "mini", Path: directory, Err: err}
}

// miniOptions are those of the parts of a mini cluster, as far as its section
// says. The addresses of the parts are known when these have started only.
type miniOptions struct {
	runtime   runtimeOptions
	admin     admin.Options // it serves all parts
	directory string
	// advertised is the host that clients connect to, datanodesUse the one that
	// this process does.
	advertised, datanodesUse string
	logServer                logServerOptions
	namenode                 namenodeOptions
	datanodes                []datanodeOptions
}

// newMiniOptions wants a valid section.
func newMiniOptions(c config.Mini) (miniOptions, error) {
	host, _, _ := net.SplitHostPort(c.Listen)
	o := miniOptions{
		runtime: runtimeOptions{c.GCPercent, c.MemoryLimit}, admin: admin.Options{Listen: c.AdminListen},
		directory: c.Dir, advertised: c.Advertise,
	}
	if o.advertised == "" {
		o.advertised = host
	}
	o.datanodesUse = o.advertised
	if config.AllInterfaces(c.Listen) {
		o.datanodesUse = "127.0.0.1"
	}
	settings := config.Default()
	settings.Logserver.Dir = filepath.Join(c.Dir, "log")
	settings.Logserver.Listen, settings.Logserver.RaftListen = "127.0.0.1:0", ""
	settings.Namenode.Listen, settings.Namenode.ChunkSize = c.Listen, c.ChunkSize
	if settings.Namenode.Replication = c.Replication; c.Replication == 0 {
		settings.Namenode.Replication = min(miniReplicationMax, c.Datanodes)
	}
	settings.Datanode.Listen = net.JoinHostPort(host, "0")
	settings.Datanode.TrashDelay, settings.Datanode.Reserve = c.TrashDelay, c.Reserve
	if o.advertised != host {
		settings.Datanode.Advertise = net.JoinHostPort(o.advertised, "0")
	}
	var err error
	if o.logServer, err = newLogServerOptions(settings.Logserver); err != nil {
		return o, err
	}
	if o.namenode, err = newNamenodeOptions(settings.Namenode); err != nil {
		return o, err
	}
	for i := range c.Datanodes {
		settings.Datanode.Disks = []string{filepath.Join(c.Dir, datanodeName(i))}
		datanode, err := newDatanodeOptions(settings.Datanode)
		if err != nil {
			return o, err
		}
		o.datanodes = append(o.datanodes, datanode)
	}
	return o, nil
}

// datanodeName is the name of a mini cluster's datanode, and of its directory.
func datanodeName(index int) string { return fmt.Sprintf("dn%d", index+1) }

// startMini starts the parts in the order of their need.
func (d *Daemon) startMini(ctx context.Context, o miniOptions, logger *slog.Logger) error {
	adminAddress, err := d.openAdmin(o.admin, "", logger)
	if err != nil {
		return err
	}
	role := func(name string) *slog.Logger { return logger.With("role", name) }
	// Without one for the cluster the parts have none either.
	o.logServer.admin.Listen, o.namenode.admin.Listen = "", ""
	logServer, err := d.part(startLogServer(ctx, o.logServer, adminAddress, role("logserver")))
	if err != nil {
		return err
	}
	o.namenode.namenode.LogServers = []string{logServer.Address("grpc")}
	namenode, err := d.part(startNamenode(ctx, o.namenode, adminAddress, role("namenode")))
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(namenode.Address("grpc"))
	if err != nil {
		return fault.New(fault.Internal, "mini", "the namenode listens on %q", namenode.Address("grpc"))
	}
	d.addresses["grpc"] = net.JoinHostPort(o.advertised, port)

	namenodes := []string{net.JoinHostPort(o.datanodesUse, port)}
	var datanodes []*Daemon
	for i, part := range o.datanodes {
		part.admin.Listen = ""
		part.agent.Namenodes, part.appender.Namenodes = namenodes, namenodes
		datanode, err := d.part(startDatanode(ctx, part, adminAddress, role(datanodeName(i))))
		if err != nil {
			return err
		}
		d.addresses[fmt.Sprintf("data%d", i+1)] = datanode.Address("data")
		datanodes = append(datanodes, datanode)
	}
	// Before any datanode closes, as the files have replicas on others too.
	d.add("record files", func(ctx context.Context) error {
		var group errgroup.Group
		for _, p := range datanodes {
			group.Go(func() error { return p.sealFiles(ctx) })
		}
		return group.Wait()
	})
	d.works(func() error {
		for _, p := range append(datanodes, logServer, namenode) {
			if err := p.working(); err != nil {
				return err
			}
		}
		return nil
	})
	d.ready = func(ctx context.Context) error {
		group, groupContext := errgroup.WithContext(ctx)
		for _, p := range append(datanodes, logServer, namenode) {
			group.Go(func() error { return p.WaitReady(groupContext) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if err := waitOutOfSafeMode(ctx, d.addresses["grpc"], len(o.datanodes), logger); err != nil {
			return err
		}
		return writeClientFile(o.directory, d.addresses["grpc"])
	}
	return nil
}

// part adopts a daemon that runs inside of d.
func (d *Daemon) part(p *Daemon, err error) (*Daemon, error) {
	if p != nil {
		d.add(p.Name, p.Close)
		d.watch(p.Name, p.Done(), p.Err)
	}
	return p, err
}

// waitOutOfSafeMode waits until the namenode has left safe mode and sees all
// datanodes. When that takes long, it says why and returns: reads work.
func waitOutOfSafeMode(ctx context.Context, namenode string, datanodes int, logger *slog.Logger) error {
	c, err := client.Dial(ctx, client.Options{Namenodes: []string{namenode}, Name: "ww mini"})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing is being written
	waiting, cancel := context.WithTimeout(ctx, safeModeWait)
	defer cancel()
	err = poll(waiting, func() error {
		status, err := c.ClusterStatus(waiting)
		if err != nil {
			return err
		}
		live := 0
		for _, node := range status.Nodes {
			if node.Live {
				live++
			}
		}
		switch {
		case status.SafeMode:
			return fault.New(fault.SafeMode, "mini", "%s", status.SafeModeReason)
		case live < datanodes:
			return fault.New(fault.TooFewNodes, "mini", "%d of %d datanodes are live", live, datanodes)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		logger.Warn("the cluster serves, but not all of it", "err", err)
		return nil
	}
	return err
}

// writeClientFile tells clients the address, in one step.
func writeClientFile(directory, address string) error {
	text, err := yaml.Marshal(map[string]any{"client": map[string]any{"namenodes": []string{address}}})
	if err != nil {
		return fault.New(fault.Internal, "mini", "%v", err)
	}
	path := filepath.Join(directory, ClientFile)
	temporary := path + ".new"
	text = append([]byte("# How to reach this cluster: ww --config "+path+" ls /\n# Written at every start of ww mini.\n"), text...)
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "mini", Path: temporary, Err: err}
	}
	if err := os.Rename(temporary, path); err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "mini", Path: path, Err: err}
	}
	return nil
}

// datanodesIn is the highest n with a directory dn<n>.
func datanodesIn(directory string) int {
	highest := 0
	entries, err := os.ReadDir(directory)
	if err != nil {
		return 0 // the datanodes will tell
	}
	for _, e := range entries {
		var n int
		name, isDatanode := strings.CutPrefix(e.Name(), "dn")
		if _, err := fmt.Sscanf(name, "%d", &n); isDatanode && err == nil && e.IsDir() && fmt.Sprint(n) == name {
			highest = max(highest, n)
		}
	}
	return highest
}
