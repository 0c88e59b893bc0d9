package logserver

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/internal/fault"
)

// raftFault makes an error of raft a fault.
func raftFault(op string, err error) error {
	var e *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return &fault.Error{Kind: fault.NotActive, Op: op, Reason: "this log server is not the leader",
			Hint: "ask the other log servers"}
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return &fault.Error{Kind: fault.Busy, Op: op, Reason: "raft's queue is full"}
	case errors.Is(err, raft.ErrRaftShutdown):
		return &fault.Error{Kind: fault.Closed, Op: op, Reason: "the log server is stopping"}
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return &fault.Error{Kind: fault.Unavailable, Op: op,
			Reason: "this log server lost the lead; the entry may or may not be committed"}
	}
	return &fault.Error{Kind: fault.Unavailable, Op: op, Err: err}
}
