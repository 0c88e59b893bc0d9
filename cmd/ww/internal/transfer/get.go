package transfer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Get fetches files and trees of the cluster. It returns an error only if ctx
// ended; what became of each file comes through o.Done.
func Get(ctx context.Context, woods *client.Client, pairs []Pair, options Options) error {
	return run(ctx, woods, options, func(ctx context.Context, transfer *mover) {
		for _, pair := range pairs {
			info, err := woods.Stat(ctx, pair.Source)
			if err == nil && info.Directory && !options.Recursive {
				err = &fault.Error{Kind: fault.IsDirectory, Path: pair.Source, Reason: "is a directory",
					Hint: "use -r to fetch it with everything in it"}
			}
			if err != nil {
				transfer.failed(pair, err)
				continue
			}
			transfer.getAny(ctx, info, pair)
		}
	})
}

func (m *mover) getAny(ctx context.Context, info client.FileInfo, pair Pair) {
	if !info.Directory {
		m.submit(ctx, info.Length, func(ctx context.Context) Result { return m.getFile(ctx, info, pair) })
		return
	}
	mkdir := os.Mkdir
	if m.o.Parents {
		mkdir = os.MkdirAll
	}
	err := mkdir(pair.Target, 0o777)
	if errors.Is(err, fs.ErrExist) {
		if local, e := os.Stat(pair.Target); e == nil && local.IsDir() {
			err = nil // fetching into what is there
		}
	}
	m.finish(Result{Pair: pair, Directory: true, Err: LocalError("create", pair.Target, err)})
	if err != nil {
		return
	}
	m.each(ctx, pair, filepath.Join, func(entry client.FileInfo, child Pair) {
		// A name that leads out of the target directory must never be written.
		if !filepath.IsLocal(entry.Name) || filepath.Base(entry.Name) != entry.Name {
			m.failed(child, &fault.Error{Kind: fault.Invalid, Path: child.Source,
				Reason: "the name cannot be a local file's"})
			return
		}
		m.getAny(ctx, entry, child)
	})
}

// getFile fetches one file to a part file and renames it when it is whole.
func (m *mover) getFile(ctx context.Context, info client.FileInfo, pair Pair) Result {
	result := Result{Pair: pair}
	if isSpecial(pair.Target) {
		result.Bytes, result.Err = m.getSpecial(ctx, pair)
		return result
	}
	part, err := createPart(pair.Target, info.Length, m.o.Overwrite)
	if err != nil {
		result.Err = err
		return result
	}
	defer part.discard()
	fetched, err := m.client.Fetch(ctx, pair.Source, part, client.FetchOptions{Progress: m.o.Progress})
	if err != nil {
		result.Err = LocalError("write", pair.Target, err)
		return result
	}
	result.Bytes, result.Err = fetched.Length, part.commit()
	return result
}

// getSpecial writes a file into a device or a pipe.
func (m *mover) getSpecial(ctx context.Context, pair Pair) (int64, error) {
	reader, err := m.client.Open(ctx, pair.Source)
	if err != nil {
		return 0, err
	}
	defer func() { _ = reader.Close() }() // read only
	file, err := os.OpenFile(pair.Target, os.O_WRONLY, 0)
	if err != nil {
		return 0, LocalError("write", pair.Target, err)
	}
	n, err := CopyStream(ctx, file, reader, m.o.Progress)
	if e := file.Close(); err == nil {
		err = e
	}
	return n, LocalError("write", pair.Target, err)
}
