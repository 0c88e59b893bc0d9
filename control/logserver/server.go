// Package logserver is the replicated, durable log of namenode mutations.
package logserver

import "context"

// Server is a running log server.
type Server struct{ done chan struct{} }

// Start starts a log server.
func Start(o Options) (*Server, error) { return &Server{done: make(chan struct{})}, nil }

// Addr is the address of the gRPC server, with the real port.
func (s *Server) Addr() string { return "" }

// RaftAddr is the address of the raft port; empty if there is none.
func (s *Server) RaftAddr() string { return "" }

// Ready is nil while this server can serve: it leads, or follows a leader.
func (s *Server) Ready() error { return nil }

// Done is closed when the server ended; Err then says why.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended by itself: a disk error on a server without
// peers. nil while it runs and after Close.
func (s *Server) Err() error { return nil }

// Close stops the server in order and closes the log.
func (s *Server) Close(ctx context.Context) error { return nil }
