package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/namenode"
	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/daemon/config"
)

// StartNamenode starts a namenode; ctx bounds the start. It is ready when it
// has replayed the log and serves; it may be in safe mode then.
func StartNamenode(ctx context.Context, c config.Namenode, logger *slog.Logger) (*Daemon, error) {
	o, err := newNamenodeOptions(c)
	if err != nil {
		return nil, err
	}
	o.runtime.apply()
	return startNamenode(ctx, o, "", logger)
}

// namenodeOptions are those of the parts of a namenode, as far as its section says.
type namenodeOptions struct {
	runtime  runtimeOptions
	admin    admin.Options
	namenode namenode.Options
}

func newNamenodeOptions(c config.Namenode) (namenodeOptions, error) {
	if err := c.Validate(); err != nil {
		return namenodeOptions{}, err
	}
	return namenodeOptions{
		runtime: runtimeOptions{c.GCPercent, c.MemoryLimit},
		admin:   admin.Options{Listen: c.AdminListen},
		namenode: namenode.Options{
			ID: c.ID, Listen: c.Listen, LogServers: c.LogServers, ConnectionsMax: c.Connections,
			BatchRecords: c.BatchRecords, BatchBytes: int(c.BatchBytes), BatchesInFlight: c.BatchesInFlight,
			CheckpointRecords: uint64(c.CheckpointRecords), CheckpointBytes: uint64(c.CheckpointBytes),
			CheckpointInterval: time.Duration(c.CheckpointEvery),
			Actor: actor.Config{
				DefaultReplication: uint32(c.Replication), DefaultChunkSize: int64(c.ChunkSize),
				LeaseSoftLimit: time.Duration(c.LeaseSoftLimit), LeaseHardLimit: time.Duration(c.LeaseHardLimit),
				DeadAfter: time.Duration(c.DeadAfter), DeleteGrace: time.Duration(c.UnknownGrace),
				RepairGrace: time.Duration(c.RepairGrace), SafeModeShare: int(c.SafeModeThreshold*1000 + 0.5),
				Placement: c.Placement, Version: Version,
			},
		},
	}, nil
}

func startNamenode(ctx context.Context, o namenodeOptions, sharedAdmin string, logger *slog.Logger) (*Daemon, error) {
	logger = orDiscard(logger)
	d := newDaemon("namenode")
	adminAddress, err := d.openAdmin(o.admin, sharedAdmin, logger)
	if err != nil {
		return nil, err
	}
	o.namenode.AdminAddress, o.namenode.Logger = adminAddress, logger
	server, err := namenode.Start(o.namenode)
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
