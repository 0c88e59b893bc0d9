package actor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

func (s *State) renewLeases(r *RenewLeases) (any, *fault.Error) {
	if !s.step.Active {
		return nil, s.notActive("renew leases")
	}
	files := s.leases.HeldBy(r.Client)
	if files != nil {
		s.leases.Renew(r.Client, s.step.Mono)
		s.effects.Reply.AfterTxid = s.step.Txid
	}
	return &RenewLeasesResult{FileIDs: files}, nil
}

// endLeases ends leases past the hard limit: hidden files are abandoned, the
// others recovered.
func (s *State) endLeases() {
	for _, file := range s.leases.Expired(s.config.LeaseHardLimit, s.step.Mono, leasesPerTick) {
		slot := s.tree.Find(file)
		s.step.Tell(step.Event{Kind: step.EventLeaseExpired, FileID: file, Text: s.leases.Of(file).HolderName()})
		if s.tree.Inode(slot).Hidden() {
			_, _ = s.log(&codec.AbandonRecord{Prefix: s.ownPrefix(), File: file})
			continue
		}
		_, _ = s.log(&codec.RecoverLeaseRecord{Prefix: s.ownPrefix(), File: file})
		s.recoverFile(slot)
	}
}

// appenderPrefix begins the name of a client that is a datanode which appends
// for others: "appender:<node id>@<address>".
const appenderPrefix = "appender:"

// appenderNode is the node id in such a name.
func appenderNode(holder string) (string, bool) {
	name, ok := strings.CutPrefix(holder, appenderPrefix)
	id, _, _ := strings.Cut(name, "@")
	return id, ok && id != ""
}

// holderGone tells whether the holder is a datanode that appends for others and
// appends no more: it was away for a while, or by, who asks, is the same
// datanode after a restart. Then its lease ends at once.
func (s *State) holderGone(o *leases.Lease, by string) bool {
	id, ok := appenderNode(o.Holder)
	if !ok {
		return false
	}
	if again, ok := appenderNode(by); ok && again == id {
		return true
	}
	n := s.nodeIndex[id]
	if n == 0 || s.nodes[n].liveness == nodeLive {
		return false
	}
	// A namenode that just took over gives the nodes time to register.
	return s.step.Mono-max(s.nodes[n].heard, s.step.ActiveSince) >= s.config.StaleAfter
}

// takeOver begins the recovery of an open file for another client, if the
// holder is past its soft limit or the other insists (force), and tells whether
// the file is closed now.
// prefix begins the record: the client's, so that its retry gets the
// same answer, or the namenode's own if more records follow. by is the name of
// the other client; empty if it is not told.
func (s *State) takeOver(op, path string, slot namespace.InodeSlot, prefix codec.Prefix, by string, force bool) (bool, *fault.Error) {
	id := s.tree.Inode(slot).ID()
	o := s.leases.Of(id)
	if !o.Recovering() {
		idle := s.leases.Idle(o.Client, s.step.Mono)
		if !force && o.Client != s.command.Client && idle < s.config.LeaseSoftLimit && !s.holderGone(o, by) {
			return false, s.leaseHeld(op, path, o)
		}
		if _, err := s.log(&codec.RecoverLeaseRecord{Prefix: prefix, File: id}); err != nil {
			return false, err
		}
	}
	s.recoverFile(slot)
	return s.leases.Of(id) == nil, nil
}

func (s *State) recoverLease(r *RecoverLease) (any, *fault.Error) {
	const op = "recover lease"
	slot, err := s.findFile(op, r.Path)
	if err != nil {
		return nil, err
	}
	id := s.tree.Inode(slot).ID()
	if s.leases.Of(id) == nil {
		return &RecoverLeaseResult{Closed: true}, nil
	}
	closed, err := s.takeOver(op, r.Path, slot, s.prefix(), "", true)
	if err != nil {
		return nil, err
	}
	if !closed && !s.leases.Recovery(id).UnderWay() {
		k := s.files.FirstOpen(slot)
		if here, _ := s.reportedHolders(k); len(here) == 0 {
			return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Path: r.Path, Chunk: s.files.Chunk(k).ID().String(),
				Reason: s.recoveryReason(slot), Hint: "start the nodes that hold it, then try again"}
		}
	}
	return &RecoverLeaseResult{Closed: closed}, nil
}

// recoveryReason says what a recovery waits for.
func (s *State) recoveryReason(slot namespace.InodeSlot) string {
	k := s.files.FirstOpen(slot)
	if k == 0 {
		return "the file is about to be closed"
	}
	c := s.files.Chunk(k)
	here, away := s.reportedHolders(k)
	switch {
	case len(here) > 0:
		return fmt.Sprintf("chunk %d is brought to one length on %s", c.Index(), joinSome(s.describeNodes(here)))
	case len(away) > 0:
		return fmt.Sprintf("all holders of chunk %d are away: %s", c.Index(), joinSome(s.describeNodes(away)))
	}
	members := s.files.OpenChunk(k).Members
	if len(members) == 0 {
		return fmt.Sprintf("no datanode has reported a replica of chunk %d", c.Index())
	}
	return fmt.Sprintf("no datanode has reported a replica of chunk %d; it was written on %s", c.Index(), joinSome(s.describeNodes(members)))
}

// continueRecoveries goes on with the files whose lease the namenode took.
func (s *State) continueRecoveries() {
	for _, id := range s.leases.DueRecoveries(s.step.Mono, leasesPerTick) {
		s.recoverFile(s.tree.Find(id))
	}
}

