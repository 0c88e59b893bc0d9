package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/namenode"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// StartNamenode starts a namenode; ctx bounds the start. It is ready when it
// has replayed the log and serves; it may be in safe mode then.
func StartNamenode(ctx context.Context, c config.Namenode, logger *slog.Logger) (*Daemon, error) {
	options, err := newNamenodeOptions(c)
	if err != nil {
		return nil, err
	}
	return startNamenode(ctx, options, "", logger)
}

// namenodeOptions are those of the parts of a namenode, as far as its section says.
type namenodeOptions struct {
	process  processOptions
	namenode namenode.Options
}

func newNamenodeOptions(section config.Namenode) (namenodeOptions, error) {
	if err := section.Validate(); err != nil {
		return namenodeOptions{}, err
	}
	options := namenodeOptions{
		process: newProcessOptions(section.Process),
		namenode: namenode.Options{
			ID: section.ID, Listen: section.Listen, LogServers: section.LogServers, ConnectionsMax: section.Connections,
			BatchRecords: section.BatchRecords, BatchBytes: int(section.BatchBytes),
			BatchesInFlight:   section.BatchesInFlight,
			CheckpointRecords: uint64(section.CheckpointRecords), CheckpointBytes: uint64(section.CheckpointBytes),
			CheckpointInterval: time.Duration(section.CheckpointEvery),
			Actor: actor.Config{
				DefaultReplication: uint32(section.Replication), DefaultChunkSize: int64(section.ChunkSize),
				WriteCopiesMin: section.WriteCopiesMin, LeaseSoftLimit: time.Duration(section.LeaseSoftLimit),
				LeaseHardLimit: time.Duration(section.LeaseHardLimit),
				DeadAfter:      time.Duration(section.DeadAfter), DeleteGrace: time.Duration(section.UnknownGrace),
				RepairGrace: time.Duration(section.RepairGrace), TrashExpiry: time.Duration(section.TrashExpiry),
				Repair: actor.RepairLimits{Streams: section.RepairStreams, NodeStreams: section.RepairPerNode,
					Bandwidth: int64(section.RepairBandwidth)},
				SafeModeShare: int(section.SafeModeThreshold*1000 + 0.5),
				Placement:     section.Placement, ReadOrder: section.ReadOrder, Version: Version,
			},
		},
	}
	if err := options.namenode.Actor.WithDefaults().Validate(); err != nil { // it alone knows the policies
		return namenodeOptions{}, &fault.Error{Kind: fault.Invalid, Op: "config", Reason: "namenode: " + err.Error()}
	}
	return options, nil
}

func startNamenode(ctx context.Context, options namenodeOptions, sharedAdmin string,
	logger *slog.Logger) (*Daemon, error) {
	daemon := newDaemon("namenode", logger)
	if err := daemon.own(options.process, sharedAdmin); err != nil {
		return nil, err
	}
	options.namenode.AdminAddress, options.namenode.Logger = daemon.admin, daemon.logger
	server, err := namenode.Start(options.namenode)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	daemon.add("namenode", server.Close)
	daemon.addresses["grpc"] = server.Addr()
	daemon.ready = func(ctx context.Context) error {
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
	daemon.works(server.Active)
	daemon.watch("namenode", server.Done(), server.Err)
	return daemon.started(ctx)
}
