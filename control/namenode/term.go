package namenode

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/internal/fault"
)

// term is the time under one epoch in which this namenode serves. Other
// goroutines reach the actor through its mailbox.
type term struct {
	epoch       uint64
	mailbox     chan *call
	checkpoints chan checkpointRequest
	// durable is the last txid known to be in the log for good; it only rises.
	durable atomic.Uint64
	stats   *counters
	ended   chan struct{} // closed when the term is over
	reason  error         // why; set before ended is closed
}

// call is a command on its way to the actor and back.
type call struct {
	// ctx of the caller; nil in an ownCall, which is never skipped.
	ctx     context.Context
	command actor.Command
	// session of a datanode's command.
	session *session
	// atStep: answered when it was stepped, not when its records are durable.
	atStep bool
	// held is the answer until its txid is durable. Only the actor goroutine.
	held answer
	// answer has capacity 1 and gets exactly one answer from whoever took the
	// call out of the mailbox, so that the actor never waits.
	answer chan answer
}

type answer struct {
	result any
	err    error
}

// errOver answers the calls that wait when a term ends; wait replaces it with what over returns.
var errOver = errors.New("the term is over")

func newCall(ctx context.Context, request actor.Request) *call {
	return &call{ctx: ctx, command: actor.Command{Request: request, Near: hostOf(ctx)}, answer: make(chan answer, 1)}
}

// ownCall is a call of the shell itself: no caller can abandon it.
func ownCall(request actor.Request) *call {
	return &call{command: actor.Command{Request: request}, answer: make(chan answer, 1)}
}

// abandoned is the error of a caller that has gone; nil while it waits.
func (c *call) abandoned() error {
	if c.ctx == nil {
		return nil
	}
	return c.ctx.Err()
}

// tryDo puts a client's call into the mailbox and waits for the answer. Errors: fault.Busy when the mailbox is
// full, fault.NotActive when the term ended meanwhile, and the context's.
func (t *term) tryDo(c *call, op string) answer {
	select {
	case t.mailbox <- c:
	default:
		t.stats.busy.Add(1)
		return answer{err: fault.New(fault.Busy, op, "%d commands wait for this namenode already", cap(t.mailbox))}
	}
	return t.wait(c, op)
}

// do is tryDo for a datanode's call: it waits for a place in the mailbox, so a
// busy namenode slows its datanodes' streams down.
func (t *term) do(call *call, op string) answer {
	var ended <-chan struct{}
	if call.ctx != nil {
		ended = call.ctx.Done()
	}
	select {
	case t.mailbox <- call:
	case <-ended:
		return answer{err: call.ctx.Err()}
	case <-t.ended:
		return answer{err: t.over(op)}
	}
	return t.wait(call, op)
}

// wait receives the answer of a call that is in the mailbox. It does not look at
// t.ended while it waits: hundreds of callers would queue for that one
// channel's lock. The end of the term answers every call in the mailbox instead.
func (t *term) wait(call *call, op string) answer {
	select {
	case <-t.ended: // after the loop emptied the mailbox, perhaps
		t.empty()
	default:
	}
	var result answer
	if call.ctx == nil {
		result = <-call.answer
	} else {
		select {
		case result = <-call.answer:
		case <-call.ctx.Done():
			return answer{err: call.ctx.Err()}
		}
	}
	if result.err == errOver { //nolint:errorlint // a mark, never wrapped
		result.err = t.over(op)
	}
	return result
}

// empty answers the calls that nobody will step any more. t.ended is closed.
func (t *term) empty() {
	for {
		select {
		case c := <-t.mailbox:
			c.answer <- answer{err: errOver}
		default:
			return
		}
	}
}

// over is the error of calls that were waiting when the term ended. Whether a mutation reached the log is not
// known; its retry, with the same sequence, finds out.
func (t *term) over(op string) error {
	return &fault.Error{Kind: fault.NotActive, Op: op, Reason: "this namenode stopped serving", Err: t.reason,
		Hint: "the same request can be sent again"}
}
