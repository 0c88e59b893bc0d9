package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds are all that exist.
func kinds() []fault.Kind {
	var out []fault.Kind
	for k := range controlpb.ErrorKind_name {
		if k != 0 {
			out = append(out, fault.Kind(k))
		}
	}
	return out
}

func TestEveryKindAndFieldCrosses(t *testing.T) {
	require.Len(t, kindCodes, len(controlpb.ErrorKind_name), "a kind is missing in the table")
	for _, kind := range kinds() {
		require.NotContains(t, kind.String(), "fault kind", "fault does not know kind %d", kind)
		e := &fault.Error{
			Kind: kind, Op: "put", Path: "/a \"b\"\n", Chunk: "c-1", Node: "dn3", Address: "10.0.0.3:7720",
			Reason: "why", Hint: "do this", Holder: "client 7", Since: time.UnixMilli(1_700_000_000_123),
		}
		wire := ToStatus(e)
		require.NotEqual(t, codes.Unknown, status.Code(wire), "%v", kind)
		require.NotEqual(t, codes.OK, status.Code(wire))
		require.Equal(t, e, FromStatus(wire, "other op", "other:1"))
		require.Equal(t, wire, ToStatus(wire), "a status stays")
	}
}

func TestWhatToStatusMakesOfOtherErrors(t *testing.T) {
	require.NoError(t, ToStatus(nil))
	require.NoError(t, FromStatus(nil, "", ""))

	got := FromStatus(ToStatus(fmt.Errorf("store file: %w",
		&fault.Error{Kind: fault.Disk, Op: "append", Err: io.ErrShortWrite})), "op", "a:1")
	require.EqualError(t, got, "store file: append: disk error: short write (a:1)")
	require.ErrorIs(t, got, fault.Disk)

	got = FromStatus(ToStatus(errors.New("oops")), "op", "a:1")
	require.ErrorIs(t, got, fault.Internal)
	require.ErrorIs(t, FromStatus(ToStatus(fault.NotFound), "op", "a:1"), fault.NotFound)
	require.ErrorIs(t, FromStatus(ToStatus(context.Canceled), "op", "a:1"), context.Canceled)
	require.ErrorIs(t, FromStatus(ToStatus(context.DeadlineExceeded), "op", "a:1"), context.DeadlineExceeded)
	require.ErrorIs(t, FromStatus(context.Canceled, "op", "a:1"), fault.Closed)
	require.ErrorIs(t, FromStatus(io.EOF, "op", "a:1"), io.EOF)
	require.ErrorIs(t, FromStatus(io.EOF, "op", "a:1"), fault.Unavailable)
	e := fault.New(fault.Gap, "x", "y")
	require.Equal(t, error(e), FromStatus(e, "op", "a:1"))
	require.Equal(t, codes.Unknown, codeOf(0))
	require.Equal(t, codes.Unknown, codeOf(200))
}

func TestTextsThatProtobufWouldRefuse(t *testing.T) {
	long := strings.Repeat("ä", 1<<20)
	got := FromStatus(ToStatus(&fault.Error{Kind: fault.Invalid, Path: "/a\xffb", Reason: long,
		Hint: strings.Repeat("\xff", 1<<20)}), "op", "a:1")
	var e *fault.Error
	require.ErrorAs(t, got, &e)
	require.Equal(t, "/a\uFFFDb", e.Path)
	require.LessOrEqual(t, len(e.Reason), textBytesMax)
	require.True(t, strings.HasPrefix(long, strings.TrimSuffix(e.Reason, "…")))
	require.LessOrEqual(t, len(e.Hint), 3*textBytesMax)
}

func TestCheckAddress(t *testing.T) {
	for _, good := range []string{"127.0.0.1:7700", "[::1]:1", "host.example:65535", "h-1:80"} {
		require.NoError(t, CheckAddress(good))
	}
	for bad, says := range map[string]string{
		"": "empty", "host": "missing port", "host:": "not a number", ":7700": "host is missing",
		"host:0": "between 1 and 65535", "host:65536": "between 1 and 65535", "host:x": "not a number",
		"host:-1":       "not a number",
		"http://host:1": "no scheme", "a:b:1": "too many colons", "ho st:1": "no host name has",
		"host:99999999999999": "not a number",
	} {
		err := CheckAddress(bad)
		require.ErrorIs(t, err, fault.Invalid, bad)
		require.ErrorContains(t, err, says, bad)
		_, err = Dial(bad)
		require.ErrorIs(t, err, fault.Invalid, bad)
	}
	list, err := CheckAddresses([]string{" a:1", "b:2 ", "a:1"})
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, list)
	_, err = CheckAddresses(nil)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = CheckAddresses([]string{"a:1", "b"})
	require.ErrorIs(t, err, fault.Invalid)
}

// editLog is a service whose calls do what a test wants.
type editLog struct {
	controlpb.UnimplementedEditLogServer
	status func(context.Context) error
	append func(grpc.BidiStreamingServer[controlpb.AppendBatch, controlpb.AppendAck]) error
}

func (s *editLog) LogStatus(ctx context.Context, _ *controlpb.LogStatusRequest) (*controlpb.LogStatusResponse, error) {
	return &controlpb.LogStatusResponse{}, s.status(ctx)
}

func (s *editLog) Append(stream grpc.BidiStreamingServer[controlpb.AppendBatch, controlpb.AppendAck]) error {
	return s.append(stream)
}

