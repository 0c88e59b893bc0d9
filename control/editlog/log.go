package editlog

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"

	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options configures Dial.
type Options struct {
	Addresses []string     // of the log servers, host:port of their gRPC servers
	Logger    *slog.Logger // nil = none
	Clock     clock.Clock  // nil = the system's
}

// Log is a connection to the log servers. Safe for concurrent use.
type Log struct {
	logger  *slog.Logger
	clock   clock.Clock
	servers []server
}

// server is one log server.
type server struct {
	address string
	conn    *grpc.ClientConn
	client  controlpb.EditLogClient
}

// Grant is what AcquireEpoch returned.
type Grant struct {
	Epoch    uint64 // makes the caller the only accepted writer until a higher one is acquired
	LastTxid uint64 // the last one in the log; no older epoch can add to it
	Address  string // of the leader that granted it
}

// Batch is a run of committed records.
type Batch struct {
	FirstTxid uint64   // the txid of Records[0]; the others follow without a gap
	Records   [][]byte // may be kept. Empty in a heartbeat of a following Tail.
	LastTxid  uint64   // was the log's last committed one when the server sent this
}

// Dial prepares connections to the log servers and returns at once; nothing is
// sent. Errors: fault.Invalid for a bad address.
func Dial(o Options) (*Log, error) {
	addresses, err := rpc.CheckAddresses(o.Addresses)
	if err != nil {
		return nil, err
	}
	log := &Log{logger: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		clock: cmp.Or[clock.Clock](o.Clock, clock.Real{})}
	for _, address := range addresses {
		conn, err := rpc.Dial(address)
		if err != nil {
			_ = log.Close()
			return nil, err
		}
		log.servers = append(log.servers,
			server{address: address, conn: conn, client: controlpb.NewEditLogClient(conn)})
	}
	return log, nil
}

// Close ends every connection; running calls and Writers fail.
func (l *Log) Close() error {
	var errs []error
	for _, s := range l.servers {
		errs = append(errs, s.conn.Close())
	}
	return errors.Join(errs...)
}

// Status asks every log server and returns the answers in the order of the
// addresses; errors are in LogStatusResponse.error.
func (l *Log) Status(ctx context.Context) []*controlpb.LogStatusResponse {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out := make([]*controlpb.LogStatusResponse, len(l.servers))
	var group sync.WaitGroup
	for i, s := range l.servers {
		group.Go(func() {
			status, err := s.client.LogStatus(ctx, &controlpb.LogStatusRequest{})
			if err != nil {
				status = &controlpb.LogStatusResponse{Error: rpc.FromStatus(err, "log status", s.address).Error()}
			}
			out[i] = status
		})
	}
	group.Wait()
	return out
}

// leader finds the log server that leads and is ready, asking repeatedly
// until ctx ends. Errors: fault.Unavailable with what each server answered the last time that all were asked: those
// whom the end of ctx cut short say nothing.
func (l *Log) leader(ctx context.Context, op string) (server, error) {
	var told []*controlpb.LogStatusResponse
	for failures := 1; ; failures++ {
		statuses := l.Status(ctx)
		if told == nil || ctx.Err() == nil {
			told = statuses
		}
		for i, status := range statuses {
			if status.Leader && status.Ready {
				return l.servers[i], nil
			}
		}
		if err := clock.Sleep(ctx, l.clock, backoff.Exponential{First: searchPause,
			Max: searchPauseMax}.After(failures)); err != nil {
			return server{}, l.noLeader(op, told, err)
		}
	}
}

// noLeader says why no server was good enough.
func (l *Log) noLeader(op string, statuses []*controlpb.LogStatusResponse, cause error) error {
	reason := "no log server leads"
	for i, status := range statuses {
		said := status.Error
		switch {
		case said != "":
		case status.Leader:
			said = "leads but is not ready"
		case status.LeaderAddress != "":
			said = "follows " + status.LeaderAddress
		default:
			said = "knows no leader"
		}
		reason += "; " + l.servers[i].address + ": " + said
	}
	return &fault.Error{Kind: fault.Unavailable, Op: op, Reason: reason, Err: cause}
}

// AcquireEpoch makes the caller the log's only accepted writer: every batch of a lower epoch is refused from then
// on. holder names the caller for people. It looks for the leader until ctx ends. After an error the epoch may have
// been acquired all the same; the next call acquires a higher one. Errors: fault.Unavailable with what each server
// answered, fault.Invalid.
func (l *Log) AcquireEpoch(ctx context.Context, holder string) (Grant, error) {
	const op = "acquire epoch"
	for {
		s, err := l.leader(ctx, op)
		if err != nil {
			return Grant{}, err
		}
		response, err := s.client.AcquireEpoch(ctx, &controlpb.AcquireEpochRequest{Holder: holder})
		if err == nil {
			return Grant{Epoch: response.Epoch, LastTxid: response.LastTxid, Address: s.address}, nil
		}
		err = rpc.FromStatus(err, op, s.address)
		switch fault.KindOf(err) {
		case fault.Invalid, fault.Version, fault.Protocol, fault.Internal:
			return Grant{}, err // every server would say so
		}
		l.logger.Warn("acquire epoch failed, looking for the leader again", "err", err)
		if clock.Sleep(ctx, l.clock, searchPause) != nil {
			return Grant{}, err
		}
	}
}
