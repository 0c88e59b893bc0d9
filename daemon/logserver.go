package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/clock"
)

// StartLogServer starts a log server; ctx bounds the start. It is ready when it leads, or follows a leader.
func StartLogServer(ctx context.Context, c config.Logserver, logger *slog.Logger) (*Daemon, error) {
	options, err := newLogServerOptions(c)
	if err != nil {
		return nil, err
	}
	return startLogServer(ctx, options, "", logger)
}

// logServerOptions are those of the parts of a log server, as far as its section says.
type logServerOptions struct {
	process   processOptions
	logserver logserver.Options
}

func newLogServerOptions(section config.Logserver) (logServerOptions, error) {
	if err := section.Validate(); err != nil {
		return logServerOptions{}, err
	}
	options := logServerOptions{
		process: newProcessOptions(section.Process),
		logserver: logserver.Options{
			Directory: section.Dir, NodeID: section.ID, ListenGRPC: section.Listen, ListenRaft: section.RaftListen,
			ConnectionsMax: section.Connections, ScrubPeriod: time.Duration(section.ScrubPeriod),
		},
	}
	for _, p := range section.Peers {
		id, raft, grpc, _ := config.SplitPeer(p) // Validate has looked
		options.logserver.Peers = append(options.logserver.Peers, logserver.Peer{NodeID: id, Raft: raft, GRPC: grpc})
	}
	return options, nil
}

func startLogServer(ctx context.Context, options logServerOptions, sharedAdmin string,
	logger *slog.Logger) (*Daemon, error) {
	daemon := newDaemon("logserver", logger)
	if err := daemon.own(options.process, sharedAdmin); err != nil {
		return nil, err
	}
	options.logserver.AdminAddress, options.logserver.Logger = daemon.admin, daemon.logger
	server, err := logserver.Start(options.logserver)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	daemon.add("log server", server.Close)
	daemon.addresses["grpc"] = server.Addr()
	if raft := server.RaftAddr(); raft != "" {
		daemon.addresses["raft"] = raft
	}
	daemon.ready = func(ctx context.Context) error { return clock.Poll(ctx, clock.Real{}, readyPoll, server.Ready) }
	daemon.works(server.Ready)
	daemon.watch("log server", server.Done(), server.Err)
	return daemon.started(ctx)
}
