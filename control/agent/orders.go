package agent

import (
	"context"
	"errors"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// workers carry out orders away from the streams. Queues are bounded; who puts into a full one answers the namenode
// instead of waiting.
type workers struct {
	options                 Options
	deletes                 chan deleteOrder
	tells                   chan []chunk.Replica
	recover, copies, verify chan orderTask
	mu                      struct {
		sync.Mutex
		// running: orders queued or running. The namenode repeats an order that it has no answer to; the repeat is
		// not carried out twice.
		running map[runningOrder]bool
	}
}

// runningOrder tells the orders of one chunk apart by their queue.
type runningOrder struct {
	queue chan orderTask
	key   orderKey
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
	key    orderKey
	op     string // for the refusal
	refuse func(error)
	run    func(context.Context) // answers too; nil: this datanode cannot do that
}

func startWorkers(ctx context.Context, group *sync.WaitGroup, o Options) *workers {
	all := &workers{options: o, deletes: make(chan deleteOrder, deleteOrdersMax),
		tells: make(chan []chunk.Replica, tellOrdersMax), recover: make(chan orderTask, recoverQueueMax),
		copies: make(chan orderTask, copyQueueMax), verify: make(chan orderTask, verifyQueueMax)}
	all.mu.running = make(map[runningOrder]bool)
	work(ctx, group, 1, all.deletes, all.delete)
	work(ctx, group, 1, all.tells, all.tell)
	counts := map[chan orderTask]int{all.recover: recoverWorkers, all.copies: copyWorkers, all.verify: 1}
	for queue, count := range counts {
		work(ctx, group, count, queue, func(ctx context.Context, order orderTask) {
			defer all.release(runningOrder{queue, order.key})
			order.run(ctx)
		})
	}
	return all
}

// work starts count goroutines that call do with each order until ctx ends.
func work[T any](ctx context.Context, group *sync.WaitGroup, count int, orders <-chan T, do func(context.Context, T)) {
	for range count {
		group.Go(func() {
			for {
				select {
				case order := <-orders:
					if ctx.Err() != nil { // both were ready
						return
					}
					do(ctx, order)
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// claim notes that an order is being carried out; false if it is already.
func (w *workers) claim(order runningOrder) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.mu.running[order]
	w.mu.running[order] = true
	return !known
}

func (w *workers) release(order runningOrder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mu.running, order)
}

// submit queues an order, unless the same one waits or runs already; what cannot be queued is refused at once.
func (w *workers) submit(queue chan orderTask, order orderTask) {
	if order.run == nil {
		order.refuse(fault.New(fault.Version, order.op, "this datanode cannot do that"))
		return
	}
	if !w.claim(runningOrder{queue, order.key}) {
		return
	}
	select {
	case queue <- order:
	default:
		w.release(runningOrder{queue, order.key})
		order.refuse(fault.New(fault.Busy, order.op, "too many such orders wait on this datanode"))
	}
}

// onDelete queues a deletion.
func (r *receiver) onDelete(m *controlpb.DeleteReplicas) error {
	replicas, err := r.namesFromProto("a deletion", m.Replicas)
	if err == nil {
		queueOr(r, r.agent.workers.deletes, deleteOrder{from: r.session, epoch: r.epoch, replicas: replicas})
	}
	return err
}

// onTell queues a question.
func (r *receiver) onTell(m *controlpb.TellReplicas) error {
	replicas, err := r.namesFromProto("a question", m.Replicas)
	if err == nil {
		queueOr(r, r.agent.workers.tells, replicas)
	}
	return err
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

// queueOr queues an order. When the queue is full the order is dropped and a full report asked for, which shows the
// namenode what is here.
func queueOr[T any](r *receiver, queue chan T, order T) {
	select {
	case queue <- order:
	default:
		r.logger.Warn("order dropped: too many wait")
		r.wantReport()
	}
}

// tell answers a question by changes, which go to every namenode.
func (w *workers) tell(_ context.Context, replicas []chunk.Replica) {
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
	task := orderTask{key: key, op: "recover chunk",
		refuse: func(err error) { r.answerRecover(order, datanode.RecoverResult{}, err) }}
	if r.agent.options.Recoverer != nil {
		task.run = func(ctx context.Context) { r.recoverChunk(ctx, order) }
	}
	r.agent.workers.submit(r.agent.workers.recover, task)
	return nil
}

func (l *link) recoverChunk(ctx context.Context, order datanode.RecoverChunk) {
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
	l.answerRecover(order, result, err)
}

// answerRecover reports a recovery's result; after an error, nothing but it.
func (l *link) answerRecover(order datanode.RecoverChunk, result datanode.RecoverResult, err error) {
	if err != nil {
		result = datanode.RecoverResult{Error: err.Error()}
	}
	result.Chunk, result.Generation = order.Chunk, order.Generation
	l.answer(recoverResultToProto(result))
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
	task := orderTask{key: key, op: "copy replica", refuse: func(err error) { r.answerCopy(order, nil, err) }}
	if r.agent.options.Copier != nil {
		task.run = func(ctx context.Context) { r.copyReplica(ctx, order) }
	}
	r.agent.workers.submit(r.agent.workers.copies, task)
	return nil
}

func (l *link) copyReplica(ctx context.Context, order datanode.CopyReplica) {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	badSources, err := l.agent.options.Copier.CopyReplica(ctx, order)
	logger := l.logger.With(keyChunk, order.Chunk, keyGeneration, uint64(order.Generation))
	if err != nil {
		logger.Warn("replica not copied", keyError, err)
	} else {
		logger.Info("replica copied", keyLength, order.Length)
	}
	l.answerCopy(order, badSources, err)
}

func (l *link) answerCopy(order datanode.CopyReplica, badSources []string, err error) {
	result := datanode.CopyResult{Chunk: order.Chunk, Generation: order.Generation, BadSources: badSources}
	if err != nil {
		result.Error = err.Error()
	}
	l.answer(copyResultToProto(result))
}

func (r *receiver) onVerify(m *controlpb.VerifyReplica) error {
	key, ok := keyFromProto(m.ChunkId, m.Generation)
	if !ok {
		return r.protocol("an order to verify names a bad chunk id or generation")
	}
	order := datanode.VerifyReplica(key)
	r.agent.workers.submit(r.agent.workers.verify, orderTask{key: key, op: "verify replica",
		refuse: func(err error) { r.answerVerify(order, err) },
		run:    func(context.Context) { r.verifyReplica(order) }})
	return nil
}

func (l *link) verifyReplica(order datanode.VerifyReplica) {
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
	l.answerVerify(order, err)
}

func (l *link) answerVerify(order datanode.VerifyReplica, err error) {
	result := datanode.VerifyResult{Chunk: order.Chunk, Generation: order.Generation}
	if err != nil {
		result.Error = err.Error()
		result.Bad = errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk)
	}
	l.answer(verifyResultToProto(result))
}
