package workload

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Operations of the workload meta.
const (
	MetaMkdir  = "mkdir"
	MetaCreate = "create"
	MetaStat   = "stat"
	MetaList   = "list"
	MetaRename = "rename"
	MetaDelete = "delete"
)

// MetaOperations lists them in the order in which they make sense.
func MetaOperations() []string {
	return []string{MetaMkdir, MetaCreate, MetaStat, MetaList, MetaRename, MetaDelete}
}

// metaFolders is the number of folders that the files are spread over; a listing shows one.
const metaFolders = 256

// metaFilesDefault are there before operations that need files begin, when no phase before has made any.
const metaFilesDefault = 2000

// makeMeta measures one operation on the namespace after the other. Files are empty: no datanode takes part.
func makeMeta(workload *Workload) error {
	options := &workload.options
	if len(options.Operations) == 0 {
		options.Operations = MetaOperations()
		if options.FoldersOnly {
			options.Operations = slices.DeleteFunc(options.Operations, func(name string) bool {
				return name == MetaCreate
			})
		}
	}
	options.Files = cmp.Or(options.Files, metaFilesDefault)
	names := &metadata{w: workload}
	for i, name := range options.Operations {
		op := names.operation(name)
		if name == MetaCreate && options.FoldersOnly {
			return fault.New(fault.Invalid, "make workload",
				"files cannot be created without datanodes: measure mkdir, or a cluster")
		}
		if op == nil {
			return fault.New(fault.Invalid, "make workload", "there is no operation %q; there are %s", name,
				strings.Join(MetaOperations(), ", "))
		}
		phase := Phase{Name: name, Kinds: []string{name}, Floors: []string{floor.Echo}, op: op}
		if name == MetaRename || name == MetaDelete {
			phase.plan = noWarmup
		}
		if name != MetaStat && name != MetaList {
			phase.Floors = append(phase.Floors, floor.DiskSync)
		}
		phase.prepare = func(ctx context.Context) error {
			if i == 0 {
				if err := names.folders(ctx); err != nil {
					return err
				}
			}
			return names.stock(ctx, name)
		}
		workload.Phases = append(workload.Phases, phase)
	}
	return nil
}

// metadata is the files of the workload meta.
type metadata struct {
	w              *Workload
	plain, renamed made
	next           uint64 // number of the next file that stock makes
}

func (m *metadata) folder(n uint64) string {
	return fmt.Sprintf("%s/%03d", m.w.options.Directory, n%metaFolders)
}
func (m *metadata) path(file uint64) string { return fmt.Sprintf("%s/f%010d", m.folder(file), file) }
func (m *metadata) renamedPath(file uint64) string {
	return fmt.Sprintf("%s/r%010d", m.folder(file+1), file)
}

func (m *metadata) folders(ctx context.Context) error {
	return each(ctx, metaFolders, func(ctx context.Context, i int) error {
		return m.w.client(i).Mkdir(ctx, m.folder(uint64(i)), client.MkdirOptions{Parents: true})
	})
}

// stockedFrom is the first number of files that stock makes; operations number theirs from 0.
const stockedFrom = 1 << 40

// stock makes files for an operation that needs some and finds none.
func (m *metadata) stock(ctx context.Context, operation string) error {
	enough := m.plain.len() > 0 || operation == MetaDelete && m.renamed.len() > 0
	if enough || operation == MetaMkdir || operation == MetaCreate {
		return nil
	}
	first := stockedFrom + m.next
	m.next += uint64(m.w.options.Files)
	return each(ctx, m.w.options.Files, func(ctx context.Context, i int) error {
		return m.create(ctx, i, first+uint64(i))
	})
}

// create makes an empty file and closes it: two durable changes. With FoldersOnly it is a folder, and one.
func (m *metadata) create(ctx context.Context, worker int, file uint64) error {
	var err error
	if m.w.options.FoldersOnly {
		err = m.w.client(worker).Mkdir(ctx, m.path(file), client.MkdirOptions{})
	} else {
		err = m.store(ctx, worker, file)
	}
	if err == nil {
		m.plain.add(file)
	}
	return err
}

func (m *metadata) store(ctx context.Context, worker int, file uint64) error {
	_, err := m.w.client(worker).Store(ctx, m.path(file), bytes.NewReader(nil), 0,
		client.StoreOptions{CreateOptions: m.w.create()})
	return err
}

// operation is the named one, or nil.
func (m *metadata) operation(name string) load.Operation {
	switch name {
	case MetaMkdir:
		return func(ctx context.Context, worker int, number int64) (load.Done, error) {
			n := uint64(number)
			return load.Done{}, m.w.client(worker).Mkdir(ctx, fmt.Sprintf("%s/d%010d", m.folder(n), n),
				client.MkdirOptions{})
		}
	case MetaCreate:
		return func(ctx context.Context, worker int, number int64) (load.Done, error) {
			return load.Done{}, m.create(ctx, worker, uint64(number))
		}
	case MetaStat:
		return func(ctx context.Context, worker int, number int64) (load.Done, error) {
			file, _ := m.plain.pick(uint64(number) * 7919) // stock has made some
			_, err := m.w.client(worker).Stat(ctx, m.path(file))
			return load.Done{}, err
		}
	case MetaList:
		return func(ctx context.Context, worker int, number int64) (load.Done, error) {
			_, err := m.w.client(worker).ReadDir(ctx, m.folder(uint64(number)))
			return load.Done{}, err
		}
	case MetaRename:
		return func(ctx context.Context, worker int, _ int64) (load.Done, error) {
			file, ok := m.plain.pop()
			if !ok {
				return load.Done{}, load.ErrExhausted
			}
			err := m.w.client(worker).Rename(ctx, m.path(file), m.renamedPath(file), client.RenameOptions{})
			if err == nil {
				m.renamed.add(file)
			}
			return load.Done{}, err
		}
	case MetaDelete:
		return func(ctx context.Context, worker int, _ int64) (load.Done, error) {
			file, ok := m.plain.pop()
			path := m.path(file)
			if !ok {
				if file, ok = m.renamed.pop(); !ok {
					return load.Done{}, load.ErrExhausted
				}
				path = m.renamedPath(file)
			}
			_, err := m.w.client(worker).Remove(ctx, path, client.RemoveOptions{})
			return load.Done{}, err
		}
	}
	return nil
}
