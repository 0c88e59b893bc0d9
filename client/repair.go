package client

import (
	"context"
	"time"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
)

// RepairLimits bound the copies with which a cluster makes up for lost ones.
type RepairLimits struct {
	Streams     int    // copies under way; 0 in a change: as it is
	NodeStreams int    // of these to one datanode; 0 in a change: as it is
	Bandwidth   *int64 // bytes per second, over all; 0: no bound; nil in a change: as it is
}

// RepairStatus is how far that is, as the active namenode knows it since it became active.
type RepairStatus struct {
	Limits RepairLimits
	// Queue says how many chunks lack copies and have so many left, the most endangered first.
	Queue []RepairDanger
	// Leaving chunks have enough copies, but some on datanodes that leave; Away ones wait for datanodes in maintenance;
	// Missing ones have no good copy.
	Leaving, Away, Missing int64
	Running, Waiting       int64 // copies under way; chunks that wait for one
	Counting               bool  // chunks are being counted again
	Paused                 string
	Copies                 []RepairCopy // the first of those under way
	ArrivedChunks          int64
	ArrivedBytes           int64
	// ChunksPerSecond and BytesPerSecond are those of the last minute. Left is how long the rest takes at this rate; 0:
	// nothing is left, or that is not known.
	ChunksPerSecond, BytesPerSecond float64
	Left                            time.Duration
	// Examined chunks, the first that wait, are explained by Reasons.
	Examined int64
	Reasons  []RepairReason
}

// RepairDanger is how many chunks have so few copies left.
type RepairDanger struct{ Copies, Chunks int64 }

// RepairCopy is a copy under way, to a datanode.
type RepairCopy struct {
	Chunk                 chunk.ID
	Length                int64
	NodeID, Name, Address string
	Running               time.Duration
}

// RepairReason says for people why chunks wait, as Why does; Blocked: until somebody does something about it.
type RepairReason struct {
	Text    string
	Blocked bool
	Chunks  int64
	Example chunk.ID
}

// Repair tells how far the repair is, after it changed those limits that are set. They hold until the active namenode
// ends; its settings are the lasting form. Error: fault.Invalid for limits that make no sense.
func (c *Client) Repair(ctx context.Context, change RepairLimits) (RepairStatus, error) {
	answer, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "repair"}, controlpb.NamenodeClient.Repair,
		&controlpb.RepairRequest{Streams: uint32(change.Streams), NodeStreams: uint32(change.NodeStreams),
			Bandwidth: change.Bandwidth})
	if err != nil {
		return RepairStatus{}, err
	}
	bandwidth := answer.GetBandwidth()
	status := RepairStatus{Limits: RepairLimits{Streams: int(answer.GetStreams()),
		NodeStreams: int(answer.GetNodeStreams()), Bandwidth: &bandwidth},
		Leaving: int64(answer.GetLeaving()), Away: int64(answer.GetAway()), Missing: int64(answer.GetMissing()),
		Running: int64(answer.GetRunning()), Waiting: int64(answer.GetWaiting()), Counting: answer.GetCounting(),
		Paused: answer.GetPaused(), ArrivedChunks: int64(answer.GetArrivedChunks()),
		ArrivedBytes: int64(answer.GetArrivedBytes()), ChunksPerSecond: answer.GetChunksPerSecond(),
		BytesPerSecond: answer.GetBytesPerSecond(), Left: milliseconds(answer.GetLeftMs()),
		Examined: int64(answer.GetExamined())}
	for _, d := range answer.GetQueue() {
		status.Queue = append(status.Queue, RepairDanger{int64(d.GetReplicas()), int64(d.GetChunks())})
	}
	for _, order := range answer.GetCopies() {
		running := RepairCopy{Length: order.GetLength(), NodeID: order.GetNodeId(), Name: order.GetName(),
			Address: order.GetAddress(), Running: milliseconds(order.GetRunningMs())}
		copy(running.Chunk[:], order.GetChunkId())
		status.Copies = append(status.Copies, running)
	}
	for _, r := range answer.GetReasons() {
		reason := RepairReason{Text: r.GetText(), Blocked: r.GetBlocked(), Chunks: int64(r.GetChunks())}
		copy(reason.Example[:], r.GetExampleChunkId())
		status.Reasons = append(status.Reasons, reason)
	}
	return status, nil
}
