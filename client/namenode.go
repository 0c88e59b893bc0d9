package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// namenodes holds a lazy connection to every namenode and remembers the one
// that answered last. Safe for concurrent use.
type namenodes struct {
	endpoints []endpoint
	current   atomic.Int32
	// reached: some namenode has answered, if only with an error of its own.
	reached atomic.Bool
}

type endpoint struct {
	address    string
	connection *grpc.ClientConn
	stub       controlpb.NamenodeClient
}

func newNamenodes(o Options) (*namenodes, error) {
	n := &namenodes{}
	for _, address := range o.Namenodes {
		connection, err := rpc.Dial(address)
		if err != nil {
			return nil, errors.Join(err, n.close())
		}
		n.endpoints = append(n.endpoints, endpoint{address, connection, controlpb.NewNamenodeClient(connection)})
	}
	return n, nil
}

func (n *namenodes) close() error {
	var all error
	for _, e := range n.endpoints {
		all = errors.Join(all, e.connection.Close())
	}
	return all
}

// call describes one request to the active namenode.
type call struct {
	op   string // "create"
	path string // for the error; may be empty
	// impatient kinds of answers are retryable, but this caller has a better
	// idea: they are returned at once, and refused is set.
	impatient []fault.Kind
	refused   *bool
}

// ask sends a request that changes nothing, or can be repeated, until it is
// answered or the retry policy gives up.
func ask[Q, A any](ctx context.Context, c *Client, what call, method func(controlpb.NamenodeClient, context.Context, Q, ...grpc.CallOption) (A, error), request Q) (A, error) {
	var answer A
	err := c.attempt(ctx, what, func(ctx context.Context, stub controlpb.NamenodeClient) (err error) {
		answer, err = method(stub, ctx, request)
		return err
	})
	return answer, err
}

// mutate sends a mutation: every attempt carries the same sequence, so that it
// takes effect once.
func mutate[Q, A any](ctx context.Context, c *Client, what call, method func(controlpb.NamenodeClient, context.Context, Q, ...grpc.CallOption) (A, error), request func(*controlpb.MutationHeader) Q) (A, error) {
	var answer A
	sequence, err := c.sequences.begin(ctx)
	if err != nil {
		return answer, contextFault(ctx, what.op, what.path, nil)
	}
	defer c.sequences.end(sequence)
	err = c.attempt(ctx, what, func(ctx context.Context, stub controlpb.NamenodeClient) (err error) {
		answer, err = method(stub, ctx, request(c.sequences.header(sequence)))
		return err
	})
	return answer, err
}

// attempt runs f against the namenodes until one answers. A namenode that is
// not active or cannot be reached passes the turn to the next at once; after a
// round of all of them, or another retryable error, the policy decides.
func (c *Client) attempt(ctx context.Context, what call, f func(context.Context, controlpb.NamenodeClient) error) error {
	ctx, cancel := c.scope(ctx)
	defer cancel()
	n := c.namenodes
	began := c.clock.Now()
	for number := 1; ; number++ {
		var err error
		var failures []namenodeFailure
		for range n.endpoints {
			at := n.current.Load()
			e := n.endpoints[at]
			var answered bool
			if answered, err = c.once(ctx, what, e, f); err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return contextFault(ctx, what.op, what.path, err)
			}
			if answered && !notServing(err) {
				if slices.Contains(what.impatient, fault.KindOf(err)) {
					*what.refused = true
					return describe(err, what)
				}
				break
			}
			failures = append(failures, namenodeFailure{e.address, err})
			// Several callers fail at once: only the first moves the pointer.
			n.current.CompareAndSwap(at, (at+1)%int32(len(n.endpoints)))
		}
		if len(failures) == len(n.endpoints) {
			err = nobodyServes(what, failures)
		}
		if fault.ClassOf(err) != fault.Retryable {
			return describe(err, what)
		}
		elapsed := c.clock.Now().Sub(began)
		wait, again := c.options.Retry.Next(Attempt{Number: number, Elapsed: elapsed, Err: err})
		if !again || elapsed+wait > c.patience(err) {
			return describe(err, what)
		}
		if clock.Sleep(ctx, c.clock, wait) != nil {
			return contextFault(ctx, what.op, what.path, err)
		}
	}
}

// once makes one attempt at one namenode. answered: the namenode itself said
// err; else the connection failed.
func (c *Client) once(ctx context.Context, what call, e endpoint, f func(context.Context, controlpb.NamenodeClient) error) (answered bool, err error) {
	attempt, cancel := context.WithTimeout(ctx, c.options.CallTimeout)
	defer cancel()
	err = f(attempt, e.stub)
	answered = err == nil || hasDetail(err)
	if answered {
		c.namenodes.reached.Store(true)
	}
	if err != nil && !answered && attempt.Err() != nil && ctx.Err() == nil {
		return false, &fault.Error{Kind: fault.Unavailable, Op: what.op, Address: e.address, Reason: fmt.Sprintf("no answer within %v", c.options.CallTimeout)}
	}
	return answered, rpc.FromStatus(err, what.op, e.address)
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

// notServing tells whether a namenode's answer means that another one serves.
func notServing(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotActive, fault.Fenced, fault.Closed:
		return true
	}
	return false
}

// patience bounds, beside the policy, how long err is worth retrying.
func (c *Client) patience(err error) time.Duration {
	if !c.namenodes.reached.Load() {
		return c.options.FirstContact
	}
	if errors.Is(err, fault.TooFewNodes) {
		return tooFewNodesPatience
	}
	return 1<<63 - 1
}

type namenodeFailure struct {
	address string
	err     error
}

// nobodyServes is the error after every namenode failed: it names each address
// and why.
func nobodyServes(what call, failures []namenodeFailure) error {
	kind := fault.Unavailable
	var reasons []string
	var hint string
	for _, f := range failures {
		var e *fault.Error
		if !errors.As(f.err, &e) {
			e = &fault.Error{Kind: fault.Unavailable, Reason: f.err.Error()}
		}
		reason := e.Reason
		if reason == "" {
			reason = e.Kind.String()
		}
		if hint == "" {
			hint = e.Hint
		}
		if e.Kind == fault.NotActive {
			kind = fault.NotActive
		}
		reasons = append(reasons, f.address+": "+reason)
	}
	return &fault.Error{Kind: kind, Op: what.op, Path: what.path, Hint: hint,
		Reason: "no namenode serves: " + strings.Join(reasons, "; ")}
}

// describe fills in what a person needs and the namenode left out.
func describe(err error, what call) error {
	e, ok := asFault(err)
	if !ok {
		return &fault.Error{Kind: max(fault.KindOf(err), fault.Internal), Op: what.op, Path: what.path, Err: err}
	}
	if e.Op == "" {
		e.Op = what.op
	}
	if e.Path == "" {
		e.Path = what.path
	}
	e.Address = "" // a namenode answered: which one says nothing about the answer
	return e
}
