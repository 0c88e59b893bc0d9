package editlog

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// appendServer and tailServer are the servers' ends of the streams.
type (
	appendServer = grpc.BidiStreamingServer[controlpb.AppendBatch, controlpb.AppendAck]
	tailServer   = grpc.ServerStreamingServer[controlpb.TailBatch]
)

// fake is a log server that misbehaves as a test wants.
type fake struct {
	controlpb.UnimplementedEditLogServer
	status  controlpb.LogStatusResponse
	asked   func(context.Context) // before it tells its status; may be nil
	acquire func() (*controlpb.AcquireEpochResponse, error)
	append  func(appendServer) error
	tail    func(*controlpb.TailRequest, tailServer) error

	upload   func(uploadServer) error
	download func(*controlpb.DownloadCheckpointRequest, downloadServer) error
}

func (f *fake) LogStatus(ctx context.Context, _ *controlpb.LogStatusRequest) (*controlpb.LogStatusResponse, error) {
	if f.asked != nil {
		f.asked(ctx)
	}
	return &controlpb.LogStatusResponse{Leader: f.status.Leader, Ready: f.status.Ready,
		LeaderAddress: f.status.LeaderAddress, Error: f.status.Error}, nil
}

func (f *fake) AcquireEpoch(context.Context, *controlpb.AcquireEpochRequest) (*controlpb.AcquireEpochResponse, error) {
	return f.acquire()
}

func (f *fake) Append(stream appendServer) error { return f.append(stream) }

func (f *fake) Tail(request *controlpb.TailRequest, stream tailServer) error {
	return f.tail(request, stream)
}

// leader is a fake that leads.
func leader() *fake {
	return &fake{
		status: controlpb.LogStatusResponse{Leader: true, Ready: true},
		acquire: func() (*controlpb.AcquireEpochResponse, error) {
			return &controlpb.AcquireEpochResponse{Epoch: 1},
				nil
		},
	}
}

// serve runs a fake until the test ends.
func serve(t *testing.T, f *fake) (address string, stop func()) {
	t.Helper()
	listener, err := rpc.Listen("127.0.0.1:0")
	require.NoError(t, err)
	s := rpc.NewServer(rpc.ServerOptions{})
	controlpb.RegisterEditLogServer(s.Server, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(listener) }()
	stop = func() { s.Stop(); <-done }
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

func dial(t *testing.T, addresses ...string) *Log {
	t.Helper()
	l, err := Dial(Options{Addresses: addresses})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// calls collects what a Writer reports.
type calls struct {
	durable chan uint64
	failed  chan error
}

func open(t *testing.T, l *Log, o WriterOptions) (*Writer, calls) {
	t.Helper()
	reported := calls{durable: make(chan uint64, 1000), failed: make(chan error, 10)}
	o.OnDurable = func(last uint64) { reported.durable <- last }
	o.OnFailed = func(err error) { reported.failed <- err }
	var err error
	if o.Grant, err = l.AcquireEpoch(within(t), "nn"); err == nil {
		var w *Writer
		if w, err = l.OpenWriter(o); err == nil {
			t.Cleanup(w.Close)
			return w, reported
		}
	}
	require.NoError(t, err)
	return nil, reported
}

func records(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = []byte("record")
	}
	return out
}

func TestABrokenStreamIsTheEndAndNothingIsSentAgain(t *testing.T) {
	var mu sync.Mutex
	var got []uint64
	faked := leader()
	faked.append = func(stream appendServer) error {
		for {
			batch, err := stream.Recv()
			if err != nil {
				return err
			}
			mu.Lock()
			got = append(got, batch.FirstTxid)
			mu.Unlock()
			switch batch.FirstTxid {
			case 1:
				if err := stream.Send(&controlpb.AppendAck{LastTxid: 3}); err != nil {
					return err
				}
			case 4:
				return fault.New(fault.Unavailable, "append", "broken on purpose")
			}
		}
	}
	address, _ := serve(t, faked)
	l := dial(t, address)
	writer, reported := open(t, l, WriterOptions{})
	require.NoError(t, writer.TryAppend(1, records(3)))
	require.EqualValues(t, 3, <-reported.durable)
	require.NoError(t, writer.TryAppend(4, records(1)))
	err := <-reported.failed
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "broken on purpose")
	require.Equal(t, err, writer.Err())
	require.Equal(t, err, writer.TryAppend(5, records(1)))
	require.Equal(t, err, writer.Append(within(t), 5, records(1)))
	require.Len(t, writer.mu.pending, 1, "nobody knows what became of it") // it has ended
	writer.Close()
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []uint64{1, 4}, got)
	require.Empty(t, reported.failed, "reported once")
}

