// Package datanode holds what a datanode and the rest of the system say about each other: who the datanode is, its
// volumes and load, the orders that a namenode gives it, and their results. The state machine, the agent, the data
// plane and the chunk store share these types; only the protobuf messages are a second shape. They are apart from
// package chunk because the identities there are for clients too, which know nothing of orders. It owns no state,
// runs no goroutine and does no I/O.
//
// A new order is a type in order.go and a message of the same name in controlpb;
// package control/namenode sends it (session.go), control/agent receives it.
package datanode

import "github.com/whispering-woods/ww/internal/lateness"

// Identity is what a datanode must never forget.
type Identity struct {
	NodeID    string
	ClusterID string // "" until the node has joined a cluster
	// HighestEpoch and HighestTxid are the highest that any namenode has shown it.
	HighestEpoch uint64
	HighestTxid  uint64
}

// Load is what a datanode is busy with at one moment.
type Load struct {
	ActiveWrites       uint32
	ActiveReads        uint32
	QueuedDiskOps      uint32 // write jobs that the disks have not finished
	GrantedWindowBytes int64
	System             SystemLoad
	Links              []Link // to the nodes that it sends to, by id; at most LinksMax
}

// LinksMax bounds the links that a datanode tells of: of more neighbours it measures so many.
const LinksMax = 32

// Link is how late the acknowledgements of a neighbour came since the start of the datanode that tells it. What that
// one's disk and the hops behind it took is not in it.
type Link struct {
	NodeID string
	Acks   lateness.Sample
}

// SystemLoad is what the machine of a datanode was busy with lately. 0 may also mean that the machine does not tell.
type SystemLoad struct {
	CPUPermille     int64 // of all its processors
	StalledPermille int64 // share of the time in which some process waited for a disk (Linux: io pressure)
	// Over all networks but loopback.
	ReceivedBytesPerSecond, SentBytesPerSecond int64
}

// PressurePermille is how busy the busiest part of the machine is, 0..1000. A disk counts by how long others wait for
// it: one that always has work may do it at once.
func (s SystemLoad) PressurePermille() int64 {
	return min(max(s.CPUPermille, s.StalledPermille, 0), 1000)
}

// NodeState is how a namenode sees a datanode.
type NodeState uint8

// States of a datanode.
const (
	NodeUnknown  NodeState = iota // of a namenode that does not say
	NodeLive                      // heard of
	NodeFlapping                  // live, but it registers again and again
	NodeStale                     // its stream broke, or it is silent: nothing new is placed on it, it is read last
	NodeDead                      // silent for longer, or without any disk: its replicas do not count
	NodeSlow                      // live, but far later than its peers: it is placed on, read and asked to lead last
)

// Duty is what an operator wants of a datanode.
type Duty uint8

// Duties of a datanode. Nothing new is placed on one that does not serve.
const (
	DutyServe        Duty = iota
	DutyDecommission      // it goes: its replicas do not count, they are copied to others
	DutyMaintenance       // it may be away for a time: its replicas count meanwhile
	DutyForgotten         // it will never be back: nothing is shown of it, and nothing waits for it, until it registers
)

// Index is the number by which the records of a namenode name a datanode; 0 means none.
type Index uint16
