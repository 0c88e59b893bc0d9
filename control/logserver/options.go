package logserver

import (
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
)

// Options configures Start. The zero value of a field means its default.
type Options struct {
	// Directory holds everything; it is made if it is missing. One process at a
	// time may use it.
	Directory string
	// NodeID names this server among its peers, for ever; it is kept in the
	// directory, and a different one is refused. Default "log1".
	NodeID string
	// ListenGRPC is where namenodes connect, host:port; port 0 picks one.
	// Default 127.0.0.1:7710.
	ListenGRPC string
	// ListenRaft is where peers connect, host:port; port 0 picks one. Empty: no
	// port is opened, which is right for a server without peers.
	ListenRaft string
	// Peers are all servers of the group, this one included; empty = this one
	// alone. They count only for the first start of an empty directory.
	Peers  []Peer
	Logger *slog.Logger // nil = none
	Clock  clock.Clock  // nil = the system's
	// SegmentBytes is the size of a log file, 1 MiB to 1 GiB; default 64 MiB.
	SegmentBytes int
	// HeartbeatTimeout: a follower that hears nothing of its leader for so long
	// asks for an election. Default 300 ms with peers, 50 ms alone.
	HeartbeatTimeout time.Duration
	// ApplyTimeout bounds the wait for a place in raft's queue. Default 5 s.
	ApplyTimeout time.Duration
	// SnapshotEntries is how many log entries may pass until the state machine's
	// small state is saved, so that a restart need not apply the whole log.
	// Default 65,536.
	SnapshotEntries uint64
}

// Peer is one server of a group.
type Peer struct {
	NodeID string
	Raft   string // host:port of its raft port
	GRPC   string // host:port of its gRPC port
}
