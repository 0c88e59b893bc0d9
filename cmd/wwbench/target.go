package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// closeTimeout bounds the end of a cluster of our own.
const closeTimeout = 20 * time.Second

// targetFlags say what is measured: a cluster that runs, or one of our own.
type targetFlags struct {
	config    string
	namenodes []string
	mini      bool
	alone     bool   // a log server and a namenode of our own, no datanode
	directory string // local: floors, and the cluster of our own
	datanodes int
	clients   int
	parallel  int   // chunks of one file at once; 0: as configured
	packet    int64 // bytes of one packet; 0: as configured
	verbose   bool
}

func (t *targetFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&t.config, "config", "",
		"YAML `file` that names the cluster, such as client.yaml of ww mini; default WW_CONFIG")
	flags.StringSliceVar(&t.namenodes, "namenode", nil, "`host:port` of every namenode (WW_NAMENODE)")
	flags.BoolVar(&t.mini, "mini", false, "start a cluster for this run: one process, loopback, real files below --dir")
	flags.StringVar(&t.directory, "dir", ".",
		"local `directory`: the floors are measured in it, and --mini keeps its files there")
	flags.IntVar(&t.datanodes, "datanodes", 3, "datanodes of --mini, hops of the raw pipeline")
	flags.IntVar(&t.clients, "clients", 4, "clients with connections of their own; workers take turns")
	flags.IntVar(&t.parallel, "parallel", 0, "chunks of one file that are transferred at once (default: the client's)")
	bytesFlag(cmd, "packet-size", "bytes of one packet on the wire (0: the client's default)", &t.packet)
	flags.BoolVarP(&t.verbose, "verbose", "v", false, "show the log of the clients and of --mini")
}

// target is what is measured.
type target struct {
	name      string
	clients   []*client.Client
	dataFiles string                        // local directory of a cluster of our own; "" else
	ends      []func(context.Context) error // of a cluster of our own, the last one first
}

// open connects, and starts a cluster if one of our own is asked for.
func (t *targetFlags) open(ctx context.Context, cmd *cobra.Command) (_ *target, err error) {
	if t.mini && (t.config != "" || len(t.namenodes) > 0) {
		return nil, usage(cmd, "--mini is a cluster of its own: leave --config and --namenode out")
	}
	if t.clients < 1 || t.clients > 256 {
		return nil, usage(cmd, "--clients %d: want 1 to 256", t.clients)
	}
	if t.datanodes < 1 || t.datanodes > 16 {
		return nil, usage(cmd, "--datanodes %d: want 1 to 16", t.datanodes)
	}
	logger := slog.New(slog.DiscardHandler)
	if t.verbose {
		logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	}
	out := &target{}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.close(ctx))
		}
	}()
	var options client.Options
	switch {
	case t.alone:
		options.Namenodes, err = out.startNamenode(ctx, t.directory, logger)
	case t.mini:
		options.Namenodes, err = out.startMini(ctx, t, logger)
	default:
		options, err = t.configured(cmd)
		out.name = strings.Join(options.Namenodes, ",")
	}
	if err != nil {
		return nil, err
	}
	options.Name, options.Logger = "wwbench", logger
	options.ParallelChunks = cmp.Or(t.parallel, options.ParallelChunks)
	options.PacketBytes = cmp.Or(int(t.packet), options.PacketBytes)
	for range t.clients {
		one, err := client.Dial(ctx, options)
		if err != nil {
			return nil, err
		}
		out.clients = append(out.clients, one)
	}
	_, err = out.clients[0].ClusterStatus(ctx)
	return out, err
}

// configured gives the options for a cluster that runs already: flag, environment, file, default.
func (t *targetFlags) configured(cmd *cobra.Command) (client.Options, error) {
	source := config.Source{File: cmp.Or(t.config, os.Getenv("WW_CONFIG")), Environ: os.Environ(),
		Flags: map[string]string{}}
	if len(t.namenodes) > 0 {
		source.Flags["client.namenodes"] = strings.Join(t.namenodes, ",")
	}
	loaded, err := config.Load(source)
	if err != nil {
		return client.Options{}, err
	}
	if loaded.Origin["client.namenodes"] == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "wwbench: no --mini, --config or --namenode: trying %s\n",
			strings.Join(loaded.Client.Namenodes, ", "))
	}
	return daemon.ClientOptions(loaded.Client)
}

// startMini starts a cluster in a folder of its own.
func (out *target) startMini(ctx context.Context, t *targetFlags, logger *slog.Logger) ([]string, error) {
	directory, err := out.folder(t.directory)
	if err != nil {
		return nil, err
	}
	settings := config.Default().Mini
	settings.Dir, settings.Listen, settings.Datanodes = directory, "127.0.0.1:0", t.datanodes
	settings.TrashDelay = config.Duration(time.Second)
	cluster, err := daemon.StartMini(ctx, settings, logger)
	if err != nil {
		return nil, err
	}
	out.name, out.dataFiles = "mini", directory
	out.ends = append(out.ends, cluster.Close)
	return []string{cluster.Address("grpc")}, cluster.WaitReady(ctx)
}

// startNamenode starts a log server and a namenode, without a datanode.
func (out *target) startNamenode(ctx context.Context, parent string, logger *slog.Logger) ([]string, error) {
	directory, err := out.folder(parent)
	if err != nil {
		return nil, err
	}
	settings := config.Default()
	settings.Logserver.Dir, settings.Logserver.Listen, settings.Logserver.RaftListen = filepath.Join(directory, "log"),
		"127.0.0.1:0", ""
	log, err := daemon.StartLogServer(ctx, settings.Logserver, logger)
	if err != nil {
		return nil, err
	}
	out.ends = append(out.ends, log.Close)
	settings.Namenode.Listen, settings.Namenode.LogServers = "127.0.0.1:0", []string{log.Address("grpc")}
	namenode, err := daemon.StartNamenode(ctx, settings.Namenode, logger)
	if err != nil {
		return nil, err
	}
	out.name = "namenode"
	out.ends = append(out.ends, namenode.Close)
	return []string{namenode.Address("grpc")}, cmp.Or(log.WaitReady(ctx), namenode.WaitReady(ctx))
}

// folder makes one for a cluster of our own.
func (out *target) folder(parent string) (string, error) {
	directory, err := os.MkdirTemp(parent, "wwbench-")
	if err != nil {
		return "", &fault.Error{Kind: fault.Disk, Op: "make a folder for the cluster", Path: parent, Err: err}
	}
	out.ends = append(out.ends, func(context.Context) error { return os.RemoveAll(directory) })
	return directory, nil
}

// close disconnects and ends a cluster of our own.
func (out *target) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	for _, woods := range out.clients {
		woods.Close()
	}
	var errs []error
	for _, end := range slices.Backward(out.ends) {
		errs = append(errs, end(ctx))
	}
	out.clients, out.ends = nil, nil
	return errors.Join(errs...)
}
