package client

import (
	"context"
	"time"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
)

// BalanceAction is what Balance does.
type BalanceAction int

// Balance actions. To start a balance that runs with the same wish is no error.
const (
	BalanceGet   BalanceAction = 1
	BalanceStart BalanceAction = 2
	BalanceStop  BalanceAction = 3
	BalancePlan  BalanceAction = 4 // says what one would move, and moves nothing
)

// BalanceWish is what a balance is to reach.
type BalanceWish struct {
	Threshold float64 // percentage points between a datanode and the mean that are even enough, 0.1 to 100
	Bandwidth int64   // bytes per second that moves may begin with to, and from, each datanode
}

// BalanceStatus is how far a balance is: the one that runs, or the last one since the namenode became active.
type BalanceStatus struct {
	BalanceWish

	Running         bool
	For             time.Duration // since it began
	Paused          string        // why no move begins now; empty if nothing is in the way
	Ended           string        // why it ended; empty if it runs, or there was none
	Even            bool          // all datanodes are within the threshold of the mean
	Mean            float64       // percent
	LeftBytes       int64         // have to move at least
	MovedChunks     int64
	MovedBytes      int64
	FailedCopies    int64
	BytesPerSecond  float64    // in the last minute
	Nodes           []NodeFill // the fullest first
	MovesUnderWay   int
	Moves           []BalanceMove // the first of those under way, or of a plan
	MoreMovesFollow bool          // the plan is not all
}

// NodeFill is how full a datanode is: Bytes are those of its sealed copies.
type NodeFill struct {
	NodeID, Name, Address string
	Bytes, CapacityBytes  int64
	Percent               float64
}

// BalanceMove moves a copy of a chunk between datanodes, named for people.
type BalanceMove struct {
	Chunk          chunk.ID
	Length         int64
	Source, Target string
}

// Balance begins or stops a balance, says what one would move, or only how far it is. A balance runs in the namenode
// and ends with it; another one goes on from how full the datanodes are then. wish is needed to start and to plan.
// Errors: fault.Exists if a balance with another wish runs, fault.Invalid for a wish that makes no sense.
func (c *Client) Balance(ctx context.Context, action BalanceAction, wish BalanceWish) (BalanceStatus, error) {
	answer, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "balance"}, controlpb.NamenodeClient.Balance,
		&controlpb.BalanceRequest{Action: controlpb.BalanceAction(action), Threshold: wish.Threshold,
			Bandwidth: wish.Bandwidth})
	if err != nil {
		return BalanceStatus{}, err
	}
	status := BalanceStatus{BalanceWish: BalanceWish{Threshold: answer.GetThreshold(),
		Bandwidth: answer.GetBandwidth()}, Running: answer.GetRunning(), For: milliseconds(answer.GetRunningMs()),
		Paused: answer.GetPaused(), Ended: answer.GetEnded(), Even: answer.GetEven(), Mean: answer.GetMeanPercent(),
		LeftBytes: answer.GetLeftBytes(), MovedChunks: int64(answer.GetMovedChunks()),
		MovedBytes: int64(answer.GetMovedBytes()), FailedCopies: int64(answer.GetFailed()),
		BytesPerSecond: answer.GetBytesPerSecond(), MovesUnderWay: int(answer.GetMoving()),
		MoreMovesFollow: answer.GetMore()}
	for _, n := range answer.GetNodes() {
		status.Nodes = append(status.Nodes, NodeFill{NodeID: n.GetNodeId(), Name: n.GetName(), Address: n.GetAddress(),
			Bytes: n.GetBytes(), CapacityBytes: n.GetCapacityBytes(), Percent: n.GetPercent()})
	}
	for _, m := range answer.GetMoves() {
		move := BalanceMove{Length: m.GetLength(), Source: m.GetSource(), Target: m.GetTarget()}
		copy(move.Chunk[:], m.GetChunkId())
		status.Moves = append(status.Moves, move)
	}
	return status, nil
}
