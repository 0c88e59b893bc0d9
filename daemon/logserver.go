package daemon

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/daemon/config"
)

// StartLogServer starts a log server; ctx bounds the start. It is ready when it
// leads, or follows a leader.
func StartLogServer(ctx context.Context, c config.Logserver, logger *slog.Logger) (*Daemon, error) {
	return startLogServer(ctx, c, "", logger)
}

func startLogServer(ctx context.Context, c config.Logserver, sharedAdmin string, logger *slog.Logger) (*Daemon, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	logger = orDiscard(logger)
	d := newDaemon("logserver")
	adminAddress, err := d.openAdmin(c.AdminListen, sharedAdmin, logger)
	if err != nil {
		return nil, err
	}
	o := logserver.Options{
		Directory: c.Dir, NodeID: c.ID, ListenGRPC: c.Listen, ListenRaft: c.RaftListen, AdminAddress: adminAddress, ConnectionsMax: c.Connections, Logger: logger,
	}
	for _, p := range c.Peers {
		id, raft, grpc, _ := config.SplitPeer(p) // Validate has looked
		o.Peers = append(o.Peers, logserver.Peer{NodeID: id, Raft: raft, GRPC: grpc})
	}
	server, err := logserver.Start(o)
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
