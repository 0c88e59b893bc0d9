package daemon

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/internal/config"
)

// StartLogServer starts a log server; ctx bounds the start. It is ready when it
// leads, or follows a leader.
func StartLogServer(ctx context.Context, c config.Logserver, logger *slog.Logger) (*Daemon, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	logger = orDiscard(logger)
	o := logserver.Options{
		Directory: c.Dir, NodeID: c.ID, ListenGRPC: c.Listen, ListenRaft: c.RaftListen, Logger: logger,
	}
	for _, p := range c.Peers {
		id, raft, grpc, _ := config.SplitPeer(p) // Validate has looked
		o.Peers = append(o.Peers, logserver.Peer{NodeID: id, Raft: raft, GRPC: grpc})
	}
	server, err := logserver.Start(o)
	if err != nil {
		return nil, err
	}
	d := newDaemon("logserver")
	d.add("log server", server.Close)
	d.addresses["grpc"] = server.Addr()
	if raft := server.RaftAddr(); raft != "" {
		d.addresses["raft"] = raft
	}
	d.ready = func(ctx context.Context) error { return poll(ctx, server.Ready) }
	d.watch("log server", server.Done(), server.Err)
	return d, ctx.Err()
}
