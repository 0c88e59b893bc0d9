package namenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options configures a Client. All fields are needed.
type Options struct {
	Addresses    []string // host:port of each namenode
	ID           uuid.UUID
	Retry        RetryFunc
	FirstContact time.Duration // bounds the attempts to reach any namenode before one ever answered
	CallTimeout  time.Duration // of one attempt
	Life         *lifetime.Lifetime
	Clock        clock.Clock
	Logger       *slog.Logger
}

// RetryFunc returns how long to wait after a retryable failure of an operation, or to give up. number is 1 for the
// first attempt; elapsed is the time since that began.
type RetryFunc func(number int, elapsed time.Duration, err error) (wait time.Duration, retry bool)

// Client calls the active namenode. It holds a connection to every one, made when first needed, and remembers the one
// that answered last. Safe for concurrent use.
type Client struct {
	options   Options
	sequences *sequences
	endpoints []endpoint
	current   atomic.Int32
	reached   atomic.Bool // some namenode has answered, if only with an error of its own
}

type endpoint struct {
	address    string
	connection *grpc.ClientConn
	stub       controlpb.NamenodeClient
}

// New makes a client; it connects only when the first call needs it.
func New(o Options) (*Client, error) {
	c := &Client{options: o, sequences: newSequences(o.ID)}
	for _, address := range o.Addresses {
		connection, err := rpc.Dial(address)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.endpoints = append(c.endpoints, endpoint{address, connection, controlpb.NewNamenodeClient(connection)})
	}
	return c, nil
}

// Close closes the connections.
func (c *Client) Close() error {
	var all error
	for _, e := range c.endpoints {
		all = errors.Join(all, e.connection.Close())
	}
	return all
}

// Call describes one request to the active namenode.
type Call struct {
	Op      string // "create"
	Path    string // for the error; may be empty
	Invalid error  // why the call is not made, its path is bad. nil: the path is good
	// Impatient kinds of answers are retryable, but this caller has a better idea: they are returned at once, and
	// Refused, unless it is nil, is set.
	Impatient []fault.Kind
	Refused   *bool
}

// Method is a method of the namenode's stub.
type Method[Q, A any] func(controlpb.NamenodeClient, context.Context, Q, ...grpc.CallOption) (A, error)

// Ask sends a request that changes nothing, or can be repeated, until it is answered or the retry policy gives up.
func Ask[Q, A any](ctx context.Context, c *Client, what Call, method Method[Q, A], request Q) (A, error) {
	var answer A
	err := c.attempt(ctx, what, func(ctx context.Context, stub controlpb.NamenodeClient) (err error) {
		answer, err = method(stub, ctx, request)
		return err
	})
	return answer, err
}

// mutation is a request that changes something.
type mutation interface {
	GetHeader() *controlpb.MutationHeader
}

// Mutate sends a mutation: every attempt carries the same sequence, so that it takes effect once. It fills in the
// request's Header, which the caller made.
func Mutate[Q mutation, A any](ctx context.Context, client *Client, what Call, method Method[Q, A],
	request Q) (A, error) {
	var answer A
	if what.Invalid != nil {
		return answer, what.Invalid
	}
	sequence, err := client.sequences.begin(ctx)
	if err != nil {
		return answer, lifetime.Ended(ctx, what.Op, what.Path, nil)
	}
	defer client.sequences.end(sequence)
	err = client.attempt(ctx, what, func(ctx context.Context, stub controlpb.NamenodeClient) (err error) {
		client.sequences.fill(request.GetHeader(), sequence)
		answer, err = method(stub, ctx, request)
		return err
	})
	return answer, err
}

