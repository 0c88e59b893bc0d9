package dataplane

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// Recover brings the replicas of an open chunk to one length under a new generation and seals them; this node leads. It
// has two rounds: begin fences the writers of every holder and asks what it has, finish cuts and seals. On return the
// listed nodes hold the same bytes durably; a holder that failed, or has less than what was agreed, is left out.
//
// Errors: fault.NotFound when holders have replicas, but none that counts; fault.Unavailable (retryable) when too
// few answered to be sure that nothing acknowledged is cut; fault.Closed when ctx ended or Close began before the
// second round. A retry needs a new generation.
func (s *Server) Recover(ctx context.Context, order datanode.RecoverChunk) (datanode.RecoverResult, error) {
	if order.Generation == 0 || len(order.Replicas) == 0 || len(order.Replicas) > wire.HopsMax {
		return datanode.RecoverResult{}, fault.New(fault.Invalid, "recover chunk", "generation %d, %d replicas",
			order.Generation, len(order.Replicas))
	}
	ctx, leave, err := s.enter(ctx, "recover chunk")
	if err != nil {
		return datanode.RecoverResult{}, err
	}
	defer leave()
	begin := wire.RecoverReplica{BodyVersion: wire.BodyVersion, Phase: wire.RecoverBegin, ChunkID: order.Chunk[:],
		Generation: uint64(order.Generation)}
	found := s.askAll(ctx, order.Replicas, begin)
	if nobodyHasIt(found) {
		return datanode.RecoverResult{}, nil
	}
	plan, err := planRecovery(order, found)
	if err == nil && ctx.Err() != nil { // nothing is cut when nobody waits for it
		err = &fault.Error{Kind: fault.Closed, Op: "recover chunk", Chunk: order.Chunk.String(),
			Reason: "given up after its first round", Err: ctx.Err()}
	}
	if err != nil {
		return datanode.RecoverResult{}, err
	}
	finish := begin
	finish.Phase, finish.Length = wire.RecoverFinish, plan.length
	result := datanode.RecoverResult{Length: plan.length}
	var failed error
	for _, a := range s.askAll(ctx, plan.members, finish) {
		if a.err != nil {
			failed = a.err
			s.logger.Warn("replica left out of recovery", "chunk", order.Chunk, "gen", order.Generation, "node",
				a.hop.NodeID, "err", a.err)
			continue
		}
		result.NodeIDs = append(result.NodeIDs, a.hop.NodeID)
	}
	if len(result.NodeIDs) == 0 {
		return datanode.RecoverResult{}, &fault.Error{Kind: fault.Unavailable, Op: "recover chunk",
			Chunk: order.Chunk.String(), Reason: "no replica could be finished", Err: failed}
	}
	return result, nil
}

// nobodyHasIt tells whether all answered, and none has a replica.
func nobodyHasIt(answers []recoverAnswer) bool {
	return !slices.ContainsFunc(answers, func(a recoverAnswer) bool { return fault.KindOf(a.err) != fault.NotFound })
}

// recoverAnswer is the answer of one holder.
type recoverAnswer struct {
	hop   wire.Hop
	reply wire.RecoverReply
	err   error
}

// askAll asks the hops at once and waits for all answers, in their order.
func (s *Server) askAll(ctx context.Context, hops []wire.Hop, q wire.RecoverReplica) []recoverAnswer {
	answers := make([]recoverAnswer, len(hops))
	var all sync.WaitGroup
	for i, hop := range hops {
		answers[i].hop = hop
		all.Go(func() { answers[i].reply, answers[i].err = s.ask(ctx, hop, q) })
	}
	all.Wait()
	return answers
}

// ask does one step on one node, on this one without the network.
func (s *Server) ask(ctx context.Context, hop wire.Hop, q wire.RecoverReplica) (wire.RecoverReply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.StepTimeout)
	defer cancel()
	var reply wire.RecoverReply
	var err error
	if hop.NodeID == s.node.ID {
		reply, err = s.askStore(ctx, q)
	} else {
		reply, err = s.askPeer(ctx, hop.Address, q)
	}
	if err == nil {
		err = reply.Status.Err("recover chunk", hop.Address)
	}
	if err != nil && fault.KindOf(err) == 0 {
		err = &fault.Error{Kind: fault.Unavailable, Op: "recover chunk", Node: hop.NodeID, Address: hop.Address,
			Err: err}
	}
	return reply, err
}

func (s *Server) askStore(ctx context.Context, q wire.RecoverReplica) (wire.RecoverReply, error) {
	id, err := chunk.IDFrom(q.ChunkID)
	if err != nil {
		return wire.RecoverReply{}, err
	}
	answer := make(chan *wire.RecoverReply, 1)
	if err := s.onWorker(id, func() { answer <- answerRecover(s.store, s.node.ID, id, &q) }); err != nil {
		return wire.RecoverReply{}, err
	}
	select {
	case reply := <-answer:
		return *reply, nil
	case <-ctx.Done():
		return wire.RecoverReply{}, ctx.Err()
	}
}

