package agent

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// workers carry out orders away from the streams, those about replicas side by side for each volume. Queues are
// bounded; who puts into a full one answers the namenode instead of waiting.
type workers struct {
	options Options
	// replicas: deletions and questions, in the order in which they came. An answer that overtook a deletion would
	// have a replica count that is about to go.
	replicas                *lanes[func(context.Context)]
	recover, copies, verify *lanes[orderTask]
	mu                      struct {
		sync.Mutex
		// running: orders queued or running, and who gets the answer. A namenode repeats an order that it has no
		// answer to, and one that has taken over gives it anew; the repeat is not carried out twice.
		running map[runningOrder]*asked
	}
}

// runningOrder tells the orders of one chunk apart by their lanes.
type runningOrder struct {
	lanes *lanes[orderTask]
	key   orderKey
}

// asked is an order that is being carried out.
type asked struct {
	order any
	by    []*link // each namenode once
}

// orderKey is the chunk and the generation that an order is about.
type orderKey struct {
	Chunk      chunk.ID
	Generation chunk.Generation
}

// keyFromProto reads the key of an order; not ok if either part is missing.
func keyFromProto(chunkID []byte, generation uint64) (key orderKey, ok bool) {
	id, err := chunk.IDFrom(chunkID)
	return orderKey{id, chunk.Generation(generation)}, err == nil && !id.IsZero() && generation > 0
}

type deleteOrder struct {
	from     *session
	epoch    uint64
	replicas []chunk.Replica
}

// orderTask is an order that is answered, on its way to a worker.
type orderTask struct {
	key   orderKey
	op    string // for the refusal
	order any    // one that equals it gets the same answer
	// run carries it out; nil: this datanode cannot do that. refuse is the answer without.
	run    func(context.Context) *controlpb.DatanodeMessage
	refuse func(error) *controlpb.DatanodeMessage
}

func startWorkers(ctx context.Context, group *sync.WaitGroup, o Options) *workers {
	all := &workers{options: o}
	all.mu.running = make(map[runningOrder]*asked)
	all.replicas = newLanes(ctx, group, 1, replicaOrdersMax,
		func(ctx context.Context, run func(context.Context)) { run(ctx) })
	for _, kind := range []struct {
		lanes        **lanes[orderTask]
		count, depth int
	}{{&all.recover, recoverWorkers, recoverQueueMax}, {&all.copies, copyWorkers, copyQueueMax},
		{&all.verify, 1, verifyQueueMax}} {
		var made *lanes[orderTask]
		made = newLanes(ctx, group, kind.count, kind.depth, func(ctx context.Context, task orderTask) {
			all.answer(runningOrder{made, task.key}, task.run(ctx))
		})
		*kind.lanes = made
	}
	return all
}

// claim notes that an order of a namenode is being carried out; false if it is already. Whoever gives the same order
// meanwhile is answered too. One that differs is not: it asked something else, and repeats it.
func (w *workers) claim(running runningOrder, order any, by *link) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.mu.running[running]
	if known == nil {
		w.mu.running[running] = &asked{order, []*link{by}}
		return true
	}
	if !slices.Contains(known.by, by) && reflect.DeepEqual(known.order, order) {
		known.by = append(known.by, by)
	}
	return false
}

// answer ends an order and tells whoever asked.
func (w *workers) answer(running runningOrder, m *controlpb.DatanodeMessage) {
	w.mu.Lock()
	ended := w.mu.running[running]
	delete(w.mu.running, running)
	w.mu.Unlock()
	for _, l := range ended.by {
		l.answer(m)
	}
}

// submit queues an order for a volume, unless the same one waits or runs already; what cannot be queued is refused at
// once.
func (l *link) submit(on *lanes[orderTask], volume string, task orderTask) {
	workers, running := l.agent.workers, runningOrder{on, task.key}
	if task.run == nil {
		l.answer(task.refuse(fault.New(fault.Version, task.op, "this datanode cannot do that")))
		return
	}
	if workers.claim(running, task.order, l) && !on.put(volume, task) {
		busy := fault.New(fault.Busy, task.op, "too many such orders wait on this datanode")
		workers.answer(running, task.refuse(busy))
	}
}

// onDelete queues a deletion.
func (r *receiver) onDelete(m *controlpb.DeleteReplicas) error {
	workers := r.agent.workers
	replicas, err := r.namesFromProto("a deletion", m.Replicas)
	for volume, some := range r.byVolume(replicas) {
		order := deleteOrder{from: r.session, epoch: r.epoch, replicas: some}
		r.orDropped(workers.replicas.put(volume, func(ctx context.Context) { workers.delete(ctx, order) }))
	}
	return err
}

