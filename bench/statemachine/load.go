package statemachine

import (
	"context"
	"fmt"
	"strings"

	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/internal/fault"
)

// folders hold the files of a Load; a listing shows one.
const folders = 256

// Load is the workload "meta" against a state machine: its operations have the
// names that they have against a cluster. One worker.
type Load struct {
	machine *Machine
	made    uint64 // files f0..made-1 exist or have existed
	renamed uint64 // files below it were renamed
	deleted uint64
}

// NewLoad makes a machine with three datanodes, and files for those operations that need some.
func NewLoad(files int) (*Load, error) {
	m, err := New(3, 1, nil)
	if err != nil {
		return nil, err
	}
	load := &Load{machine: m}
	for i := range folders {
		if err := m.Mkdir(fmt.Sprintf("/%03d", i)); err != nil {
			return nil, err
		}
	}
	for range files {
		if err := load.create(); err != nil {
			return nil, err
		}
	}
	return load, nil
}

func (l *Load) path(file uint64) string { return fmt.Sprintf("/%03d/f%010d", file%folders, file) }
func (l *Load) renamedPath(file uint64) string {
	return fmt.Sprintf("/%03d/r%010d", (file+1)%folders, file)
}

func (l *Load) create() error {
	l.made++
	return l.machine.Store(l.path(l.made - 1))
}

// Operations lists the names that Operation knows.
func Operations() []string { return []string{"mkdir", "create", "stat", "list", "rename", "delete"} }

// Operation is the named one. Error: fault.Invalid.
func (l *Load) Operation(name string) (load.Operation, error) {
	plain := func(do func(number int64) error) load.Operation {
		return func(_ context.Context, _ int, number int64) (load.Done, error) { return load.Done{}, do(number) }
	}
	switch name {
	case "mkdir":
		return plain(func(number int64) error {
			return l.machine.Mkdir(fmt.Sprintf("/%03d/d%010d", number%folders, number))
		}), nil
	case "create":
		return plain(func(int64) error { return l.create() }), nil
	case "stat":
		return plain(func(number int64) error {
			if l.renamed == l.made {
				return load.ErrExhausted
			}
			return l.machine.Stat(l.path(l.renamed + uint64(number)*7919%(l.made-l.renamed)))
		}), nil
	case "list":
		return plain(func(number int64) error { return l.machine.List(fmt.Sprintf("/%03d", number%folders)) }), nil
	case "rename":
		return plain(func(int64) error {
			if l.renamed == l.made {
				return load.ErrExhausted
			}
			l.renamed++
			return l.machine.Rename(l.path(l.renamed-1), l.renamedPath(l.renamed-1))
		}), nil
	case "delete":
		return plain(func(int64) error {
			if l.deleted == l.made {
				return load.ErrExhausted
			}
			l.deleted++
			if l.deleted <= l.renamed {
				return l.machine.Delete(l.renamedPath(l.deleted - 1))
			}
			l.renamed = l.deleted // it is gone for renames too
			return l.machine.Delete(l.path(l.deleted - 1))
		}), nil
	}
	return nil, fault.New(fault.Invalid, "load the state machine", "there is no operation %q; there are %s", name,
		strings.Join(Operations(), ", "))
}
