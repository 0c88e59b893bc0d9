// Package statemachine loads the namenode's state machine alone: no network, no log, no goroutine but the caller's.
// What it reaches bounds what a namenode can reach.
package statemachine

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// Machine is an active state machine out of safe mode, with datanodes that
// report nothing but what is committed. One goroutine at a time.
type Machine struct {
	state    *actor.State
	sequence uint64
	mono     time.Duration
	nodes    []string
	// records, if set, is called with each edit record. The bytes are valid during the call only.
	records func(txid uint64, record []byte)
}

// New makes a machine with a number of datanodes, under an epoch. records may be nil.
func New(nodes int, epoch uint64, records func(txid uint64, record []byte)) (*Machine, error) {
	s, err := actor.New(actor.Config{})
	if err != nil {
		return nil, err
	}
	machine := &Machine{state: s, records: records}
	for _, r := range []actor.Request{&actor.Format{ClusterID: "bench"}, &actor.BecomeActive{Epoch: epoch}} {
		if err := machine.own(r); err != nil {
			return nil, err
		}
	}
	for i := range nodes {
		id := fmt.Sprintf("node-%03d", i)
		machine.nodes = append(machine.nodes, id)
		if err := machine.register(id, uint64(i+1)); err != nil {
			return nil, err
		}
	}
	return machine, nil
}

// register makes a datanode known that has no replica yet.
func (m *Machine) register(id string, session uint64) error {
	volumes := []datanode.VolumeState{{ID: id, Healthy: true, CapacityBytes: 1 << 50, FreeBytes: 1 << 49}}
	if err := m.own(&actor.RegisterNode{Session: session, NodeID: id, Address: id + ":7720",
		Volumes: volumes}); err != nil {
		return err
	}
	return m.own(&actor.ReportPage{NodeID: id, Session: session, ReportID: 1, Last: true})
}

// own steps a command of the shell itself.
func (m *Machine) own(r actor.Request) error {
	_, err := m.step(actor.Command{Now: 1, Mono: m.mono, Request: r})
	return err
}

// change steps a mutation of one client.
func (m *Machine) change(r actor.Request) error {
	_, err := m.mutate(r)
	return err
}

// mutate is change with the result.
func (m *Machine) mutate(r actor.Request) (any, error) {
	m.sequence++
	c := actor.Command{Now: int64(m.sequence), Mono: m.mono, Client: actor.ClientID{1}, Sequence: m.sequence,
		OldestPending: m.sequence, Request: r}
	binary.LittleEndian.PutUint64(c.Random[:], m.sequence)
	return m.step(c)
}

func (m *Machine) step(c actor.Command) (any, error) {
	before := m.state.Txid()
	effects := m.state.Step(c)
	if m.records != nil {
		for i, r := range effects.Records {
			m.records(before+uint64(i)+1, r)
		}
	}
	if effects.Reply.Err != nil {
		return nil, effects.Reply.Err
	}
	return effects.Reply.Result, nil
}

// Txid is the last transaction.
func (m *Machine) Txid() uint64 { return m.state.Txid() }

// Mkdir makes a directory: one mutation.
func (m *Machine) Mkdir(path string) error { return m.change(&actor.Mkdir{Path: path}) }

// Store makes a file of one chunk of 4 KiB with three replicas and closes it: two mutations, Create and Complete.
func (m *Machine) Store(path string) error {
	result, err := m.mutate(&actor.Create{Path: path, ChunkCount: 1, VisibleOnComplete: true, ClientName: "bench:1"})
	if err != nil {
		return err
	}
	created, ok := result.(*actor.CreateResult)
	if !ok || len(created.Chunks) != 1 {
		return fault.New(fault.Internal, "store", "the state machine answered %T", result)
	}
	c := &created.Chunks[0]
	ids := make([]string, 0, len(c.Replicas))
	for _, r := range c.Replicas {
		ids = append(ids, r.NodeID)
	}
	return m.change(&actor.Complete{FileID: created.Info.FileID, Commits: []actor.ChunkCommit{
		{Chunk: c.Chunk, Generation: c.Generation, Length: 4096, NodeIDs: ids},
	}})
}

// Stat asks for a file.
func (m *Machine) Stat(path string) error { return m.own(&actor.Stat{Path: path}) }

// List asks for the first page of a directory.
func (m *Machine) List(path string) error { return m.own(&actor.List{Path: path, Limit: 1000}) }

// Rename moves a file.
func (m *Machine) Rename(source, target string) error {
	return m.change(&actor.Rename{Source: source, Target: target})
}

// Delete removes a file.
func (m *Machine) Delete(path string) error { return m.change(&actor.Remove{Path: path}) }

// settle lets everything end that waits for time, such as the watch over chunks
// that are just sealed. Datanodes stay alive.
func (m *Machine) settle() error {
	m.mono += time.Minute
	for i, id := range m.nodes {
		if err := m.own(&actor.Heartbeat{NodeID: id, Session: uint64(i + 1)}); err != nil {
			return err
		}
	}
	return m.own(&actor.Tick{})
}
