package daemon

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/daemon/appender"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/fault"
)

// sealFilesTimeout bounds how long a datanode that stops waits for a namenode to
// seal its record files. Without one they stay open for another appender, and the
// time is better spent on ending sessions in order.
const sealFilesTimeout = 5 * time.Second

// StartDatanode opens the chunk store, serves its bytes and reports to the
// namenodes; ctx bounds the start. It is ready when a namenode has registered
// it.
func StartDatanode(ctx context.Context, c config.Datanode, logger *slog.Logger) (*Daemon, error) {
	return startDatanode(ctx, c, "", logger)
}

func startDatanode(ctx context.Context, c config.Datanode, sharedAdmin string, logger *slog.Logger) (*Daemon, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	logger = orDiscard(logger)
	d := newDaemon("datanode")
	adminAddress, err := d.openAdmin(c.AdminListen, sharedAdmin, logger)
	if err != nil {
		return nil, err
	}
	events := agent.NewEvents()
	store, err := disk.Open(disk.Options{
		Directories: c.Disks, TrashDelay: time.Duration(c.TrashDelay), ReserveBytes: int64(c.Reserve),
		PackBytesMax: int64(c.PackLimit), PackSegmentBytes: int64(c.PackSegment),
		WriteoutStepBytes: int64(c.WriteoutStep), WorkersPerVolume: c.DiskWorkers,
		Logger: logger, OnEvent: forward(events, logger),
	})
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("chunk store", func(context.Context) error { return store.Close() })
	server, err := dataplane.Start(dataplane.Options{
		Listen: c.Listen, NodeID: store.Identity().NodeID, Store: store, Logger: logger,
		Limits: dataplane.Limits{
			WindowBudgetBytes: int64(c.Budget), WindowBytes: int64(c.WindowMax), Loops: c.Loops, ReadBufferBytes: int(c.ReadBuffer),
			ConnectionsMax: c.Connections, Senders: c.Senders, SocketReceiveBytes: int(c.SocketReceive), SocketSendBytes: int(c.SocketSend),
		},
	})
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("data server", server.Close)
	warnMemory(logger, memoryMost(datanodeBase, server.MemoryMax(), c.GCPercent, c.MemoryLimit), machineMemory())
	d.addresses["data"] = server.Addr()
	address := advertised(c.Advertise, server.Addr())
	control, err := agent.Start(agent.Options{
		Namenodes: c.Namenodes, Address: address, Rack: c.Rack, Version: Version, AdminAddress: adminAddress,
		Store: store, Events: events, Logger: logger, Load: server.Load, Recoverer: server, Copier: server,
	})
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("agent", control.Close)
	// It closes first: files are sealed while their bytes are still served.
	records, err := appender.Start(appender.Options{
		Namenodes: c.Namenodes, NodeID: store.Identity().NodeID, Address: address, Logger: logger,
		Limits: appender.Limits{IdleAfter: time.Duration(c.RecordIdle)},
	})
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.sealFiles = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, sealFilesTimeout)
		defer cancel()
		return records.Close(ctx)
	}
	d.add("appender", d.sealFiles)
	server.ServeRecords(records)
	d.ready = func(ctx context.Context) error {
		select {
		case <-control.Registered():
			return nil
		case <-ctx.Done():
			for _, s := range control.Status() {
				if s.Err != nil {
					return s.Err
				}
			}
			return ctx.Err()
		}
	}
	d.works(func() error {
		select {
		case <-control.Registered():
			return nil
		default:
			return fault.New(fault.NotActive, "datanode", "no namenode has registered it yet")
		}
	})
	return d.started(ctx)
}

// forward passes the store's events to the agent. It never blocks.
func forward(events *agent.Events, logger *slog.Logger) func(disk.Event) {
	return func(e disk.Event) {
		switch e.Kind {
		case disk.Removed:
			events.Removed(e.Replica)
		case disk.Corrupt:
			logger.Error("replica is corrupt", "chunk", e.Replica.ID, "gen", e.Replica.Generation, "reason", e.Reason)
			events.Stored(e.Replica)
		default:
			events.Stored(e.Replica)
		}
	}
}

// advertised is the address that others are told: the one configured, with the
// real port in place of port 0, or the one that is listened on.
func advertised(configured, listening string) string {
	if configured == "" {
		return listening
	}
	host, port, err := net.SplitHostPort(configured)
	_, realPort, realErr := net.SplitHostPort(listening)
	if err != nil || realErr != nil || port != "0" {
		return configured
	}
	return net.JoinHostPort(host, realPort)
}
