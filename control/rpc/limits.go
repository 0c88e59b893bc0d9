package rpc

import "time"

// Bounds of every gRPC connection of the project. What one costs a server, in bytes of heap and stacks:
//
//	idle                    ≈ 21 KiB: three goroutines, HPACK tables, frames; read and
//	                          write buffers are shared (see bounded)
//	while it reads, writes  bufferBytes each way, for that moment
//	a call                  its message, ≤ MessageBytesMax (requestBytesMax of the
//	                          namenode), and a goroutine ≈ 8 KiB
//
// What a peer that means ill can make a server hold is bounded only by its connections · streamsPerConnectionMax ·
// windowBytes, more than any machine has: the network is trusted (README.md).
const (
	// MessageBytesMax bounds one message in either direction. The largest ones are batches of the edit log
	// (limits.BatchBytesMax, 4 MiB, plus framing) and pages of chunk reports.
	MessageBytesMax = 16 << 20
	// streamsPerConnectionMax bounds concurrent calls of one connection; more wait at the client.
	streamsPerConnectionMax = 4096
	// headerBytesMax bounds a request's metadata; ours is a few hundred bytes,
	// and error details are cut to stay far below it.
	headerBytesMax = 64 << 10
	// textBytesMax bounds each text field of an error detail, so that a detail
	// stays below headerBytesMax also when base64 adds a third.
	textBytesMax = 4 << 10
	// bufferBytes is the read and write buffer of a connection.
	bufferBytes = 64 << 10
	// windowBytes is the flow-control window of a stream and of a connection:
	// room for a burst of full edit-log batches.
	windowBytes = 4 << 20
	// connectionsDefault bounds the open connections of a server.
	connectionsDefault = 8192
	// refusalsMax connections at a time get the reason why they are refused; others are only closed. Each has a
	// goroutine for refusalTimeout at most, and refusalBytesMax of what it sends are read meanwhile.
	refusalsMax     = 64
	refusalBytesMax = 64 << 10
	// sweepFirst: with fewer connections there is no check which of them are closed.
	sweepFirst = 64
)

// Times of every gRPC connection of the project.
const (
	// handshakeTimeout bounds a connection that says nothing.
	handshakeTimeout = 5 * time.Second
	// keepalivePing and keepaliveTimeout find a peer that is gone without a
	// word within 15 s. 10 s is the least that grpc-go accepts from a client.
	keepalivePing    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// keepaliveLeast is how often a client may ping a server.
	keepaliveLeast = 5 * time.Second
	// backoffFirst and backoffMax space connection attempts: a restarted server is found within about a second.
	backoffFirst = 50 * time.Millisecond
	backoffMax   = time.Second
	// refusalTimeout: see refusalsMax. Stopping a server waits so long.
	refusalTimeout = time.Second
	// sweepPause spaces the checks for closed connections while all places are in
	// use: one check of 8,192 connections lasts about a millisecond.
	sweepPause = 50 * time.Millisecond
)