func TestAServerThatDiesFailsTheWriter(t *testing.T) {
	received := make(chan struct{}, 1)
	f := leader()
	f.append = func(stream appendServer) error {
		_, _ = stream.Recv()
		received <- struct{}{}
		<-stream.Context().Done()
		return nil
	}
	address, stop := serve(t, f)
	w, c := open(t, dial(t, address), WriterOptions{})
	require.NoError(t, w.TryAppend(1, records(1)))
	<-received
	stop()
	err := <-c.failed
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, address)
}

func TestAcknowledgementsThatFitNoBatchAreRefused(t *testing.T) {
	for _, wrong := range []uint64{0, 2, 4, 99} {
		f := leader()
		f.append = func(stream appendServer) error {
			_, _ = stream.Recv()
			_ = stream.Send(&controlpb.AppendAck{LastTxid: wrong})
			<-stream.Context().Done()
			return nil
		}
		address, _ := serve(t, f)
		w, c := open(t, dial(t, address), WriterOptions{})
		require.NoError(t, w.TryAppend(1, records(3)))
		require.ErrorIs(t, <-c.failed, fault.Protocol)
		require.Empty(t, c.durable)
		w.Close()
	}
}

func TestInFlightIsBounded(t *testing.T) {
	release := make(chan struct{})
	faked := leader()
	faked.append = func(stream appendServer) error {
		for {
			batch, err := stream.Recv()
			if err != nil {
				return err
			}
			select {
			case <-release:
			case <-stream.Context().Done():
				return nil
			}
			last := batch.FirstTxid + uint64(len(batch.Records)) - 1
			if err := stream.Send(&controlpb.AppendAck{LastTxid: last}); err != nil {
				return err
			}
		}
	}
	address, _ := serve(t, faked)
	log := dial(t, address)
	writer, reported := open(t, log, WriterOptions{InFlightBatches: 2})
	require.NoError(t, writer.TryAppend(1, records(1)))
	require.NoError(t, writer.TryAppend(2, records(1)))
	require.ErrorIs(t, writer.TryAppend(3, records(1)), fault.Busy)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, writer.Append(ctx, 3, records(1)), fault.Busy)
	appended := make(chan error, 1)
	go func() { appended <- writer.Append(within(t), 3, records(1)) }()
	release <- struct{}{}
	require.NoError(t, <-appended)
	require.EqualValues(t, 1, <-reported.durable)
	writer.Close()
	require.Empty(t, reported.failed, "Close is no failure")
	require.ErrorIs(t, writer.Err(), fault.Closed)
	writer.Close() // again

	writer, _ = open(t, log, WriterOptions{InFlightBytes: 10})
	require.NoError(t, writer.TryAppend(1, records(5)), "one batch always fits")
	require.ErrorIs(t, writer.TryAppend(6, records(1)), fault.Busy)
	_, err := log.OpenWriter(WriterOptions{Grant: Grant{Epoch: 1, Address: address}, InFlightBatches: 100_000})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = log.OpenWriter(WriterOptions{Grant: Grant{Epoch: 1, Address: "else:1"}})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = log.OpenWriter(WriterOptions{Grant: Grant{Address: address}})
	require.ErrorIs(t, err, fault.Invalid)
}

