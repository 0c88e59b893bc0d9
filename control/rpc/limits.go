package rpc

import "time"

// Bounds of every gRPC connection of the project.
const (
	// MessageBytesMax bounds one message in either direction. The largest ones
	// are batches of the edit log (editlog.BatchBytesMax, 4 MiB, plus framing)
	// and pages of chunk reports.
	MessageBytesMax = 16 << 20
	// streamsPerConnectionMax bounds concurrent calls of one connection; more
	// wait at the client.
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
)

// Times of every gRPC connection of the project.
const (
	// handshakeTimeout bounds a connection that says nothing.
	handshakeTimeout = 5 * time.Second
	// keepalivePing and keepaliveTimeout find a peer that is gone without a
	// word within 15 s. 10 s is the least that grpc-go lets a client use.
	keepalivePing    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// keepaliveLeast is how often a server lets a client ping it.
	keepaliveLeast = 5 * time.Second
	// backoffFirst and backoffMax space connection attempts: a restarted
	// server is found within about a second.
	backoffFirst = 50 * time.Millisecond
	backoffMax   = time.Second
)
