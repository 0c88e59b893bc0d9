package logserver

import (
	"bufio"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
)

// fsm runs the machine under raft and wakes waiting Tails.
type fsm struct {
	// onDamage gets a committed entry that cannot be read: this server must stop,
	// since the entries behind it would be judged by a wrong state.
	onDamage func(error)

	mu struct {
		sync.RWMutex
		machine
		news   chan struct{} // closed and replaced when applied rises
		broken error         // set once by onDamage's cause
	}
}

var _ raft.BatchingFSM = (*fsm)(nil)

func newFSM(onDamage func(error)) *fsm {
	f := &fsm{onDamage: onDamage}
	f.mu.news = make(chan struct{})
	return f
}

// outcome is the response in the future of an applied entry.
type outcome struct {
	err      error // why it was refused
	epoch    uint64
	lastTxid uint64
}

// Apply implements raft.FSM.
func (f *fsm) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	var damage error
	f.mu.Lock()
	for i, log := range logs {
		if log.Type != raft.LogCommand {
			continue
		}
		if f.mu.broken == nil {
			e, err := entry.Decode(log.Data)
			if err == nil {
				err = f.mu.apply(log.Index, &e)
				out[i] = outcome{err: err, epoch: f.mu.Epoch, lastTxid: f.mu.LastTxid}
				continue
			}
			damage = &fault.Error{Kind: fault.KindOf(err), Op: "apply log", Err: err,
				Reason: fmt.Sprintf("entry %d cannot be read", log.Index)}
			f.mu.broken = damage
		}
		out[i] = outcome{err: f.mu.broken}
	}
	close(f.mu.news)
	f.mu.news = make(chan struct{})
	f.mu.Unlock()
	if damage != nil {
		f.onDamage(damage)
	}
	return out
}

// view is what a reader may see.
type view struct {
	entry.State
	applied uint64
	news    <-chan struct{} // closed when there is more
}

func (f *fsm) view() view {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return view{State: f.mu.State, applied: f.mu.applied, news: f.mu.news}
}

// before is machine.before.
func (f *fsm) before(txid uint64) (entry.Point, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.mu.machine.before(txid)
}

// firstTxid is the first one whose record is in the log.
func (f *fsm) firstTxid() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.mu.firstTxid()
}

// rebase is machine.rebase with the points of Store.
func (f *fsm) rebase(first uint64, known []checkpoint.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	points := make([]entry.Point, len(known))
	for i := range known {
		points[i] = known[i].Head.Point()
	}
	f.mu.rebase(first, points)
}

// Snapshot implements raft.FSM: it copies the small state. The points are
// only ever appended to, so sharing their array is safe.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.mu.broken != nil {
		return nil, f.mu.broken
	}
	m := f.mu.machine
	m.points = m.points[:len(m.points):len(m.points)]
	return &fsmSnapshot{machine: m}, nil
}

// Restore implements raft.FSM: from a small snapshot of this server at its start, or from the head of a checkpoint,
// at the start or when the leader sent it because its log no longer holds what this server lacks.
func (f *fsm) Restore(source io.ReadCloser) error {
	defer source.Close()
	buffered := bufio.NewReader(source)
	magic, err := buffered.Peek(4)
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "read log snapshot", Err: err}
	}
	var restored machine
	if checkpoint.BeginsFile(magic) {
		head, _, err := checkpoint.ReadHead(buffered)
		if err != nil {
			return err
		}
		restored = machine{State: head.State, applied: head.Index, points: []entry.Point{head.Point()}, cut: true}
	} else {
		b, err := io.ReadAll(io.LimitReader(buffered, snapshotBytesMax))
		if err != nil {
			return &fault.Error{Kind: fault.Disk, Op: "read log snapshot", Err: err}
		}
		if restored, err = decodeMachine(b); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.machine = restored
	close(f.mu.news)
	f.mu.news = make(chan struct{})
	return nil
}

// fsmSnapshot is a copy of the machine on its way to disk.
type fsmSnapshot struct{ machine machine }

// Persist implements raft.FSMSnapshot.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s.machine.encode()); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *fsmSnapshot) Release() {}
