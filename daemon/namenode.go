package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/namenode"
	"github.com/whispering-woods/ww/daemon/config"
)

// StartNamenode starts a namenode; ctx bounds the start. It is ready when it
// has replayed the log and serves; it may be in safe mode then.
func StartNamenode(ctx context.Context, c config.Namenode, logger *slog.Logger) (*Daemon, error) {
	return startNamenode(ctx, c, "", logger)
}

func startNamenode(ctx context.Context, c config.Namenode, sharedAdmin string, logger *slog.Logger) (*Daemon, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	logger = orDiscard(logger)
	d := newDaemon("namenode")
	adminAddress, err := d.openAdmin(c.AdminListen, sharedAdmin, logger)
	if err != nil {
		return nil, err
	}
	server, err := namenode.Start(namenode.Options{
		Listen: c.Listen, LogServers: c.LogServers, AdminAddress: adminAddress, Logger: logger,
		BatchRecords: c.BatchRecords, BatchBytes: int(c.BatchBytes), BatchesInFlight: c.BatchesInFlight, ConnectionsMax: c.Connections,
		CheckpointRecords: uint64(c.CheckpointRecords), CheckpointBytes: uint64(c.CheckpointBytes), CheckpointInterval: time.Duration(c.CheckpointEvery),
		Actor: actor.Config{
			DefaultReplication: uint32(c.Replication), DefaultChunkSize: int64(c.ChunkSize),
			LeaseSoftLimit: time.Duration(c.LeaseSoftLimit), LeaseHardLimit: time.Duration(c.LeaseHardLimit),
			DeadAfter: time.Duration(c.DeadAfter), DeleteGrace: time.Duration(c.UnknownGrace),
			RepairGrace: time.Duration(c.RepairGrace), SafeModeShare: int(c.SafeModeThreshold*1000 + 0.5),
			Version: Version,
		},
	})
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("namenode", server.Close)
	d.addresses["grpc"] = server.Addr()
	d.ready = func(ctx context.Context) error {
		select {
		case <-server.Ready():
			return nil
		case <-ctx.Done():
			if err := server.Active(); err != nil {
				return err
			}
			return ctx.Err()
		}
	}
	d.works(server.Active)
	d.watch("namenode", server.Done(), server.Err)
	return d.started(ctx)
}
