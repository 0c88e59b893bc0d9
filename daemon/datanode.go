package daemon

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/daemon/admin"
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
	o, err := newDatanodeOptions(c)
	if err != nil {
		return nil, err
	}
	o.runtime.apply()
	return startDatanode(ctx, o, "", logger)
}

// datanodeOptions are those of the parts of a datanode, as far as its section says.
type datanodeOptions struct {
	runtime  runtimeOptions
	admin    admin.Options
	disk     disk.Options
	data     dataplane.Options
	agent    agent.Options    // its Address may have port 0, or be empty: see advertised
	appender appender.Options // its Address is the agent's
}

func newDatanodeOptions(c config.Datanode) (datanodeOptions, error) {
	if err := c.Validate(); err != nil {
		return datanodeOptions{}, err
	}
	return datanodeOptions{
		runtime: runtimeOptions{c.GCPercent, c.MemoryLimit},
		admin:   admin.Options{Listen: c.AdminListen},
		disk: disk.Options{
			Directories: c.Disks, TrashDelay: time.Duration(c.TrashDelay), ReserveBytes: int64(c.Reserve),
			PackBytesMax: int64(c.PackLimit), PackSegmentBytes: int64(c.PackSegment),
			WriteoutStepBytes: int64(c.WriteoutStep), WorkersPerVolume: c.DiskWorkers,
		},
		data: dataplane.Options{
			Listen: c.Listen,
			Limits: dataplane.Limits{
				WindowBudgetBytes: int64(c.Budget), WindowBytes: int64(c.WindowMax),
				Loops: c.Loops, ReadBufferBytes: int(c.ReadBuffer),
				ConnectionsMax: c.Connections, Senders: c.Senders,
				SocketReceiveBytes: int(c.SocketReceive), SocketSendBytes: int(c.SocketSend),
			},
		},
		agent: agent.Options{Namenodes: c.Namenodes, Address: c.Advertise, Rack: c.Rack, Version: Version},
		appender: appender.Options{
			Namenodes: c.Namenodes, Limits: appender.Limits{IdleAfter: time.Duration(c.RecordIdle)},
		},
	}, nil
}

func startDatanode(ctx context.Context, o datanodeOptions, sharedAdmin string, logger *slog.Logger) (*Daemon, error) {
	logger = orDiscard(logger)
	d := newDaemon("datanode")
	adminAddress, err := d.openAdmin(o.admin, sharedAdmin, logger)
	if err != nil {
		return nil, err
	}
	events := agent.NewEvents()
	o.disk.Logger, o.disk.OnEvent = logger, forward(events, logger)
	store, err := disk.Open(o.disk)
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("chunk store", func(context.Context) error { return store.Close() })
	o.data.NodeID, o.data.Store, o.data.Logger = store.Identity().NodeID, store, logger
	server, err := dataplane.Start(o.data)
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("data server", server.Close)
	warnMemory(logger, o.runtime.memoryMost(datanodeBase, server.MemoryMax()), machineMemory())
	d.addresses["data"] = server.Addr()
	o.agent.Address, o.agent.AdminAddress = advertised(o.agent.Address, server.Addr()), adminAddress
	o.agent.Store, o.agent.Load, o.agent.Recoverer, o.agent.Copier = store, server.Load, server, server
	o.agent.Events, o.agent.Logger = events, logger
	control, err := agent.Start(o.agent)
	if err != nil {
		return nil, d.abandon(ctx, err)
	}
	d.add("agent", control.Close)
	// It closes first: files are sealed while their bytes are still served.
	o.appender.NodeID, o.appender.Address, o.appender.Logger = store.Identity().NodeID, o.agent.Address, logger
	records, err := appender.Start(o.appender)
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