// onTell queues a question behind the deletions that came before it.
func (r *receiver) onTell(m *controlpb.TellReplicas) error {
	workers := r.agent.workers
	replicas, err := r.namesFromProto("a question", m.Replicas)
	for volume, some := range r.byVolume(replicas) {
		if !workers.replicas.put(volume, func(context.Context) { workers.tell(some) }) {
			// A report would overtake the deletions that wait. Without an answer the replicas do not count.
			r.logger.Warn("question dropped: too many orders wait", keyCount, len(some))
		}
	}
	return err
}

// byVolume groups replicas by the volume that they are on; those that are not here have none.
func (r *receiver) byVolume(replicas []chunk.Replica) map[string][]chunk.Replica {
	groups := make(map[string][]chunk.Replica)
	for _, replica := range replicas {
		volume := r.agent.options.Store.VolumeOf(replica.ID)
		groups[volume] = append(groups[volume], replica)
	}
	return groups
}

// namesFromProto reads the chunks and generations of an order.
func (r *receiver) namesFromProto(order string, names []*controlpb.ReplicaReport) ([]chunk.Replica, error) {
	if len(names) > replicasPerOrderMax {
		return nil, r.protocol(order + " names too many replicas")
	}
	replicas := make([]chunk.Replica, 0, len(names))
	for _, name := range names {
		key, ok := keyFromProto(name.GetChunkId(), name.GetGeneration())
		if !ok {
			return nil, r.protocol(order + " names a bad chunk id or generation")
		}
		replicas = append(replicas, chunk.Replica{ID: key.Chunk, Generation: key.Generation})
	}
	return replicas, nil
}

// orDropped asks for a full report, which shows the namenode what is here, if an order was not queued.
func (r *receiver) orDropped(queued bool) {
	if !queued {
		r.logger.Warn("order dropped: too many wait")
		r.wantReport()
	}
}

// tell answers a question by changes, which go to every namenode.
func (w *workers) tell(replicas []chunk.Replica) {
	for _, r := range replicas {
		w.options.Store.Announce(r.ID, r.Generation)
	}
}

// delete carries out a deletion, replica by replica, as long as no namenode of
// a higher epoch has shown up since it was queued.
func (w *workers) delete(ctx context.Context, order deleteOrder) {
	deleted := 0
	for _, replica := range order.replicas {
		if ctx.Err() != nil {
			return
		}
		if highest := w.options.Store.Identity().HighestEpoch; order.epoch < highest {
			order.from.logger.Error("deletion order dropped: a higher epoch exists", keyEpoch, order.epoch, "highest",
				highest)
			return
		}
		switch err := w.options.Store.Delete(replica.ID, replica.Generation); {
		case err == nil:
			deleted++
			order.from.logger.Debug("replica deleted", keyChunk, replica.ID, keyGeneration, uint64(replica.Generation))
		case errors.Is(err, fault.NotFound):
			// Gone already: an order that was repeated.
		default:
			order.from.logger.Warn("replica not deleted", keyChunk, replica.ID, keyGeneration,
				uint64(replica.Generation), keyError, err)
		}
	}
	if deleted > 0 {
		order.from.logger.Info("replicas deleted as ordered", keyCount, deleted, keyEpoch, order.epoch)
	}
}

func (r *receiver) onRecover(m *controlpb.RecoverChunk) error {
	key, ok := keyFromProto(m.ChunkId, m.Generation)
	if !ok || m.Length < -1 {
		return r.protocol("a recovery names a bad chunk id, generation or length")
	}
	locations, err := locationsFromProto(m.Replicas)
	if err != nil {
		return r.protocol("a recovery " + err.Error())
	}
	order := datanode.RecoverChunk{Chunk: key.Chunk, Generation: key.Generation,
		MinimumGeneration: chunk.Generation(m.MinimumGeneration), Replicas: locations, Length: m.Length}
	task := orderTask{key: key, op: "recover chunk", order: order,
		refuse: func(err error) *controlpb.DatanodeMessage { return recovered(order, datanode.RecoverResult{}, err) }}
	if r.agent.options.Recoverer != nil {
		task.run = func(ctx context.Context) *controlpb.DatanodeMessage { return r.recoverChunk(ctx, order) }
	}
	r.submit(r.agent.workers.recover, r.agent.options.Store.VolumeOf(key.Chunk), task)
	return nil
}

