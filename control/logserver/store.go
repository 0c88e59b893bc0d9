package logserver

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// store is raft-wal with our rules around it: every entry of ours is verified when it is stored and when it is
// read, and after the first failed write or fsync nothing is ever written again.
type store struct {
	wal         *wal.WAL
	dir         string
	checkpoints *checkpoint.Store
	// onFailure gets the first failed write, before raft does. It must cut
	// the server off from its peers before it returns.
	onFailure func(error)

	mu struct {
		sync.Mutex
		failure error // latched
	}
}

var (
	_ raft.LogStore          = (*store)(nil)
	_ raft.StableStore       = (*store)(nil)
	_ raft.MonotonicLogStore = (*store)(nil)
)

// failed returns the latched failure.
func (s *store) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.failure
}

// fail latches the first error of a write.
func (s *store) fail(op string, err error) error {
	if errors.Is(err, types.ErrSealed) {
		// The last append filled the file, and raft-wal only logs why it could not make the next one.
		err = &fault.Error{Kind: fault.Disk, Op: op, Reason: "no new log file could be made", Err: err}
		if s.full() {
			err = &fault.Error{Kind: fault.NoSpace, Op: op, Reason: "no room for a new log file in " + s.dir}
		}
	}
	err = vfs.FaultOf(op, err)
	s.mu.Lock()
	first := s.mu.failure == nil
	if first {
		s.mu.failure = err
	}
	err = s.mu.failure
	s.mu.Unlock()
	if first {
		s.onFailure(err)
	}
	return err
}

// full reports whether the disk has no room for another log file.
func (s *store) full() bool {
	var st unix.Statfs_t
	return unix.Statfs(s.dir, &st) == nil && st.Bavail*uint64(st.Bsize) < walcheck.SegmentBytesMin
}

// IsMonotonic implements raft.MonotonicLogStore.
func (s *store) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (s *store) FirstIndex() (uint64, error) { return s.wal.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *store) LastIndex() (uint64, error) { return s.wal.LastIndex() }

// begins is the raft index with which this log begins, or will: behind the checkpoint that a peer sent if it is empty.
func (s *store) begins() (uint64, error) {
	first, err := s.wal.FirstIndex()
	if err != nil {
		return 0, vfs.FaultOf("read log", err)
	}
	if first == 0 {
		first = checkpoint.Received(s.checkpoints.All()) + 1
	}
	return first, nil
}

// GetLog implements raft.LogStore. Errors: raft.ErrLogNotFound as it is (raft
// compares it), fault.CorruptData, fault.Disk.
func (s *store) GetLog(index uint64, log *raft.Log) error {
	_, err := s.read(index, log)
	return err
}

// read is GetLog that gives the decoded entry too; its kind is 0 for raft's own entries.
func (s *store) read(index uint64, log *raft.Log) (entry.Entry, error) {
	// raft-wal still finds what was cut off in the file that it writes to
	// (v0.4.2 state.go, getLog), and no longer after a restart.
	first, err := s.wal.FirstIndex()
	if err != nil {
		return entry.Entry{}, vfs.FaultOf("read log", err)
	}
	if index < first || first == 0 {
		if term, ok := s.checkpoints.Term(index); ok {
			// The entry that a checkpoint stands for. raft asks for its term only, to append behind it; without an
			// answer it would send the same checkpoint over and over.
			*log = raft.Log{Index: index, Term: term, Type: raft.LogNoop}
			return entry.Entry{}, nil
		}
		return entry.Entry{}, raft.ErrLogNotFound
	}
	if err := s.wal.GetLog(index, log); err != nil {
		if errors.Is(err, raft.ErrLogNotFound) {
			return entry.Entry{}, raft.ErrLogNotFound
		}
		if errors.Is(err, types.ErrCorrupt) {
			return entry.Entry{}, s.damage(index, err)
		}
		return entry.Entry{}, vfs.FaultOf("read log", err)
	}
	if log.Index != index {
		return entry.Entry{}, s.damage(index, fmt.Errorf("raft entry %d is in its place", log.Index))
	}
	if log.Type != raft.LogCommand {
		return entry.Entry{}, nil
	}
	e, err := entry.Decode(log.Data)
	if err != nil {
		return entry.Entry{}, s.damage(index, err)
	}
	return e, nil
}

