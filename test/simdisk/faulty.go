package simdisk

import (
	"github.com/whispering-woods/ww/internal/vfs"

	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
)

// Op names an operation, for the rules of Faulty and the hook of Mem.
type Op uint8

// Operations.
const (
	OpOpen Op = iota + 1
	OpMkdir
	OpRename // matched against the target's path
	OpRemove
	OpReadDir
	OpStat
	OpSyncDir
	OpStatFS
	OpLock
	OpRead
	OpWrite
	OpSync
	OpDatasync
	OpTruncate
	OpPreallocate
	OpSyncRange
	OpAwaitRange
	OpPrefetch
	OpUncache
)

var opNames = [...]string{
	OpOpen: "open", OpMkdir: "mkdir", OpRename: "rename", OpRemove: "remove", OpReadDir: "readdir", OpStat: "stat",
	OpSyncDir: "syncdir", OpStatFS: "statfs", OpLock: "lock", OpRead: "read", OpWrite: "write", OpSync: "sync",
	OpDatasync: "datasync", OpTruncate: "truncate", OpPreallocate: "preallocate", OpSyncRange: "syncrange",
	OpAwaitRange: "awaitrange", OpPrefetch: "prefetch", OpUncache: "uncache",
}

// String names the operation.
func (o Op) String() string {
	if int(o) < len(opNames) && opNames[o] != "" {
		return opNames[o]
	}
	return fmt.Sprintf("op %d", uint8(o))
}

// Rule makes some calls fail, or wait.
type Rule struct {
	Op Op
	// Path is a pattern of path.Match for the last element of the path; empty
	// matches all.
	Path string
	// From is the first matching call that the rule acts on, from 1; 0 means 1.
	From int
	// Times bounds how many calls it acts on; 0 means no bound.
	Times int
	// Err is what the call returns, in an fs.PathError; nil: the call goes
	// through (after Before).
	Err error
	// WriteBytes of an OpWrite are written before Err is returned.
	WriteBytes int
	// Before runs before the call: a test blocks or counts in it.
	Before func()
}

// Faulty is a file system that fails by rule. Without rules it is the wrapped
// one. Files opened through it keep to rules added later.
type Faulty struct {
	vfs.FS
	mu struct {
		sync.Mutex
		rules []*ruleState
	}
}

type ruleState struct {
	Rule
	seen int // matching calls so far
}

var _ vfs.FS = (*Faulty)(nil)

// NewFaulty wraps a file system.
func NewFaulty(inner vfs.FS) *Faulty { return &Faulty{FS: inner} }

// Inject adds a rule; the first rule that acts on a call decides. The result
// removes it.
func (f *Faulty) Inject(r Rule) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := &ruleState{Rule: r}
	f.mu.rules = append(f.mu.rules, state)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, s := range f.mu.rules {
			if s == state {
				f.mu.rules = append(f.mu.rules[:i:i], f.mu.rules[i+1:]...)
				return
			}
		}
	}
}

// check finds the rule for a call and runs its Before.
func (f *Faulty) check(op Op, name string) (writeBytes int, err error) {
	f.mu.Lock()
	var rule *ruleState
	for _, state := range f.mu.rules {
		if state.Op != op {
			continue
		}
		if matched, _ := path.Match(state.Path, path.Base(name)); state.Path != "" && !matched {
			continue
		}
		state.seen++
		from := max(1, state.From)
		if state.seen >= from && (state.Times == 0 || state.seen < from+state.Times) {
			rule = state
			break
		}
	}
	f.mu.Unlock()
	if rule == nil {
		return 0, nil
	}
	if rule.Before != nil {
		rule.Before()
	}
	if rule.Err == nil {
		return 0, nil
	}
	return rule.WriteBytes, pathError(op.String(), name, rule.Err)
}

// OpenFile is subject to OpOpen.
func (f *Faulty) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if _, err := f.check(OpOpen, name); err != nil {
		return nil, err
	}
	inner, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: inner, fs: f, name: name}, nil
}

// MkdirAll is subject to OpMkdir.
func (f *Faulty) MkdirAll(name string, perm fs.FileMode) error {
	if _, err := f.check(OpMkdir, name); err != nil {
		return err
	}
	return f.FS.MkdirAll(name, perm)
}

// Rename is subject to OpRename of the target.
func (f *Faulty) Rename(source, target string) error {
	if _, err := f.check(OpRename, target); err != nil {
		return err
	}
	return f.FS.Rename(source, target)
}

// Remove is subject to OpRemove.
func (f *Faulty) Remove(name string) error {
	if _, err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// ReadDir is subject to OpReadDir.
func (f *Faulty) ReadDir(name string) ([]fs.DirEntry, error) {
	if _, err := f.check(OpReadDir, name); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(name)
}

// Stat is subject to OpStat.
func (f *Faulty) Stat(name string) (fs.FileInfo, error) {
	if _, err := f.check(OpStat, name); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

// SyncDir is subject to OpSyncDir.
func (f *Faulty) SyncDir(name string) error {
	if _, err := f.check(OpSyncDir, name); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

// StatFS is subject to OpStatFS.
func (f *Faulty) StatFS(name string) (vfs.Space, error) {
	if _, err := f.check(OpStatFS, name); err != nil {
		return vfs.Space{}, err
	}
	return f.FS.StatFS(name)
}

// Lock is subject to OpLock.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if _, err := f.check(OpLock, name); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

// faultyFile is a File under rules, by the path it was opened with.
type faultyFile struct {
	vfs.File
	fs   *Faulty
	name string
}

func (f *faultyFile) ReadAt(p []byte, offset int64) (int, error) {
	if _, err := f.fs.check(OpRead, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, offset)
}

func (f *faultyFile) WriteAt(p []byte, offset int64) (int, error) {
	short, err := f.fs.check(OpWrite, f.name)
	if err == nil {
		return f.File.WriteAt(p, offset)
	}
	if short = min(short, len(p)); short == 0 {
		return 0, err
	}
	n, failure := f.File.WriteAt(p[:short], offset)
	if failure != nil {
		return n, failure
	}
	return n, err
}

func (f *faultyFile) Sync() error { return f.run(OpSync, f.File.Sync) }

func (f *faultyFile) Datasync() error { return f.run(OpDatasync, f.File.Datasync) }

func (f *faultyFile) Truncate(size int64) error {
	return f.run(OpTruncate, func() error { return f.File.Truncate(size) })
}

func (f *faultyFile) Preallocate(offset, length int64) error {
	return f.run(OpPreallocate, func() error { return f.File.Preallocate(offset, length) })
}

func (f *faultyFile) SyncRange(offset, length int64) error {
	return f.run(OpSyncRange, func() error { return f.File.SyncRange(offset, length) })
}

func (f *faultyFile) AwaitRange(offset, length int64) error {
	return f.run(OpAwaitRange, func() error { return f.File.AwaitRange(offset, length) })
}

func (f *faultyFile) Prefetch(offset, length int64) error {
	return f.run(OpPrefetch, func() error { return f.File.Prefetch(offset, length) })
}

func (f *faultyFile) Uncache(offset, length int64) error {
	return f.run(OpUncache, func() error { return f.File.Uncache(offset, length) })
}

func (f *faultyFile) Stat() (fs.FileInfo, error) {
	if _, err := f.fs.check(OpStat, f.name); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *faultyFile) OSFile() *os.File { return f.File.OSFile() }

func (f *faultyFile) run(op Op, call func() error) error {
	if _, err := f.fs.check(op, f.name); err != nil {
		return err
	}
	return call()
}
