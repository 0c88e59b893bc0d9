package rpc

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/whispering-woods/ww/internal/fault"
)

// ServerOptions configures NewServer.
type ServerOptions struct {
	Logger *slog.Logger // gets panics of handlers, which then end the process; nil = none
	// ConnectionsMax bounds the open connections; a further one is refused with the reason. 0 = connectionsDefault.
	ConnectionsMax int
	Extra          []grpc.ServerOption // after the common ones
}

// Server is a grpc.Server with the project's settings and a health service. Register services on it, then Serve.
type Server struct {
	*grpc.Server
	health         *health.Server
	logger         *slog.Logger
	connectionsMax int
}

// NewServer makes a server: errors of handlers pass through ToStatus, panics end the process, messages and streams
// are bounded (limits.go), silent peers are found, and grpc.health.v1 answers NOT_SERVING until SetServing(true).
func NewServer(options ServerOptions) *Server {
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	intercept := interceptor{options.Logger}
	settings := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MessageBytesMax),
		grpc.MaxSendMsgSize(MessageBytesMax),
		grpc.MaxConcurrentStreams(streamsPerConnectionMax),
		grpc.MaxHeaderListSize(headerBytesMax),
		grpc.WaitForHandlers(true),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepalivePing, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveLeast,
			PermitWithoutStream: true}),
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(windowBytes),
		grpc.ChainUnaryInterceptor(intercept.unary),
		grpc.ChainStreamInterceptor(intercept.stream),
	}
	s := &Server{Server: grpc.NewServer(append(settings, options.Extra...)...), health: health.NewServer(),
		logger: options.Logger, connectionsMax: cmp.Or(options.ConnectionsMax, connectionsDefault)}
	s.SetServing(false)
	grpc_health_v1.RegisterHealthServer(s.Server, s.health)
	return s
}

// Serve accepts connections on l, as many as ConnectionsMax at once, until the server is stopped; it closes l.
func (s *Server) Serve(l net.Listener) error {
	b := newBounded(l, s.connectionsMax, s.logger)
	defer b.group.Wait()
	return s.Server.Serve(b)
}

// SetServing sets what the health service reports for the whole process.
func (s *Server) SetServing(serving bool) {
	state := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		state = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
}

// StopWithin stops the server in order: no new calls, running ones may end until ctx does, the rest is cut off: their
// contexts end, and it waits for their handlers. Streams that live as long as their client (tails, datanode sessions)
// should be ended by their owner first. It reports fault.Closed with the context's error when calls had to be cut.
func (s *Server) StopWithin(ctx context.Context) error {
	s.health.Shutdown()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.GracefulStop()
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		s.Server.Stop()
		<-stopped
		return &fault.Error{Kind: fault.Closed, Op: "stop server", Reason: "calls were cut off", Err: ctx.Err()}
	}
}

// Listen opens a TCP listener on "host:port"; port 0 picks one. Errors:
// fault.Invalid for a bad address, fault.Unavailable with the system's reason.
func Listen(address string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "listen", Address: address, Err: err,
			Hint: "write host:port, for example 127.0.0.1:7700"}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Unavailable, Op: "listen", Address: address, Err: err,
			Hint: "is another process using the port?"}
	}
	return listener, nil
}

// interceptor wraps every handler.
type interceptor struct{ logger *slog.Logger }

func (i interceptor) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo,
	handler grpc.UnaryHandler) (response any, err error) {
	defer func() { i.recovered(recover(), info.FullMethod) }()
	response, err = handler(ctx, request)
	return response, ToStatus(err)
}

func (i interceptor) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo,
	handler grpc.StreamHandler) (err error) {
	defer func() { i.recovered(recover(), info.FullMethod) }()
	return ToStatus(handler(server, stream))
}

// recovered logs a panic and rethrows it.
func (i interceptor) recovered(value any, method string) {
	if value != nil {
		i.logger.Error("handler panicked", "method", method, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
		panic(value)
	}
}