func (l *link) recoverChunk(ctx context.Context, order datanode.RecoverChunk) *controlpb.DatanodeMessage {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	result, err := l.agent.options.Recoverer.Recover(ctx, order)
	logger := l.logger.With(keyChunk, order.Chunk, keyGeneration, uint64(order.Generation))
	if err == nil && (result.Length < 0 || len(result.NodeIDs) == 0 && result.Length > 0) {
		err = fault.New(fault.Internal, "recover chunk", "recovery ended with length %d on %d nodes", result.Length,
			len(result.NodeIDs))
	}
	if err != nil {
		logger.Warn("chunk not recovered", keyError, err)
	} else {
		logger.Info("chunk recovered", keyLength, result.Length, keyCount, len(result.NodeIDs))
	}
	return recovered(order, result, err)
}

// recovered is the answer to a recovery; after an error, nothing but it.
func recovered(order datanode.RecoverChunk, result datanode.RecoverResult, err error) *controlpb.DatanodeMessage {
	if err != nil {
		result = datanode.RecoverResult{Error: err.Error()}
	}
	result.Chunk, result.Generation = order.Chunk, order.Generation
	return recoverResultToProto(result)
}

func (r *receiver) onCopy(m *controlpb.CopyReplica) error {
	key, ok := keyFromProto(m.ChunkId, m.Generation)
	if !ok || limits.CheckLength(m.Length) != "" {
		return r.protocol("a copy names a bad chunk id, generation or length")
	}
	sources, err := locationsFromProto(m.Sources)
	if err != nil {
		return r.protocol("a copy " + err.Error())
	}
	order := datanode.CopyReplica{Chunk: key.Chunk, Generation: key.Generation, Length: m.Length, Sources: sources}
	task := orderTask{key: key, op: "copy replica", order: key, // from wherever the bytes come
		refuse: func(err error) *controlpb.DatanodeMessage { return copied(order, nil, err) }}
	if r.agent.options.Copier != nil {
		task.run = func(ctx context.Context) *controlpb.DatanodeMessage { return r.copyReplica(ctx, order) }
	}
	r.submit(r.agent.workers.copies, "", task) // it chooses its volume itself
	return nil
}

func (l *link) copyReplica(ctx context.Context, order datanode.CopyReplica) *controlpb.DatanodeMessage {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	badSources, err := l.agent.options.Copier.CopyReplica(ctx, order)
	logger := l.logger.With(keyChunk, order.Chunk, keyGeneration, uint64(order.Generation))
	if err != nil {
		logger.Warn("replica not copied", keyError, err)
	} else {
		logger.Info("replica copied", keyLength, order.Length)
	}
	return copied(order, badSources, err)
}

// copied is the answer to a copy.
func copied(order datanode.CopyReplica, badSources []string, err error) *controlpb.DatanodeMessage {
	result := datanode.CopyResult{Chunk: order.Chunk, Generation: order.Generation, BadSources: badSources}
	if err != nil {
		result.Error = err.Error()
	}
	return copyResultToProto(result)
}

func (r *receiver) onVerify(m *controlpb.VerifyReplica) error {
	key, ok := keyFromProto(m.ChunkId, m.Generation)
	if !ok {
		return r.protocol("an order to verify names a bad chunk id or generation")
	}
	order := datanode.VerifyReplica(key)
	r.submit(r.agent.workers.verify, r.agent.options.Store.VolumeOf(key.Chunk), orderTask{key: key,
		op: "verify replica", order: order,
		refuse: func(err error) *controlpb.DatanodeMessage { return verified(order, err) },
		run:    func(context.Context) *controlpb.DatanodeMessage { return r.verifyReplica(order) }})
	return nil
}

func (l *link) verifyReplica(order datanode.VerifyReplica) *controlpb.DatanodeMessage {
	err := l.agent.options.Store.VerifyReplica(order.Chunk)
	logger := l.logger.With(keyChunk, order.Chunk, keyGeneration, uint64(order.Generation))
	switch {
	case err == nil:
		logger.Info("a replica that a client called bad is good")
	case errors.Is(err, fault.NotFound):
		l.agent.options.Store.Announce(order.Chunk, order.Generation)
		fallthrough
	default:
		logger.Warn("a replica that a client called bad is not good", keyError, err)
	}
	return verified(order, err)
}

// verified is the answer to a verification.
func verified(order datanode.VerifyReplica, err error) *controlpb.DatanodeMessage {
	result := datanode.VerifyResult{Chunk: order.Chunk, Generation: order.Generation}
	if err != nil {
		result.Error = err.Error()
		result.Bad = errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk)
	}
	return verifyResultToProto(result)
}