// serve runs a service until the test ends.
func serve(t *testing.T, service *editLog, o ServerOptions) (*Server, string) {
	t.Helper()
	listener, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(o)
	if service != nil {
		controlpb.RegisterEditLogServer(s.Server, service)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(listener) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return s, listener.Addr().String()
}

// call asks for the log status.
func call(t *testing.T, address string, timeout time.Duration) error {
	t.Helper()
	conn, err := Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err = controlpb.NewEditLogClient(conn).LogStatus(ctx, &controlpb.LogStatusRequest{})
	return FromStatus(err, "log status", address)
}

func TestHandlersErrorsCross(t *testing.T) {
	want := &fault.Error{Kind: fault.NotEmpty, Op: "remove", Path: "/d", Address: "x:1", Reason: "3 entries",
		Hint: "use -r"}
	_, address := serve(t, &editLog{
		status: func(context.Context) error { return want },
		append: func(grpc.BidiStreamingServer[controlpb.AppendBatch, controlpb.AppendAck]) error { return want },
	}, ServerOptions{})
	require.Equal(t, error(want), call(t, address, 5*time.Second))
	conn, err := Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	stream, err := controlpb.NewEditLogClient(conn).Append(t.Context())
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, error(want), FromStatus(err, "append", address))
}

// listen runs a TCP server that treats every connection with handle.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handle(conn)
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}

func TestWrongPortsAreUnavailableWithAReason(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	web := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	webListener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	webDone := make(chan struct{})
	go func() { defer close(webDone); _ = web.Serve(webListener) }()
	t.Cleanup(func() { _ = web.Close(); <-webDone })

	_, other := serve(t, nil, ServerOptions{})
	var silent []net.Conn
	t.Cleanup(func() {
		for _, conn := range silent {
			_ = conn.Close()
		}
	})
	for _, test := range []struct{ name, address, says string }{
		{"nobody listens", closed.Addr().String(), "connection refused"},
		{"unknown host", "no-such-host.invalid:7700", "host"},
		{"a web server", webListener.Addr().String(), "speaks something else"},
		{"closes at once", listen(t, hangUp), "speaks something else"},
		{"answers garbage", listen(t, func(c net.Conn) {
			_, _ = c.Write([]byte(strings.Repeat("\xfe\xca", 4000)))
			hangUp(c)
		}), "speaks something else"},
		{"says nothing", listen(t, func(c net.Conn) { silent = append(silent, c) }), "no answer in time"},
		{"another service", other, "another kind of server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := call(t, test.address, 1500*time.Millisecond)
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, test.address)
			t.Log(err)
		})
	}
}

// hangUp ends a connection and reads what still comes: to close with bytes
// unread would reset it, and the reset may overtake what was written.
func hangUp(c net.Conn) {
	_ = c.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
}

func TestOlderServersAndLargeMessages(t *testing.T) {
	_, address := serve(t, &editLog{}, ServerOptions{})
	conn, err := Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	err = FromStatus(conn.Invoke(t.Context(), "/ww.control.v1.EditLog/FromTheFuture", &controlpb.LogStatusRequest{},
		&controlpb.LogStatusResponse{}), "op", address)
	require.ErrorIs(t, err, fault.Version)
	_, err = controlpb.NewEditLogClient(conn).AcquireEpoch(t.Context(),
		&controlpb.AcquireEpochRequest{Holder: strings.Repeat("x", MessageBytesMax+1)})
	err = FromStatus(err, "op", address)
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "larger than max")
}

func TestDeadlineAndCancel(t *testing.T) {
	entered := make(chan struct{}, 2)
	_, address := serve(t, &editLog{status: func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}, ServerOptions{})
	err := call(t, address, time.Second) // connecting is part of it
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	select {
	case <-entered:
	case <-time.After(20 * time.Second):
		t.Fatal("the call ended before it reached the server")
	}
	conn, err := Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err = controlpb.NewEditLogClient(conn).LogStatus(ctx, &controlpb.LogStatusRequest{})
	err = FromStatus(err, "log status", address)
	require.ErrorIs(t, err, fault.Closed)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAPanicReachesTheProcess(t *testing.T) {
	var log bytes.Buffer
	i := interceptor{slog.New(slog.NewTextHandler(&log, nil))}
	require.PanicsWithValue(t, "broken", func() {
		_, _ = i.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/one"},
			func(context.Context, any) (any, error) { panic("broken") })
	})
	require.PanicsWithValue(t, "broken too", func() {
		_ = i.stream(nil, nil, &grpc.StreamServerInfo{FullMethod: "/many"},
			func(any, grpc.ServerStream) error { panic("broken too") })
	})
	require.Contains(t, log.String(), "/one")
	require.Contains(t, log.String(), "/many")
}

func TestStopWithinCutsWhatDoesNotEnd(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	server, address := serve(t, &editLog{append: func(stream grpc.BidiStreamingServer[controlpb.AppendBatch,
		controlpb.AppendAck]) error {
		close(entered)
		defer close(ended)
		<-stream.Context().Done()
		return stream.Context().Err()
	}}, ServerOptions{})
	server.SetServing(true)
	conn, err := Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, health.Status)
	stream, err := controlpb.NewEditLogClient(conn).Append(t.Context())
	require.NoError(t, err)
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, server.StopWithin(ctx), fault.Closed)
	select {
	case <-ended:
	default:
		t.Fatal("StopWithin must wait for the handlers")
	}
	_, err = stream.Recv()
	require.ErrorIs(t, FromStatus(err, "append", address), fault.Unavailable)
	_, err = Listen("nonsense")
	require.ErrorIs(t, err, fault.Invalid)
}
