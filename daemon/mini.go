package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

const (
	// ClientFile is the file in a mini cluster's directory that says how clients reach it.
	ClientFile = "client.yaml"
	// safeModeWait bounds how long a mini cluster waits for all its chunks
	// before it says that it serves; reads work in safe mode too.
	safeModeWait = 10 * time.Second
	// miniReplicationMax is the replication of a mini cluster with datanodes enough.
	miniReplicationMax = 3
)

// ClientFilePath is the absolute path of the client file of a mini cluster in a directory.
func ClientFilePath(directory string) string {
	if absolute, err := filepath.Abs(directory); err == nil {
		directory = absolute
	}
	return filepath.Join(directory, ClientFile)
}

// StartMini runs a log server, a namenode and datanodes in this process, with all state below c.Dir: log/, dn1/,
// dn2/, …. ctx bounds the start. When WaitReady returns nil, the cluster serves and c.Dir/client.yaml names its
// address. A directory that has more datanodes than asked for gets all of them, because their chunks would be
// missing otherwise. One process at a time may use a directory: fault.Busy.
func StartMini(ctx context.Context, section config.Mini, logger *slog.Logger) (*Daemon, error) {
	if err := section.Validate(); err != nil {
		return nil, err
	}
	directory, err := filepath.Abs(section.Dir)
	if err != nil {
		return nil, fault.New(fault.Invalid, "mini", "%q: %v", section.Dir, err)
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, vfs.FaultOf("mini", err)
	}
	lock, err := vfs.LockDirectory(directory, "lock", true)
	if err != nil {
		return nil, vfs.FaultOf("mini", err)
	}
	section.Dir = directory
	daemon := newDaemon("mini", logger)
	daemon.logger = slog.New(quietAtEnd{daemon.logger.Handler(), daemon.closing})
	daemon.add("lock", func(context.Context) error { return lock.Close() })
	// What an earlier run wrote may name a port of somebody else by now.
	if err := os.Remove(filepath.Join(directory, ClientFile)); err != nil && !os.IsNotExist(err) {
		return nil, daemon.abandon(ctx, vfs.FaultOf("mini", err))
	}
	if n := datanodesIn(directory); n > section.Datanodes {
		daemon.logger.Warn("the directory has more datanodes than asked for, starting all of them",
			"asked", section.Datanodes, "present", n)
		section.Datanodes = n
	}
	options, err := newMiniOptions(section)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	if err := daemon.startMini(ctx, options); err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	return daemon, nil
}

// miniOptions are those of the parts of a mini cluster, as far as its section
// says. The addresses of the parts are known only once these have started.
type miniOptions struct {
	process   processOptions // its admin address serves all parts
	directory string
	// advertised is the host that clients connect to, datanodesUse the one that this process does.
	advertised, datanodesUse string
	logServer                logServerOptions
	namenode                 namenodeOptions
	datanodes                []datanodeOptions
}

// newMiniOptions wants a valid section.
func newMiniOptions(section config.Mini) (miniOptions, error) {
	host, _, _ := net.SplitHostPort(section.Listen)
	options := miniOptions{
		process:   newProcessOptions(section.Process),
		directory: section.Dir, advertised: cmp.Or(section.Advertise, host),
	}
	options.datanodesUse = options.advertised
	if config.AllInterfaces(section.Listen) {
		options.datanodesUse = "127.0.0.1"
	}
	settings := config.Default()
	// The process is the cluster's, not its parts'.
	none := config.Process{}
	settings.Logserver.Process, settings.Namenode.Process, settings.Datanode.Process = none, none, none
	settings.Logserver.Dir = filepath.Join(section.Dir, "log")
	settings.Logserver.Listen, settings.Logserver.RaftListen = "127.0.0.1:0", ""
	settings.Namenode.Listen, settings.Namenode.ChunkSize = section.Listen, section.ChunkSize
	settings.Namenode.TrashExpiry = section.TrashExpiry
	if settings.Namenode.Replication = section.Replication; section.Replication == 0 {
		settings.Namenode.Replication = min(miniReplicationMax, section.Datanodes)
	}
	settings.Datanode.Listen = net.JoinHostPort(host, "0")
	settings.Datanode.TrashDelay, settings.Datanode.Reserve = section.TrashDelay, section.Reserve
	if options.advertised != host {
		settings.Datanode.Advertise = net.JoinHostPort(options.advertised, "0")
	}
	var err error
	if options.logServer, err = newLogServerOptions(settings.Logserver); err != nil {
		return options, err
	}
	if options.namenode, err = newNamenodeOptions(settings.Namenode); err != nil {
		return options, err
	}
	for i := range section.Datanodes {
		settings.Datanode.Disks = []string{filepath.Join(section.Dir, datanodeName(i))}
		datanode, err := newDatanodeOptions(settings.Datanode)
		if err != nil {
			return options, err
		}
		options.datanodes = append(options.datanodes, datanode)
	}
	return options, nil
}

// datanodeName is the name of a mini cluster's datanode, and of its directory.
func datanodeName(index int) string { return fmt.Sprintf("dn%d", index+1) }

// startMini starts the parts in the order of their need.
func (d *Daemon) startMini(ctx context.Context, options miniOptions) error {
	if err := d.own(options.process, ""); err != nil {
		return err
	}
	role := func(name string) *slog.Logger { return d.logger.With("role", name) }
	logServer, err := d.part(startLogServer(ctx, options.logServer, d.admin, role("logserver")))
	if err != nil {
		return err
	}
	options.namenode.namenode.LogServers = []string{logServer.Address("grpc")}
	namenode, err := d.part(startNamenode(ctx, options.namenode, d.admin, role("namenode")))
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(namenode.Address("grpc"))
	if err != nil {
		return fault.New(fault.Internal, "mini", "the namenode listens on %q", namenode.Address("grpc"))
	}
	d.addresses["grpc"] = net.JoinHostPort(options.advertised, port)

	namenodes := []string{net.JoinHostPort(options.datanodesUse, port)}
	var datanodes []*Daemon
	for i, part := range options.datanodes {
		part.agent.Namenodes, part.appender.Namenodes = namenodes, namenodes
		datanode, err := d.part(startDatanode(ctx, part, d.admin, role(datanodeName(i))))
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
		if err := waitOutOfSafeMode(ctx, d.addresses["grpc"], len(options.datanodes), d.logger); err != nil {
			return err
		}
		return writeClientFile(options.directory, d.addresses["grpc"])
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
	err = clock.Poll(waiting, clock.Real{}, readyPoll, func() error {
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

// writeClientFile writes the address for clients, in one step.
func writeClientFile(directory, address string) error {
	text, err := config.Encode(map[string]any{"client.namenodes": []string{address}})
	if err != nil {
		return err
	}
	path := filepath.Join(directory, ClientFile)
	text = append(
		[]byte("# How to reach this cluster: ww --config "+path+" ls /\n# Written at every start of ww mini.\n"),
		text...)
	return vfs.FaultOf("mini", vfs.WriteDurably(vfs.OS{}, path, text))
}

// datanodesIn is the highest n with a directory dn<n>.
func datanodesIn(directory string) int {
	highest := 0
	entries, err := os.ReadDir(directory)
	if err != nil {
		return 0 // the datanodes will report it
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