// recoverFile starts the next attempt on a file in recovery, if none is under
// way and what it needs is known.
func (s *State) recoverFile(slot namespace.InodeSlot) {
	id := s.tree.Inode(slot).ID()
	r := s.leases.Recovery(id)
	if r == nil || !r.Due(s.step.Mono) {
		return
	}
	k := s.files.FirstOpen(slot)
	if k == 0 {
		_, _ = s.log(&codec.RecoverLeaseRecord{Prefix: s.ownPrefix(), File: id})
		return
	}
	r.Stop(0)
	c, w := *s.files.Chunk(k), s.files.OpenChunk(k)
	holders, away := s.reportedHolders(k)
	everyone := len(holders) == 0 && w.Base == 0 && s.nobodyReported(k)
	switch {
	case everyone:
		// Perhaps nothing was ever written. But what the members have reported may
		// be older than what a writer was told: only they know.
		holders, away = slices.Clone(w.Members), nil
	case len(holders) == 0 || s.step.Mono-s.step.ActiveSince < s.config.RecoverWait && s.membersOut(k):
		return
	}
	slices.Sort(holders)
	primary := s.nodes[holders[r.Started()%len(holders)]]
	for _, n := range away {
		if s.nodes[n].liveness == nodeStale {
			holders = append(holders, n)
		}
	}
	generation := c.Promised() + 1
	if _, err := s.log(&codec.RecoverLeaseRecord{Prefix: s.ownPrefix(), File: id, Attempt: true, Index: c.Index(), Generation: uint64(generation)}); err != nil {
		return
	}
	r.Start(leases.Attempt{Chunk: k, Generation: generation, Primary: primary.index, Everyone: everyone}, s.step.Mono+s.config.RecoverTimeout)
	s.step.Send(primary.id, &datanode.RecoverChunk{Chunk: c.ID(), Generation: generation, MinimumGeneration: w.Minimum,
		Replicas: s.replicasOf(holders), Length: w.Cut})
	s.step.Tell(step.Event{Kind: step.EventRecoveryStarted, NodeID: primary.id, Chunk: c.ID(), FileID: id, Count: len(holders)})
}

// membersOut tells whether a member of the pipeline has not yet said whether it
// holds the chunk.
func (s *State) membersOut(slot namespace.ChunkSlot) bool {
	id := s.files.Chunk(slot).ID()
	return slices.ContainsFunc(s.files.OpenChunk(slot).Members, func(n uint16) bool {
		return !s.nodes[n].reported && s.findOdd(id, n) == nil
	})
}

// nobodyReported tells whether every member is live, has reported in full, and
// has reported no replica at all.
func (s *State) nobodyReported(slot namespace.ChunkSlot) bool {
	id := s.files.Chunk(slot).ID()
	members := s.files.OpenChunk(slot).Members
	if len(members) == 0 || len(s.odd[id]) > 0 {
		return false
	}
	return !slices.ContainsFunc(members, func(n uint16) bool {
		return s.nodes[n].liveness != nodeLive || !s.nodes[n].reported
	})
}

func (s *State) recoverResult(r *RecoverResult) *fault.Error {
	const op = "recover result"
	n, err := s.session(op, r.NodeID, r.Session)
	if err != nil {
		return err
	}
	s.heardOf(n)
	if !s.step.Active {
		return nil
	}
	k := s.files.Find(r.Chunk)
	if k == 0 || !s.files.Chunk(k).Open() {
		return nil // removed or recovered meanwhile
	}
	file := s.files.Chunk(k).File()
	id := s.tree.Inode(file).ID()
	recovery := s.leases.Recovery(id)
	if recovery == nil || recovery.Attempt().Chunk != k || recovery.Attempt().Generation != r.Generation {
		return nil // an attempt that was given up
	}
	w := s.files.OpenChunk(k)
	problem := r.Error
	switch {
	case problem != "":
	case len(r.NodeIDs) == 0 && (r.Length > 0 || !recovery.Attempt().Everyone) || len(r.NodeIDs) > nodesPerCallMax:
		problem = fmt.Sprintf("%d nodes hold the recovered chunk", len(r.NodeIDs))
	case r.Length < w.Base || w.Cut >= 0 && r.Length != w.Cut || r.Length > s.tree.Inode(file).ChunkSize():
		problem = fmt.Sprintf("recovered length %d, known %d, wanted %d", r.Length, w.Base, w.Cut)
	}
	recovery.Stop(0)
	if problem != "" {
		// A later Tick tries another primary.
		recovery.Stop(s.step.Mono + time.Duration(min(recovery.Started(), 20))*s.config.TickInterval)
		e := fault.New(fault.Unavailable, op, "recovery failed: %s", clip(problem, 1024))
		e.Chunk, e.Node = r.Chunk.String(), n.id
		return e
	}
	index := s.files.Chunk(k).Index()
	s.trustReplicas(k, oddReplica{state: chunk.Sealed, generation: r.Generation, length: r.Length}, r.NodeIDs)
	if _, err := s.log(&codec.RecoveredRecord{Prefix: s.ownPrefix(), File: id, Index: index,
		Generation: uint64(r.Generation), Length: uint32(r.Length)}); err != nil {
		return err
	}
	s.step.Tell(step.Event{Kind: step.EventRecoveryDone, Chunk: r.Chunk, FileID: id, Count: int(r.Length)})
	if again := s.files.Find(r.Chunk); again != 0 && !s.files.Chunk(again).Open() {
		s.locateSealed(again, r.NodeIDs)
	}
	if s.leases.Of(id) != nil {
		s.recoverFile(s.tree.Find(id))
	}
	return nil
}
