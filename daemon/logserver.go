package daemon

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/daemon/config"
)

// StartLogServer starts a log server; ctx bounds the start. It is ready when it leads, or follows a leader.
func StartLogServer(ctx context.Context, c config.Logserver, logger *slog.Logger) (*Daemon, error) {
	o, err := newLogServerOptions(c)
	if err != nil {
		return nil, err
	}
	o.runtime.apply()
	return startLogServer(ctx, o, "", logger)
}

// logServerOptions are those of the parts of a log server, as far as its section says.
type logServerOptions struct {
	runtime   runtimeOptions
	admin     admin.Options
	logserver logserver.Options
}

func newLogServerOptions(section config.Logserver) (logServerOptions, error) {
	if err := section.Validate(); err != nil {
		return logServerOptions{}, err
	}
	options := logServerOptions{
		runtime: runtimeOptions{section.GCPercent, section.MemoryLimit},
		admin:   admin.Options{Listen: section.AdminListen},
		logserver: logserver.Options{
			Directory: section.Dir, NodeID: section.ID, ListenGRPC: section.Listen, ListenRaft: section.RaftListen,
			ConnectionsMax: section.Connections,
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
	logger = orDiscard(logger)
	daemon := newDaemon("logserver")
	adminAddress, err := daemon.openAdmin(options.admin, sharedAdmin, logger)
	if err != nil {
		return nil, err
	}
	options.logserver.AdminAddress, options.logserver.Logger = adminAddress, logger
	server, err := logserver.Start(options.logserver)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	daemon.add("log server", server.Close)
	daemon.addresses["grpc"] = server.Addr()
	if raft := server.RaftAddr(); raft != "" {
		daemon.addresses["raft"] = raft
	}
	daemon.ready = func(ctx context.Context) error { return poll(ctx, server.Ready) }
	daemon.works(server.Ready)
	daemon.watch("log server", server.Done(), server.Err)
	return daemon.started(ctx)
}
