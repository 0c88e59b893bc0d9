package daemon

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/daemon/appender"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/daemon/machine"
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// sealFilesTimeout bounds how long a datanode that stops waits for a namenode to seal its record files. Without one
// they stay open for another appender, and the time is better spent on ending sessions in order.
const sealFilesTimeout = 5 * time.Second

// StartDatanode opens the chunk store, serves its bytes and reports to the namenodes; ctx bounds the start. It is
// ready when a namenode has registered it.
func StartDatanode(ctx context.Context, c config.Datanode, logger *slog.Logger) (*Daemon, error) {
	options, err := newDatanodeOptions(c)
	if err != nil {
		return nil, err
	}
	return startDatanode(ctx, options, "", logger)
}

// datanodeOptions are those of the parts of a datanode, as far as its section says.
type datanodeOptions struct {
	process  processOptions
	disk     disk.Options
	data     dataplane.Options
	agent    agent.Options    // its Address may have port 0, or be empty: see advertised
	appender appender.Options // its Address is the agent's
}

func newDatanodeOptions(section config.Datanode) (datanodeOptions, error) {
	if err := section.Validate(); err != nil {
		return datanodeOptions{}, err
	}
	return datanodeOptions{
		process: newProcessOptions(section.Process),
		disk: disk.Options{
			Directories: section.Disks, TrashDelay: time.Duration(section.TrashDelay),
			ReserveBytes: int64(section.Reserve),
			PackBytesMax: int64(section.PackLimit), PackSegmentBytes: int64(section.PackSegment),
			WriteoutStepBytes: int64(section.WriteoutStep), WorkersPerVolume: section.DiskWorkers,
			FailedVolumesTolerated: section.FailedMax,
			VolumeErrorsMax:        section.ErrorsMax, VolumeHangAfter: time.Duration(section.HangAfter),
			ScrubPeriod: time.Duration(section.ScrubPeriod), ScrubBandwidth: int64(section.ScrubRate),
		},
		data: dataplane.Options{
			Listen: section.Listen,
			Limits: dataplane.Limits{
				WindowBudgetBytes: int64(section.Budget), WindowBytes: int64(section.WindowMax),
				Loops: section.Loops, ReadBufferBytes: int(section.ReadBuffer),
				ConnectionsMax: section.Connections, Senders: section.Senders,
				SocketReceiveBytes: int(section.SocketReceive), SocketSendBytes: int(section.SocketSend),
			},
		},
		agent: agent.Options{Namenodes: section.Namenodes, Address: section.Advertise, Name: section.Name,
			Rack: section.Rack, Version: Version},
		appender: appender.Options{
			Namenodes: section.Namenodes, Limits: appender.Limits{IdleAfter: time.Duration(section.RecordIdle)},
		},
	}, nil
}

func startDatanode(ctx context.Context, options datanodeOptions, sharedAdmin string,
	logger *slog.Logger) (*Daemon, error) {
	daemon := newDaemon("datanode", logger)
	if err := daemon.own(options.process, sharedAdmin); err != nil {
		return nil, err
	}
	events := agent.NewEvents()
	logger = daemon.logger
	options.disk.Logger, options.disk.OnEvent = logger, forward(events, logger)
	volumes := newVolumeWatch(options.disk)
	options.disk.OnVolume = volumes.note
	store, err := disk.Open(options.disk)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	volumes.watch(store)
	daemon.add("chunk store", func(context.Context) error { return store.Close() })
	options.data.NodeID, options.data.Store, options.data.Logger = store.Identity().NodeID, store, logger
	server, err := dataplane.Start(options.data)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	daemon.add("data server", server.Close)
	warnMemory(logger, options.process.memoryMost(datanodeBase, server.MemoryMax()), machineMemory())
	daemon.addresses["data"] = server.Addr()
	options.agent.Address, options.agent.AdminAddress = advertised(options.agent.Address, server.Addr()), daemon.admin
	measured := measuredNode{Store: store, server: server, meter: machine.NewMeter(clock.Real{})}
	options.agent.Store, options.agent.Load, options.agent.Recoverer, options.agent.Copier = measured, measured.Load,
		server, server
	options.agent.Events, options.agent.Logger = events, logger
	control, err := agent.Start(options.agent)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	daemon.add("agent", control.Close)
	daemon.stopWithout(volumes, control)
	// It closes first: files are sealed while their bytes are still served.
	options.appender.NodeID, options.appender.Address, options.appender.Logger = store.Identity().NodeID,
		options.agent.Address, logger
	records, err := appender.Start(options.appender)
	if err != nil {
		return nil, daemon.abandon(ctx, err)
	}
	daemon.sealFiles = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, sealFilesTimeout)
		defer cancel()
		return records.Close(ctx)
	}
	daemon.add("appender", daemon.sealFiles)
	server.ServeRecords(records)
	daemon.ready = func(ctx context.Context) error {
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
	daemon.works(func() error {
		select {
		case <-control.Registered():
			return nil
		default:
			return fault.New(fault.NotActive, "datanode", "no namenode has registered it yet")
		}
	})
	return daemon.started(ctx)
}

// measuredNode is what heartbeats tell of a datanode, with how busy its machine is.
type measuredNode struct {
	*disk.Store
	server *dataplane.Server
	meter  *machine.Meter
}

func (m measuredNode) Load() datanode.Load {
	load := m.server.Load()
	load.System = m.meter.Load()
	return load
}

// Volumes are the store's, with how busy their disks are.
func (m measuredNode) Volumes() []datanode.VolumeState {
	volumes := m.Store.Volumes()
	for i := range volumes {
		volumes[i].BusyPermille = m.meter.Busy(volumes[i].Device)
	}
	return volumes
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

// advertised is the address that others are to use: the one configured, with the
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
