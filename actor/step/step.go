// Package step holds what the rooms of the state machine share while one command
// runs: its time and chance, and the messages and events that leave when it is over.
//
// The state machine owns the Context and fills it before each step; the rooms read it and add messages and events.
// Nothing here decides anything, and no goroutine runs here.
package step

import (
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
)

// Context is the running command as every room sees it.
type Context struct {
	// Now is the wall clock in Unix ms, Mono the time since the shell started; neither goes back.
	Now  int64
	Mono time.Duration
	// Near is the machine that the command came from, as the host part of a datanode's address; "": none.
	Near   string
	Random Random // drawn from in the order of execution
	Txid   uint64 // of the last record applied
	// Active reports whether this state machine serves, ActiveSince (as Mono) since when. A standby orders nothing.
	Active      bool
	ActiveSince time.Duration
	// Work is how much this step has done that grows with the cluster, in units of about 50 ns. Loops that may do much
	// stop when it has grown too far, and go on in a later step.
	Work int
	// Messages and Events of this step.
	Messages []Message
	Events   []Event
}

// Send queues a message to a node; it leaves when all that is known now is durable.
func (c *Context) Send(nodeID string, body any) {
	c.Messages = append(c.Messages, Message{NodeID: nodeID, AfterTxid: c.Txid, Body: body})
}

// Emit queues an event.
func (c *Context) Emit(e Event) { c.Events = append(c.Events, e) }

// Message goes to a datanode once every txid up to AfterTxid is durable. The shell stamps epoch and txid on it; if the
// node's stream is gone the message is dropped, the state machine sends again what still matters.
type Message struct {
	NodeID    string
	AfterTxid uint64
	Body      any // a pointer to one of the orders of package datanode
}

// EventKind names what an Event reports.
type EventKind uint8

// Event kinds.
const (
	EventNodeRegistered EventKind = iota + 1
	EventNodeStale
	EventNodeDead
	EventSafeModeEntered
	EventSafeModeLeft
	EventLeaseExpired
	EventRecoveryStarted
	EventRecoveryDone
	EventRecoveryFailed // an attempt
	EventCopyOrdered
	EventDeleteOrdered
	EventReplicaSuspected
	EventReplicaCleared
	EventReplicaBad
	EventReportDone
	EventNodeSlow
	EventNodeNotSlow
)

// Event reports a change to an operator. Zero fields do not apply.
type Event struct {
	Kind   EventKind
	NodeID string
	Chunk  chunk.ID
	FileID uint64
	Count  int
	Text   string
}