func (s *Server) askPeer(ctx context.Context, address string, q wire.RecoverReplica) (wire.RecoverReply, error) {
	var reply wire.RecoverReply
	err := s.peers.Converse(ctx, address, func(conn net.Conn, reader *wire.PacketReader) error {
		packet, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpRecover, Flags: wire.FlagAlive}, &q)
		if err != nil {
			return err
		}
		// Less than a SilenceTimeout: the others need not wait for a holder that is left out, and repaired. A deadline
		// that the end of ctx set is not pushed on.
		alive := func(wire.Alive) error {
			return cmp.Or(conn.SetReadDeadline(time.Now().Add(min(s.limits.SilenceTimeout/2, 3*wire.AliveEvery))),
				ctx.Err())
		}
		if err := alive(wire.Alive{}); err != nil {
			return err
		}
		if _, err := conn.Write(packet); err != nil {
			return err
		}
		_, err = reader.ExpectAlive(wire.OpRecovered, &reply, alive)
		return err
	})
	return reply, err
}

// recoveryPlan is what the second round does.
type recoveryPlan struct {
	length  int64
	members []wire.Hop
}

// planRecovery chooses the length, and the replicas that reach it.
//
// What is known: an acknowledged (flushed) byte was in the page cache of every member of its pipeline, a synced one
// on every member's disk. Replicas of one generation are prefixes of one stream of bytes. A restarted replica may
// have lost what was flushed and not synced (power loss), any other has all of it.
//
//  1. A sealed replica of the newest generation ends the question: its length
//     was final, and an acknowledged close sealed them all.
//  2. Among replicas that were not restarted, those of the newest generation
//     hold everything acknowledged. The shortest of them keeps the most
//     replicas, and nothing acknowledged lies beyond it.
//  3. Where all of the newest generation were restarted, the longest of all
//     counts: it has everything synced, and if any kept what was flushed, it does.
//     An older generation may have what the newer ones lost.
//
// Every replica that is long enough is kept, also one of an older generation: none below the minimum is asked for,
// and since then there was one stream of bytes, in which a writer repeats what was not acknowledged as it was.
//
// In case 3 a holder that did not answer might know more, so recovery waits for
// it: the namenode asks again, without the holders that are gone for good.
func planRecovery(order datanode.RecoverChunk, answers []recoverAnswer) (recoveryPlan, error) {
	fail := func(kind fault.Kind, err error, format string, args ...any) (recoveryPlan, error) {
		e := fault.New(kind, "recover chunk", format, args...)
		e.Chunk, e.Err = order.Chunk.String(), err
		return recoveryPlan{}, e
	}
	var usable []recoverAnswer
	var unreachable, refused error
	for _, answer := range answers {
		reply, err := answer.reply, answer.err
		switch {
		case err == nil:
			fresh := chunk.Generation(reply.Generation) >= order.MinimumGeneration
			if fresh && chunk.State(reply.State) != chunk.Corrupt {
				usable = append(usable, answer)
			}
		case fault.KindOf(err) == fault.NotFound:
		case fault.ClassOf(err) == fault.Retryable, fault.KindOf(err) == fault.Closed: // it comes back
			unreachable = err
		default:
			refused = err
		}
	}
	if len(usable) == 0 {
		switch {
		case unreachable != nil:
			return fail(fault.Unavailable, unreachable, "no holder answered with a replica")
		case refused != nil:
			return fail(fault.KindOf(refused), refused, "no holder has a usable replica")
		}
		return fail(fault.NotFound, nil, "none of %d holders has a replica of generation %d or later", len(answers),
			order.MinimumGeneration)
	}
	length, certain := chooseLength(usable)
	if !certain && unreachable != nil {
		return fail(fault.Unavailable, unreachable,
			"all %d replicas that answered were restarted; another holder may have more", len(usable))
	}
	if order.Length >= 0 { // a truncation, ordered by the namenode
		if order.Length > length {
			return fail(fault.CorruptData, nil, "it shall be cut to %d bytes but has %d", order.Length, length)
		}
		length = order.Length
	}
	plan := recoveryPlan{length: length}
	for _, a := range usable {
		if a.reply.Length >= length {
			plan.members = append(plan.members, a.hop)
		}
	}
	return plan, nil
}

// chooseLength applies the rules above to at least one answer. certain: no other
// replica could hold more that was acknowledged.
func chooseLength(usable []recoverAnswer) (length int64, certain bool) {
	byGeneration := func(a, b recoverAnswer) int { return cmp.Compare(a.reply.Generation, b.reply.Generation) }
	newest := slices.MaxFunc(usable, byGeneration).reply.Generation
	shortest, longest := int64(-1), int64(0)
	for _, a := range usable {
		longest = max(longest, a.reply.Length)
		if a.reply.Generation != newest {
			continue
		}
		if chunk.State(a.reply.State) == chunk.Sealed {
			return a.reply.Length, true
		}
		if !a.reply.Restarted && (shortest < 0 || a.reply.Length < shortest) {
			shortest = a.reply.Length
		}
	}
	if shortest >= 0 {
		return shortest, true
	}
	return longest, false
}
