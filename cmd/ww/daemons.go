package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/daemon/profiling"
)

// closeTimeout bounds what a daemon finishes after a signal; a second signal ends it at once. A datanode then gives a
// disk that hangs some more seconds (disk.Store.Close).
const closeTimeout = 15 * time.Second

func newLogserver(program *app) *cobra.Command {
	return program.daemon("logserver", "run a log server: the durable log of the namenode",
		"  ww logserver --dir /var/lib/ww/log",
		func(ctx context.Context, c config.Loaded, l *slog.Logger) (*daemon.Daemon, error) {
			return daemon.StartLogServer(ctx, c.Logserver, l)
		})
}

func newNamenode(program *app) *cobra.Command {
	return program.daemon("namenode", "run a namenode: names, chunks and leases",
		"  ww namenode --listen 10.0.0.1:7700 --log-servers 10.0.0.1:7710",
		func(ctx context.Context, c config.Loaded, l *slog.Logger) (*daemon.Daemon, error) {
			return daemon.StartNamenode(ctx, c.Namenode, l)
		})
}

func newDatanode(program *app) *cobra.Command {
	return program.daemon("datanode", "run a datanode: stores chunks on its disks",
		"  ww datanode --listen 10.0.0.2:7720 --disk /data1 --disk /data2 --namenode 10.0.0.1:7700",
		func(ctx context.Context, c config.Loaded, l *slog.Logger) (*daemon.Daemon, error) {
			daemon.SpareProcessors()
			return daemon.StartDatanode(ctx, c.Datanode, l)
		})
}

func newMini(program *app) *cobra.Command {
	cmd := program.daemon("mini", "run a whole small cluster in one process",
		"  ww mini --dir /tmp/woods\n  ww --config /tmp/woods/client.yaml ls /",
		func(ctx context.Context, c config.Loaded, l *slog.Logger) (*daemon.Daemon, error) {
			daemon.SpareProcessors()
			return daemon.StartMini(ctx, c.Mini, l)
		})
	cmd.Long = `Run a log server, a namenode and some datanodes in one process, with real files
below --dir and real sockets. It survives restarts. When it serves, it writes
client.yaml there and prints a line that says how to use it.`
	return cmd
}

// daemon makes the verb that runs a daemon until a signal or its own end.
func (a *app) daemon(name, short, example string,
	start func(context.Context, config.Loaded, *slog.Logger) (*daemon.Daemon, error)) *cobra.Command {
	cmd := &cobra.Command{Use: name + " [flags]", Short: short, Example: example, Args: arguments(0, 0)}
	a.settings(cmd, name, false)
	kind := cmd.Flags().String("profile", "", "write a pprof profile until the daemon ends: "+profiling.Modes())
	directory := cmd.Flags().String("profile-dir", ".", "directory of the profile")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		stop, err := profiling.Start(*kind, *directory)
		if err != nil {
			return err
		}
		defer stop()
		ctx := cmd.Context()
		loaded, err := a.load()
		if err != nil {
			return err
		}
		if name == "mini" && loaded.Origin["log.level"] == "" {
			loaded.Log.Level = "warn" // it runs in a person's terminal
		}
		logger, err := a.logger(loaded.Log)
		if err != nil {
			return err
		}
		for key, origin := range loaded.Origin {
			logger.Debug("setting", "key", key, "from", origin)
		}
		d, err := start(ctx, loaded, logger)
		if err != nil {
			return err
		}
		return a.serve(ctx, d, loaded, logger)
	}
	return cmd
}

// serve lives as long as the daemon does: until it ends by itself or ctx ends.
func (a *app) serve(ctx context.Context, process *daemon.Daemon, loaded config.Loaded, logger *slog.Logger) error {
	logger.Info("started", "daemon", process.Name, "version", daemon.Version, "addresses", process.Addresses())
	announced := make(chan error, 1)
	waiting, stopWaiting := context.WithCancel(ctx)
	go func() {
		err := process.WaitReady(waiting)
		if err == nil {
			err = a.announce(process, loaded)
			logger.Info("ready", "daemon", process.Name)
		}
		announced <- err
	}()
	var cause error
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-process.Done():
			cause, running = process.Err(), false
		case cause = <-announced:
			announced = nil
			running = cause == nil
		}
	}
	stopWaiting()
	if announced != nil {
		<-announced //nolint:errcheck // the result of the wait does not matter
	}
	logger.Info("stopping", "daemon", process.Name)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := errors.Join(cause, process.Close(closing))
	logger.Info("stopped", "daemon", process.Name, "err", err)
	return err
}

// announce says on stdout that the daemon serves: a line for people from mini, an object under --json from all.
func (a *app) announce(d *daemon.Daemon, loaded config.Loaded) error {
	out := a.printer()
	fields := record{"daemon": d.Name, "addresses": d.Addresses()}
	if d.Name == "mini" {
		file := daemon.ClientFilePath(loaded.Mini.Dir)
		fields["client_config"] = file
		out.text("Serving at %s. To use it: export WW_CONFIG=%s", d.Address("grpc"), quoteForShell(file))
	}
	out.object("ready", fields)
	return out.flush()
}
