package logserver

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/internal/fault"
)

// fsm runs the machine under raft and tells waiting Tails of news.
type fsm struct {
	// onDamage is told of a committed entry that cannot be read: this server
	// must stop, since what follows would be judged by a wrong state.
	onDamage func(error)

	mu struct {
		sync.RWMutex
		machine
		news    chan struct{} // closed and replaced when applied rises
		broken  error         // set once by onDamage's cause
		started bool          // NewRaft is done: no snapshot may be restored any more
	}
}

var _ raft.BatchingFSM = (*fsm)(nil)

func newFSM(onDamage func(error)) *fsm {
	f := &fsm{onDamage: onDamage}
	f.mu.news = make(chan struct{})
	return f
}

// outcome is what Apply gives to the future of an entry.
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
			e, err := decodeEntry(log.Data)
			if err == nil {
				err = f.mu.apply(log.Index, &e)
				out[i] = outcome{err: err, epoch: f.mu.epoch, lastTxid: f.mu.lastTxid}
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
	state
	applied uint64
	news    <-chan struct{} // closed when there is more
}

func (f *fsm) view() view {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return view{state: f.mu.state, applied: f.mu.applied, news: f.mu.news}
}

// before is machine.before.
func (f *fsm) before(txid uint64) point {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.mu.machine.before(txid)
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

// Restore implements raft.FSM. It serves the start only: the log itself is
// kept on every server, so a snapshot that a leader sends means that records
// were cut from its log which this server does not have. Taking it would leave
// a hole in this server's log; it is refused.
func (f *fsm) Restore(source io.ReadCloser) error {
	defer source.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.started {
		return fault.New(fault.Gap, "install snapshot", "a snapshot holds no records: taking it would leave a hole in this server's log")
	}
	b, err := io.ReadAll(io.LimitReader(source, snapshotBytesMax))
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "read log snapshot", Err: err}
	}
	m, err := decodeMachine(b)
	if err != nil {
		return err
	}
	f.mu.machine = m
	return nil
}

// begin ends the time in which a snapshot may be restored.
func (f *fsm) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.started = true
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
