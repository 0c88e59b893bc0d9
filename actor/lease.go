package actor

import (
	"fmt"
	"strings"
	"time"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

func renewLeases(s *State, r *RenewLeases) (any, *fault.Error) {
	if !s.step.Active {
		return nil, notActive("renew leases")
	}
	files := s.leases.HeldBy(r.Client)
	if files != nil {
		s.leases.Renew(r.Client, s.step.Mono)
		s.effects.Reply.AfterTxid = s.step.Txid
	}
	return &RenewLeasesResult{FileIDs: files, Growable: s.growable(files)}, nil
}

// growable lists the open chunks at the ends of files whose pipelines can grow, a bounded number of them. Of many files
// it looks at some, from a random one on: a writer asks often.
func (s *State) growable(files []uint64) (growable []GrowableChunk) {
	if s.replicas.SafeMode.On() {
		return nil
	}
	start := 0
	if len(files) > 0 {
		start = s.step.Random.Below(len(files))
	}
	for i := range min(len(files), growableExamined) {
		file := files[(start+i)%len(files)]
		if s.step.Work > growableWork {
			break
		}
		for _, slot := range s.files.OpenAtEnd(s.tree.Find(file)) {
			if len(growable) < growablePerRenewal && s.replicas.OpenChunks.Growable(slot) {
				growable = append(growable, GrowableChunk{FileID: file, Chunk: s.files.Chunk(slot).ID()})
			}
		}
	}
	return growable
}

// endLeases ends leases past the hard limit: hidden files are abandoned, the others recovered.
func (s *State) endLeases() {
	for _, file := range s.leases.Expired(s.config.LeaseHardLimit, s.step.Mono, leasesPerTick) {
		slot := s.tree.Find(file)
		s.step.Emit(step.Event{Kind: step.EventLeaseExpired, FileID: file, Text: s.leases.Of(file).HolderName()})
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

// holderGone reports whether the holder is a datanode that appends for others and appends no more: it was away for
// a while, or by, who asks, is the same datanode after a restart. Then its lease ends at once.
func (s *State) holderGone(o *leases.Lease, by string) bool {
	id, ok := appenderNode(o.Holder)
	if !ok {
		return false
	}
	if again, ok := appenderNode(by); ok && again == id {
		return true
	}
	silent, away := s.replicas.Nodes.Away(id)
	return away && silent >= s.config.StaleAfter
}

func (s *State) leaseHeld(at where, lease *leases.Lease) *fault.Error {
	refusal := &fault.Error{Kind: fault.LeaseHeld, Op: at.op, Path: at.path, Holder: lease.HolderName(),
		Since: time.UnixMilli(lease.Since)}
	if lease.Recovering() {
		refusal.Reason = "the file is being recovered (" + lease.Holder + ")"
		refusal.Hint = "try again in a moment"
		return refusal
	}
	refusal.Reason = "another client writes the file"
	if lease.Client == s.command.Client {
		refusal.Reason = "this client has the file open already"
	}
	refusal.Hint = fmt.Sprintf("its lease was renewed %v ago; it can be taken over %v after its last renewal",
		s.leases.Idle(lease.Client, s.step.Mono).Round(time.Second), s.config.LeaseSoftLimit)
	return refusal
}

// checkTakeOver checks that another client may end a lease: the holder is past its
// soft limit, or gone, or it is the namenode already. by is the other's name.
func (s *State) checkTakeOver(at where, lease *leases.Lease, by string) *fault.Error {
	if lease.Recovering() || lease.Client == s.command.Client ||
		s.leases.Idle(lease.Client, s.step.Mono) >= s.config.LeaseSoftLimit || s.holderGone(lease, by) {
		return nil
	}
	return s.leaseHeld(at, lease)
}

// takeOver begins the recovery of an open file, and reports whether the file is closed now. prefix begins the
// record: the client's, so that its retry gets the same answer, or the namenode's own if more records follow.
func (s *State) takeOver(slot namespace.InodeSlot, prefix codec.Prefix) (closed bool, err *fault.Error) {
	id := s.tree.Inode(slot).ID()
	if !s.leases.Of(id).Recovering() {
		if _, err := s.log(&codec.RecoverLeaseRecord{Prefix: prefix, File: id}); err != nil {
			return false, err
		}
	}
	s.recoverFile(slot)
	return s.leases.Of(id) == nil, nil
}

func recoverLease(state *State, r *RecoverLease) (any, *fault.Error) {
	at := where{"recover lease", r.Path}
	slot, err := state.findFile(at)
	if err != nil {
		return nil, err
	}
	id := state.tree.Inode(slot).ID()
	if state.leases.Of(id) == nil {
		return &RecoverLeaseResult{Closed: true}, nil
	}
	closed, err := state.takeOver(slot, state.prefix())
	if err != nil {
		return nil, err
	}
	if open := state.files.FirstOpen(slot); !closed && open != 0 && !state.leases.Recovery(id).UnderWay() &&
		!state.replicas.OpenChunks.Recoverable(open) {
		return nil, at.refuseChunk(fault.Unavailable, state.files.Chunk(open).ID(),
			"start the nodes that hold it, then try again", "%s", state.recoveryReason(slot))
	}
	return &RecoverLeaseResult{Closed: closed}, nil
}

func (s *State) recoveryReason(slot namespace.InodeSlot) string {
	open := s.files.FirstOpen(slot)
	if open == 0 {
		return "its last chunk is copied to more nodes, then the file is closed"
	}
	return s.replicas.OpenChunks.Waiting(open)
}

// continueRecoveries goes on with the files whose lease the namenode has.
func (s *State) continueRecoveries() {
	s.leases.PrimariesLost(s.replicas.Nodes.Silent, s.step.Mono)
	for _, id := range s.leases.DueRecoveries(s.step.Mono, leasesPerTick) {
		s.recoverFile(s.tree.Find(id))
	}
}

// recoverFile starts the next attempt on a file in recovery, if none is under way and what it needs is known.
func (s *State) recoverFile(slot namespace.InodeSlot) {
	id := s.tree.Inode(slot).ID()
	recovery := s.leases.Recovery(id)
	if recovery == nil || !recovery.Due(s.step.Mono) {
		return
	}
	open := s.files.FirstOpen(slot)
	if open == 0 {
		if !s.settled(slot, recovery.Settling(s.step.Mono) < s.config.RecoverWait) {
			recovery.Stop(s.step.Mono + s.config.TickInterval)
			return
		}
		_, _ = s.log(&codec.RecoverLeaseRecord{Prefix: s.ownPrefix(), File: id})
		return
	}
	recovery.Stop(0)
	attempt, holders, ok := s.replicas.OpenChunks.PlanRecovery(open, recovery.Started())
	if !ok {
		return
	}
	c := *s.files.Chunk(open)
	if _, err := s.log(&codec.RecoverLeaseRecord{Prefix: s.ownPrefix(), File: id, Attempt: true, Index: c.Index(),
		Generation: attempt.Generation}); err != nil {
		return
	}
	recovery.Start(attempt, s.step.Mono+s.config.RecoverTimeout)
	primary := s.replicas.OpenChunks.OrderRecovery(attempt, holders)
	s.step.Emit(step.Event{Kind: step.EventRecoveryStarted, NodeID: primary, Chunk: c.ID(), FileID: id,
		Count: len(holders)})
}

// settled reports whether the chunks that a recovery may have sealed are on enough nodes: only then is the file closed,
// which acknowledges them. If not, it has them copied.
func (s *State) settled(file namespace.InodeSlot, patient bool) bool {
	settled := true
	chunks := s.tree.Inode(file).Chunks()
	for index := chunks - min(chunks, recoveredAtEnd); index < chunks; index++ {
		slot := s.files.At(file, index)
		settled = (s.files.Chunk(slot).Open() || s.replicas.Settled(slot, patient)) && settled
	}
	return settled
}

func recoverResult(state *State, result *RecoverResult) *fault.Error {
	const op = "recover result"
	if _, err := state.replicas.Nodes.Heard(op, session(result.NodeID, result.Session)); err != nil {
		return err
	}
	if !state.step.Active {
		return nil
	}
	slot := state.files.Find(result.Chunk)
	if slot == 0 || !state.files.Chunk(slot).Open() {
		return nil // removed or recovered meanwhile
	}
	file := state.files.Chunk(slot).File()
	id := state.tree.Inode(file).ID()
	recovery := state.leases.Recovery(id)
	if recovery == nil || recovery.Attempt().Chunk != slot || recovery.Attempt().Generation != result.Generation {
		return nil // an attempt that was replaced
	}
	open := state.files.OpenChunk(slot)
	problem := result.Error
	inode := state.tree.Inode(file)
	finished := state.replicas.Nodes.Known(result.NodeIDs)
	switch {
	case problem != "":
	case len(result.NodeIDs) == 0 && (result.Length > 0 || !recovery.Attempt().Everyone) ||
		len(result.NodeIDs) > limits.NodesPerCallMax:
		problem = fmt.Sprintf("%d nodes hold the recovered chunk", len(result.NodeIDs))
	case result.Length < open.Base || open.Cut >= 0 && result.Length != open.Cut ||
		result.Length > inode.ChunkSize():
		problem = fmt.Sprintf("recovered length %d, known %d, wanted %d", result.Length, open.Base, open.Cut)
	case result.Length > 0 && len(finished) < state.replicas.CopiesLeast(inode.Replication()) &&
		recovery.Started() < recoveryAttemptsForCopies && state.replicas.OpenChunks.Missed(slot, finished):
		// What the others hold would be stale from here on, and what is acknowledged on too few.
		problem = fmt.Sprintf("only %s finished it; holders that did not are asked again",
			state.replicas.Nodes.Describe(finished))
	}
	recovery.Stop(0)
	if problem != "" {
		// A later Tick tries another primary. This is no error of the message: one would cut the node's stream.
		recovery.Stop(state.step.Mono + time.Duration(min(recovery.Started(), 20))*state.config.TickInterval)
		state.step.Emit(step.Event{Kind: step.EventRecoveryFailed, NodeID: result.NodeID, Chunk: result.Chunk,
			FileID: id, Text: limits.Clip(problem, 1024)})
		return nil
	}
	index := state.files.Chunk(slot).Index()
	state.replicas.OpenChunks.Trust(slot, chunk.Replica{State: chunk.Sealed, Generation: result.Generation,
		Length: result.Length}, result.NodeIDs)
	record := codec.RecoveredRecord{Prefix: state.ownPrefix(), File: id, Index: index, Generation: result.Generation,
		Length: uint32(result.Length)}
	var logged codec.Record = &record
	if result.Length > 0 && len(finished) < inode.Replication() || !state.settled(file, true) {
		logged = (*codec.SettlingRecord)(&record)
	}
	if _, err := state.log(logged); err != nil {
		return err
	}
	state.step.Emit(step.Event{Kind: step.EventRecoveryDone, Chunk: result.Chunk, FileID: id,
		Count: int(result.Length)})
	if sealed := state.files.Find(result.Chunk); sealed != 0 && !state.files.Chunk(sealed).Open() {
		state.replicas.OpenChunks.Sealed(sealed, result.NodeIDs)
	}
	if state.leases.Of(id) != nil {
		state.recoverFile(state.tree.Find(id))
	}
	return nil
}