// attempt runs f against the namenodes until one answers. A namenode that is not active or cannot be reached passes the
// turn to the next at once; after a round of all of them, or another retryable error, the policy decides.
func (c *Client) attempt(ctx context.Context, what Call,
	request func(context.Context, controlpb.NamenodeClient) error) error {
	if what.Invalid != nil {
		return what.Invalid
	}
	ctx, cancel := c.options.Life.Scope(ctx)
	defer cancel()
	began := c.options.Clock.Now()
	for number := 1; ; number++ {
		var err error
		var failures []failure
		for range c.endpoints {
			at := c.current.Load()
			target := c.endpoints[at]
			var answered bool
			if answered, err = c.once(ctx, what, target, request); err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return lifetime.Ended(ctx, what.Op, what.Path, err)
			}
			if answered && !notServing(err) {
				if slices.Contains(what.Impatient, fault.KindOf(err)) {
					if what.Refused != nil {
						*what.Refused = true
					}
					return describe(err, what)
				}
				break
			}
			failures = append(failures, failure{target.address, err})
			// Several callers fail at once: only the first moves the pointer.
			c.current.CompareAndSwap(at, (at+1)%int32(len(c.endpoints)))
		}
		if len(failures) == len(c.endpoints) {
			err = nobodyServes(what, failures)
		}
		if fault.ClassOf(err) != fault.Retryable {
			return describe(err, what)
		}
		elapsed := c.options.Clock.Now().Sub(began)
		wait, retry := c.options.Retry(number, elapsed, err)
		if !retry || elapsed+wait > c.patience(err) {
			return describe(err, what)
		}
		if clock.Sleep(ctx, c.options.Clock, wait) != nil {
			return lifetime.Ended(ctx, what.Op, what.Path, err)
		}
	}
}

// once makes one attempt at one namenode. answered: err is the namenode's own; else the connection failed.
func (c *Client) once(ctx context.Context, what Call, target endpoint,
	f func(context.Context, controlpb.NamenodeClient) error) (answered bool, err error) {
	attempt, cancel := context.WithTimeout(ctx, c.options.CallTimeout)
	defer cancel()
	err = f(attempt, target.stub)
	answered = err == nil || hasDetail(err)
	if answered {
		c.reached.Store(true)
	}
	if err != nil && !answered && attempt.Err() != nil && ctx.Err() == nil {
		return false, &fault.Error{Kind: fault.Unavailable, Op: what.Op, Address: target.address,
			Reason: fmt.Sprintf("no answer within %v", c.options.CallTimeout)}
	}
	return answered, rpc.FromStatus(err, what.Op, target.address)
}

// AddressOf finds the address behind a stub of ours.
func (c *Client) AddressOf(stub controlpb.NamenodeClient) string {
	for _, e := range c.endpoints {
		if e.stub == stub {
			return e.address
		}
	}
	return ""
}

// patience bounds, beside the policy, how long err is worth retrying.
func (c *Client) patience(err error) time.Duration {
	if !c.reached.Load() {
		return c.options.FirstContact
	}
	if errors.Is(err, fault.TooFewNodes) {
		var refusal *fault.Error
		if errors.As(err, &refusal) && refusal.Chunk != "" {
			return 0 // it is too few nodes that have this chunk: waiting gives them no copy
		}
		return tooFewNodesPatience
	}
	return 1<<63 - 1
}

// hasDetail tells a server's own error from one of the transport.
func hasDetail(err error) bool {
	st, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, d := range st.Details() {
		if _, ok := d.(*controlpb.ErrorDetail); ok {
			return true
		}
	}
	return false
}

// notServing reports whether a namenode's answer means that another one serves.
func notServing(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotActive, fault.Fenced, fault.Closed:
		return true
	}
	return false
}

type failure struct {
	address string
	err     error
}

// nobodyServes is the error after every namenode failed: it names each address and why.
func nobodyServes(what Call, failures []failure) error {
	kind := fault.Unavailable
	var reasons []string
	var hint string
	for _, failed := range failures {
		var answer *fault.Error
		if !errors.As(failed.err, &answer) {
			answer = &fault.Error{Kind: fault.Unavailable, Reason: failed.err.Error()}
		}
		reason := answer.Reason
		if reason == "" {
			reason = answer.Kind.String()
		}
		if hint == "" {
			hint = answer.Hint
		}
		if answer.Kind == fault.NotActive {
			kind = fault.NotActive
		}
		reasons = append(reasons, failed.address+": "+reason)
	}
	return &fault.Error{Kind: kind, Op: what.Op, Path: what.Path, Hint: hint,
		Reason: "no namenode serves: " + strings.Join(reasons, "; ")}
}

// describe fills in what a person needs and the namenode left out.
func describe(err error, what Call) error {
	described, ok := fault.Outermost(err)
	if !ok {
		return &fault.Error{Kind: max(fault.KindOf(err), fault.Internal), Op: what.Op, Path: what.Path, Err: err}
	}
	if described.Op == "" {
		described.Op = what.Op
	}
	if described.Path == "" {
		described.Path = what.Path
	}
	described.Address = "" // a namenode answered: which one says nothing about the answer
	return described
}
