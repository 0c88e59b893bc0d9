package logserver

import (
	"errors"
	"os"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/internal/fault"
)

// diskFault makes an I/O error a fault: NoSpace for a full disk, Disk for the
// rest. A fault stays as it is.
func diskFault(op string, err error) error {
	var e *fault.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	kind := fault.Disk
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = fault.NoSpace
	}
	f := &fault.Error{Kind: kind, Op: op, Err: err}
	var path *os.PathError
	if errors.As(err, &path) {
		f.Path, f.Reason = path.Path, path.Op
		f.Err = path.Err
	}
	return f
}

// raftFault makes an error of raft a fault.
func raftFault(op string, err error) error {
	var e *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return &fault.Error{Kind: fault.NotActive, Op: op, Reason: "this log server does not lead", Hint: "ask the others"}
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return &fault.Error{Kind: fault.Busy, Op: op, Reason: "raft's queue is full"}
	case errors.Is(err, raft.ErrRaftShutdown):
		return &fault.Error{Kind: fault.Closed, Op: op, Reason: "the log server is stopping"}
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return &fault.Error{Kind: fault.Unavailable, Op: op, Reason: "this log server lost the lead; nobody knows whether the entry will count"}
	}
	return &fault.Error{Kind: fault.Unavailable, Op: op, Err: err}
}