// A round of questions that the caller's end cuts short says nothing of a server that answered before.
func TestTheLastCompleteRoundIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	rounds := 0
	follower := &fake{status: controlpb.LogStatusResponse{Ready: true, LeaderAddress: "10.9.9.9:7710"},
		asked: func(asking context.Context) {
			if rounds++; rounds > 1 {
				cancel()
				<-asking.Done()
			}
		}}
	address, _ := serve(t, follower)
	_, err := dial(t, address).AcquireEpoch(ctx, "nn")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "follows 10.9.9.9:7710")
	require.Equal(t, 2, rounds)
}

func TestTheLeaderIsFoundAmongMany(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	follower := &fake{status: controlpb.LogStatusResponse{Ready: true, LeaderAddress: "10.9.9.9:7710"}}
	sick := &fake{status: controlpb.LogStatusResponse{Error: "the disk is full"}}
	refusals := 0
	good := leader()
	good.acquire = func() (*controlpb.AcquireEpochResponse, error) {
		if refusals < 2 {
			refusals++
			return nil, fault.New(fault.NotActive, "acquire epoch", "not yet")
		}
		return &controlpb.AcquireEpochResponse{Epoch: 5, LastTxid: 77}, nil
	}
	first, _ := serve(t, follower)
	second, _ := serve(t, sick)
	third, stop := serve(t, good)
	log := dial(t, dead.Addr().String(), first, second, third)
	grant, err := log.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	require.Equal(t, Grant{Epoch: 5, LastTxid: 77, Address: third}, grant)
	require.Equal(t, 2, refusals)

	good.acquire = func() (*controlpb.AcquireEpochResponse, error) {
		return nil, fault.New(fault.Invalid, "acquire epoch", "bad holder")
	}
	_, err = log.AcquireEpoch(within(t), "nn")
	require.ErrorIs(t, err, fault.Invalid)

	stop()
	says := []string{"connection refused", "follows 10.9.9.9:7710", "the disk is full", dead.Addr().String(), first,
		second, third}
	for patience := 500 * time.Millisecond; ; patience *= 2 { // a busy machine answers later
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err = log.AcquireEpoch(ctx, "nn")
		cancel()
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		lacks := slices.DeleteFunc(slices.Clone(says), func(text string) bool {
			return strings.Contains(err.Error(), text)
		})
		if len(lacks) == 0 {
			break
		}
		require.Less(t, patience, 20*time.Second, "%v lacks %q", err, lacks)
	}
	_, err = Dial(Options{})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = Dial(Options{Addresses: []string{"x"}})
	require.ErrorIs(t, err, fault.Invalid)
}

func TestReplayTakesNoGapAndNoMoreThanAsked(t *testing.T) {
	faked := leader()
	var batches []*controlpb.TailBatch
	faked.tail = func(_ *controlpb.TailRequest, stream tailServer) error {
		for _, b := range batches {
			if err := stream.Send(b); err != nil {
				return err
			}
		}
		return nil
	}
	address, _ := serve(t, faked)
	log := dial(t, address)
	count := 0
	take := func(b Batch) error { count += len(b.Records); return nil }

	batches = []*controlpb.TailBatch{{FirstTxid: 1, Records: records(3)}, {FirstTxid: 4, Records: records(7)}}
	require.NoError(t, log.Replay(within(t), 1, 8, take))
	require.Equal(t, 8, count)
	require.ErrorIs(t, log.Replay(within(t), 1, 11, take), fault.Gap)
	stop := errors.New("stop")
	require.ErrorIs(t, log.Replay(within(t), 1, 8, func(Batch) error { return stop }), stop)
	require.ErrorIs(t, log.Tail(within(t), 1, take), fault.Unavailable)

	for _, bad := range []uint64{3, 5} {
		batches[1].FirstTxid = bad
		require.ErrorIs(t, log.Replay(within(t), 1, 8, take), fault.Protocol)
	}
	faked.tail = func(*controlpb.TailRequest, tailServer) error {
		return fault.New(fault.CorruptData, "read log", "damaged")
	}
	require.ErrorIs(t, log.Replay(within(t), 1, 8, take), fault.CorruptData)
	require.NotErrorIs(t, log.Replay(within(t), 1, 8, take), io.EOF)
}
