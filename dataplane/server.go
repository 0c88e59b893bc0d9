// Package dataplane is the data server of a datanode: it takes chunk bytes from
// clients and upstream neighbours, stores and forwards them, and serves reads.
package dataplane

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options configure a Server.
type Options struct {
	Listen string // host:port; port 0 picks a free one
	NodeID string
	Store  *disk.Store
	Logger *slog.Logger // nil: none
	Clock  clock.Clock  // nil: the system's
	Limits Limits
}

// Server is a running data server.
type Server struct{}

// Load is what a heartbeat says about a server.
type Load struct {
	ActiveWrites       int
	ActiveReads        int
	Connections        int
	QueuedDiskOps      int
	GrantedWindowBytes int64
}

// Stats are counters since the start.
type Stats struct {
	ConnectionsAccepted uint64
	ConnectionsRefused  map[string]uint64 // by reason
}

// RecoverRequest asks a server to lead the recovery of a chunk.
type RecoverRequest struct {
	ChunkID           chunk.ID
	Generation        chunk.Generation // that recovery writes; above any replica's
	MinimumGeneration chunk.Generation // a replica below it does not count
	Replicas          []wire.Hop       // every known holder
	Length            int64            // 0 or more: cut to it; -1: the length agreed on
}

// RecoverResult is what all listed nodes now hold, sealed.
type RecoverResult struct {
	Length  int64
	NodeIDs []string
}

var errStub = fault.New(fault.Internal, "data server", "not there yet")

// Start listens and serves until Close.
func Start(o Options) (*Server, error) { return nil, errStub }

// Addr is the host:port that the server listens on.
func (s *Server) Addr() string { return "" }

// Load is the present load.
func (s *Server) Load() Load { return Load{} }

// Stats returns the counters.
func (s *Server) Stats() Stats { return Stats{} }

// Close stops the server.
func (s *Server) Close(ctx context.Context) error { return nil }

// Recover leads the recovery of a chunk.
func (s *Server) Recover(ctx context.Context, r RecoverRequest) (RecoverResult, error) {
	return RecoverResult{}, errStub
}
