package namenode

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/internal/fault"
)

// tenure is the time under one epoch in which this namenode serves. Other
// goroutines reach the actor through its mailbox.
type tenure struct {
	epoch       uint64
	mailbox     chan *call
	checkpoints chan checkpointRequest
	// durable is the last txid known to be in the log for good; it only rises.
	durable atomic.Uint64
	stats   *counters
	ended   chan struct{} // closed when the tenure is over
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
	txid   uint64 // that the answer waited for
}

// errOver is the answer that the end of a tenure gives; callers get it as what
// over says.
var errOver = errors.New("the tenure is over")

func newCall(ctx context.Context, request actor.Request) *call {
	return &call{ctx: ctx, command: actor.Command{Request: request}, answer: make(chan answer, 1)}
}

// ownCall is a call of the shell itself: it has no caller that could leave.
func ownCall(request actor.Request) *call {
	return &call{command: actor.Command{Request: request}, answer: make(chan answer, 1)}
}

// left tells that the caller has gone.
func (c *call) left() error {
	if c.ctx == nil {
		return nil
	}
	return c.ctx.Err()
}

// ask hands a client's call to the actor and waits for the answer. Errors:
// fault.Busy when the mailbox is full, fault.NotActive when the tenure ended
// meanwhile, and the context's.
func (t *tenure) ask(c *call, op string) answer {
	select {
	case t.mailbox <- c:
	default:
		t.stats.busy.Add(1)
		return answer{err: fault.New(fault.Busy, op, "%d commands wait for this namenode already", cap(t.mailbox))}
	}
	return t.wait(c, op)
}

// tell hands a datanode's call to the actor; it waits for a place in the
// mailbox, so a busy namenode slows its datanodes' streams down.
func (t *tenure) tell(c *call, op string) answer {
	var ended <-chan struct{}
	if c.ctx != nil {
		ended = c.ctx.Done()
	}
	select {
	case t.mailbox <- c:
	case <-ended:
		return answer{err: c.ctx.Err()}
	case <-t.ended:
		return answer{err: t.over(op)}
	}
	return t.wait(c, op)
}

// wait takes the answer of a call that is in the mailbox. It does not look at
// t.ended while it waits: hundreds of callers would queue for that one
// channel's lock. The tenure's end answers all that it holds instead.
func (t *tenure) wait(c *call, op string) answer {
	select {
	case <-t.ended: // after the loop emptied the mailbox, perhaps
		t.empty()
	default:
	}
	var a answer
	if c.ctx == nil {
		a = <-c.answer
	} else {
		select {
		case a = <-c.answer:
		case <-c.ctx.Done():
			return answer{err: c.ctx.Err()}
		}
	}
	if a.err == errOver { //nolint:errorlint // a mark, never wrapped
		a.err = t.over(op)
	}
	return a
}

// empty answers the calls that nobody will step any more. t.ended is closed.
func (t *tenure) empty() {
	for {
		select {
		case c := <-t.mailbox:
			c.answer <- answer{err: errOver}
		default:
			return
		}
	}
}

// over is what calls get that the end of the tenure caught. Whether a mutation
// reached the log is not known; its retry, with the same sequence, will tell.
func (t *tenure) over(op string) error {
	return &fault.Error{Kind: fault.NotActive, Op: op, Reason: "this namenode stopped serving", Err: t.reason,
		Hint: "the same request can be sent again"}
}