// damage names the place of an entry that cannot be read.
func (s *store) damage(index uint64, cause error) error {
	kind := fault.CorruptData
	if fault.KindOf(cause) == fault.Version {
		kind = fault.Version
	}
	name, offset := walcheck.Locate(s.dir, index)
	return &fault.Error{Kind: kind, Op: "read log", Path: filepath.Join(s.dir, name), Err: cause,
		Reason: fmt.Sprintf("raft entry %d at offset %d is damaged", index, offset),
		Hint:   "stop the log server and look with `ww log verify`"}
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: durable on return. An entry that a peer
// sent damaged is refused, which is not a failure of this disk.
func (s *store) StoreLogs(logs []*raft.Log) error {
	if err := s.failed(); err != nil {
		return err
	}
	for _, log := range logs {
		if log.Type != raft.LogCommand {
			continue
		}
		if _, err := entry.Decode(log.Data); err != nil {
			return &fault.Error{Kind: fault.KindOf(err), Op: "store log",
				Reason: fmt.Sprintf("raft entry %d came in damaged", log.Index), Err: err}
		}
	}
	if err := s.wal.StoreLogs(logs); err != nil {
		return s.fail("write log", err)
	}
	return nil
}

// cutHead removes the entries in front of raft entry first, which must stay; durable on return. It returns how many
// went. Whoever calls it holds two checkpoints that replace them. A crash leaves the list of segments with or
// without them; files that it does not list go at the next start.
func (s *store) cutHead(first uint64) (uint64, error) {
	if err := s.failed(); err != nil {
		return 0, err
	}
	from, err := s.wal.FirstIndex()
	if err != nil {
		return 0, vfs.FaultOf("cut log", err)
	}
	last, err := s.wal.LastIndex()
	if err != nil {
		return 0, vfs.FaultOf("cut log", err)
	}
	if first <= from {
		return 0, nil
	}
	if first > last {
		return 0, fault.New(fault.Internal, "cut log", "entry %d should stay, the log ends at %d", first, last)
	}
	if err := s.wal.DeleteRange(from, first-1); err != nil {
		return 0, s.fail("cut log", err)
	}
	return first - from, nil
}

// DeleteRange implements raft.LogStore: raft cuts off a tail that another leader overruled, or everything when a
// peer's checkpoint replaced it. It never cuts the head: cutHead does.
func (s *store) DeleteRange(first, last uint64) error {
	if err := s.failed(); err != nil {
		return err
	}
	end, err := s.wal.LastIndex()
	if err != nil {
		return err
	}
	if last < end {
		return fault.New(fault.Internal, "cut log", "entries %d to %d are not the end of the log, which is %d", first,
			last, end)
	}
	if err := s.wal.DeleteRange(first, last); err != nil {
		return s.fail("cut log", err)
	}
	return nil
}

// Set implements raft.StableStore. raft panics on an error of this method. After a failure the server is cut off from
// its peers (onFailure), so no peer can learn of a vote that was not kept: it returns nil, and raft is shut down.
func (s *store) Set(key, value []byte) error {
	if s.failed() != nil {
		return nil //nolint:nilerr // see Set: raft must be shut down, not panic
	}
	if err := s.wal.Set(key, value); err != nil {
		_ = s.fail("write vote", err)
	}
	return nil
}

// SetUint64 implements raft.StableStore; see Set.
func (s *store) SetUint64(key []byte, value uint64) error {
	if s.failed() != nil {
		return nil //nolint:nilerr // see Set: raft must be shut down, not panic
	}
	if err := s.wal.SetUint64(key, value); err != nil {
		_ = s.fail("write term", err)
	}
	return nil
}

// Get implements raft.StableStore.
func (s *store) Get(key []byte) ([]byte, error) { return s.wal.Get(key) }

// GetUint64 implements raft.StableStore.
func (s *store) GetUint64(key []byte) (uint64, error) { return s.wal.GetUint64(key) }

// openStore opens raft-wal on a prepared directory and checks that it found what the verification found.
func openStore(o Options, report *walcheck.Report, kept *checkpoint.Store, onFailure func(error)) (*store, error) {
	const op = "open log"
	dir := filepath.Join(o.Directory, walcheck.Directory)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	if err := (vfs.OS{}).SyncDir(o.Directory); err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	opened, err := wal.Open(dir, wal.WithSegmentSize(o.SegmentBytes),
		wal.WithLogger(hclogTo(o.Logger, "wal", slog.LevelWarn)))
	if err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	var want uint64
	if report != nil {
		want = report.LastIndex
	}
	last, err := opened.LastIndex()
	if err == nil && last != want {
		err = fault.New(fault.Internal, op, "raft-wal ends at entry %d, the verification at entry %d", last, want)
	}
	if err != nil {
		_ = opened.Close()
		return nil, vfs.FaultOf(op, err)
	}
	return &store{wal: opened, dir: dir, checkpoints: kept, onFailure: onFailure}, nil
}
