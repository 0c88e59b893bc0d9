package daemon

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/daemon/config"
)

// StartLogServer starts a log server; ctx bounds the start. It is ready when it
// leads, or follows a leader.
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

func newLogServerOptions(c config.Logserver) (logServerOptions, error) {
	if err := c.Validate(); err != nil {
		return logServerOptions{}, err
	}
	o := logServerOptions{
		runtime: runtimeOptions{c.GCPercent, c.MemoryLimit},
		admin:   admin.Options{Listen: c.AdminListen},
		logserver: logserver.Options{
			Directory: c.Dir, NodeID: c.ID, ListenGRPC: c.Listen, ListenRaft: c.RaftListen, ConnectionsMax: c.Connections,
		},
	}
	for _, p := range c.Peers {
		id, raft, grpc, _ := config.SplitPeer(p) // Validate has looked
		o.logserver.Peers = append(o.logserver.Peers, logserver.Peer{NodeID: id, Raft: raft, GRPC: grpc})
	}
	return o, nil
}

func startLogServer(ctx context.Context, o logServerOptions, sharedAdmin string, logger *slog.Logger) (*Daemon, error) {
	logger = orDiscard(logger)
	d := newDaemon("logserver")
	adminAddress, err := d.openAdmin(o.admin, sharedAdmin, logger)
	if err != nil {
		return nil, err
	}
	o.logserver.AdminAddress, o.logserver.Logger = adminAddress, logger
	server, err := logserver.Start(o.logserver)
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("log server", server.Close)
	d.addresses["grpc"] = server.Addr()
	if raft := server.RaftAddr(); raft != "" {
		d.addresses["raft"] = raft
	}
	d.ready = func(ctx context.Context) error { return poll(ctx, server.Ready) }
	d.works(server.Ready)
	d.watch("log server", server.Done(), server.Err)
	return d.started(ctx)
}
