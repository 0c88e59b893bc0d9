package logserver

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options configures Start. The zero value of a field means its default.
type Options struct {
	Directory string // holds everything; it is made if it is missing. One process at a time may use it.
	// NodeID names this server among its peers and never changes; it is kept in the
	// directory, and a different one is refused. Default "log1".
	NodeID     string
	ListenGRPC string // where namenodes connect, host:port; port 0 picks one. Default 127.0.0.1:7710.
	// ListenRaft is where peers connect, host:port; port 0 picks one. Empty: no port is opened, which is right for
	// a server without peers. With peers it defaults to this server's own raft address.
	ListenRaft string
	// Peers are all servers of the group, this one included; empty = this one alone. They count only for the first
	// start of an empty directory; all servers must be given the same list.
	Peers          []Peer
	ConnectionsMax int // bounds the open gRPC connections; default 1,024
	// AdminAddress is the host:port of this process's admin address, reported by LogStatus; "" if there is none.
	AdminAddress string
	Logger       *slog.Logger // nil = none
	Clock        clock.Clock  // nil = the system's
	SegmentBytes int          // the size of a log file, 1 MiB to 256 MiB; default 64 MiB
	// HeartbeatTimeout is how long a follower waits for its leader before it starts an election; a leader that does
	// not reach a majority for half of it stops leading. Default 500 ms with a raft port, 50 ms without.
	HeartbeatTimeout time.Duration
	// SnapshotEntries is how many log entries may pass until the state machine's small state is saved, so that a
	// restart need not apply the whole log. Default 65,536.
	SnapshotEntries uint64
	// ScrubPeriod is the time in which the whole log and its checkpoints are read and verified; 0: only by a start.
	ScrubPeriod time.Duration
}

// Peer is one server of a group.
type Peer struct {
	NodeID string
	Raft   string // host:port of its raft port
	GRPC   string // host:port of its gRPC port
}

// Defaults.
const (
	nodeIDDefault          = "log1"
	listenDefault          = "127.0.0.1:7710"
	segmentBytesDefault    = 64 << 20
	heartbeatAlone         = 50 * time.Millisecond
	heartbeatDefault       = 500 * time.Millisecond
	heartbeatMin           = 20 * time.Millisecond
	snapshotEntriesDefault = 64 << 10
	connectionsDefault     = 1024
)

// withDefaults fills in and checks. NodeID stays empty if it is, for claim. Errors: fault.Invalid.
func (o Options) withDefaults() (Options, error) {
	invalid := func(format string, args ...any) (Options, error) {
		return Options{}, fault.New(fault.Invalid, "start log server", format, args...)
	}
	if o.Directory == "" {
		return invalid("no directory was given")
	}
	o.ListenGRPC = cmp.Or(o.ListenGRPC, listenDefault)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Clock = cmp.Or[clock.Clock](o.Clock, clock.Real{})
	o.ConnectionsMax = cmp.Or(o.ConnectionsMax, connectionsDefault)
	o.SegmentBytes = cmp.Or(o.SegmentBytes, segmentBytesDefault)
	o.SnapshotEntries = cmp.Or(o.SnapshotEntries, snapshotEntriesDefault)
	if o.ScrubPeriod < 0 {
		return invalid("a scrub period of %s", o.ScrubPeriod)
	}
	if o.ConnectionsMax < 1 {
		return invalid("%d connections", o.ConnectionsMax)
	}
	if o.SegmentBytes < walcheck.SegmentBytesMin || o.SegmentBytes > walcheck.SegmentBytesMax {
		return invalid("log files of %d bytes; %d to %d are allowed", o.SegmentBytes, walcheck.SegmentBytesMin,
			walcheck.SegmentBytesMax)
	}
	if len(o.Peers) > 0 && o.NodeID == "" {
		return invalid("a server with peers needs a node id")
	}
	seen := make(map[string]bool)
	for _, peer := range o.Peers {
		if peer.NodeID == "" || seen[peer.NodeID] {
			return invalid("peer %q has no name or is listed twice", peer.NodeID)
		}
		seen[peer.NodeID] = true
		for _, address := range []string{peer.Raft, peer.GRPC} {
			if err := rpc.CheckAddress(address); err != nil {
				return Options{}, err
			}
			if seen[address] {
				return invalid("two peers have the address %s", address)
			}
			seen[address] = true
		}
	}
	self, ok := o.self()
	if !ok && len(o.Peers) > 0 {
		return invalid("node %q is not among its peers", o.NodeID)
	}
	o.ListenRaft = cmp.Or(o.ListenRaft, self.Raft)
	if o.ListenRaft == "" {
		o.HeartbeatTimeout = cmp.Or(o.HeartbeatTimeout, heartbeatAlone)
	}
	o.HeartbeatTimeout = cmp.Or(o.HeartbeatTimeout, heartbeatDefault)
	if o.HeartbeatTimeout < heartbeatMin {
		return invalid("a heartbeat timeout of %s; at least %s", o.HeartbeatTimeout, heartbeatMin)
	}
	return o, nil
}

// self is this server's line among the peers.
func (o Options) self() (Peer, bool) {
	for _, peer := range o.Peers {
		if peer.NodeID == o.NodeID {
			return peer, true
		}
	}
	return Peer{}, false
}
