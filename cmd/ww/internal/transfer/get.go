package transfer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Get fetches files and trees of the cluster. It returns an error only if ctx
// ended; what became of each file comes through o.Done.
func Get(ctx context.Context, c *client.Client, pairs []Pair, o Options) error {
	return run(ctx, c, o, func(ctx context.Context, m *mover) {
		for _, p := range pairs {
			info, err := c.Stat(ctx, p.Source)
			if err != nil {
				m.finish(Result{Source: p.Source, Target: p.Target, Err: err})
				continue
			}
			if info.Directory && !o.Recursive {
				e := fault.New(fault.IsDirectory, "", "is a directory")
				e.Path, e.Hint = p.Source, "use -r to fetch it with everything in it"
				m.finish(Result{Source: p.Source, Target: p.Target, Err: e})
				continue
			}
			m.getAny(ctx, info, p)
		}
	})
}

func (m *mover) getAny(ctx context.Context, info client.FileInfo, p Pair) {
	if !info.Directory {
		m.submit(ctx, info.Length, func(ctx context.Context) Result { return m.getFile(ctx, info, p) })
		return
	}
	make := os.Mkdir
	if m.o.Parents {
		make = os.MkdirAll
	}
	err := make(p.Target, 0o777)
	if errors.Is(err, fs.ErrExist) {
		if local, e := os.Stat(p.Target); e == nil && local.IsDir() {
			err = nil // fetching into what is there
		}
	}
	m.finish(Result{Source: p.Source, Target: p.Target, Directory: true, Err: LocalError("create", p.Target, err)})
	if err != nil {
		return
	}
	for entry, err := range m.client.List(ctx, p.Source) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.finish(Result{Source: p.Source, Target: p.Target, Directory: true, Err: err})
			return
		}
		child := Pair{Source: path.Join(p.Source, entry.Name), Target: filepath.Join(p.Target, entry.Name)}
		// A name that leads out of the target directory must never be written.
		if !filepath.IsLocal(entry.Name) || filepath.Base(entry.Name) != entry.Name {
			e := fault.New(fault.Invalid, "", "the name cannot be a local file's")
			e.Path = child.Source
			m.finish(Result{Source: child.Source, Target: child.Target, Err: e})
			continue
		}
		m.getAny(ctx, entry, child)
	}
}

// getFile fetches one file to a part file and renames it when it is whole.
func (m *mover) getFile(ctx context.Context, info client.FileInfo, p Pair) Result {
	result := Result{Source: p.Source, Target: p.Target}
	if isSpecial(p.Target) {
		result.Bytes, result.Err = m.getSpecial(ctx, p)
		return result
	}
	part, err := createPart(p.Target, info.Length, m.o.Overwrite)
	if err != nil {
		result.Err = err
		return result
	}
	defer part.discard()
	fetched, err := m.client.Fetch(ctx, p.Source, part, client.FetchOptions{Progress: m.o.Progress})
	if err != nil {
		result.Err = LocalError("write", p.Target, err)
		return result
	}
	result.Bytes, result.Err = fetched.Length, part.commit()
	return result
}

// getSpecial writes a file into a device or a pipe.
func (m *mover) getSpecial(ctx context.Context, p Pair) (int64, error) {
	r, err := m.client.Open(ctx, p.Source)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }() // read only
	f, err := os.OpenFile(p.Target, os.O_WRONLY, 0)
	if err != nil {
		return 0, LocalError("write", p.Target, err)
	}
	n, err := CopyStream(ctx, f, r, m.o.Progress)
	if e := f.Close(); err == nil {
		err = e
	}
	return n, LocalError("write", p.Target, err)
}
