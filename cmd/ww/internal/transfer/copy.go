package transfer

import (
	"context"
	"path"
	"strings"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Copy copies files and trees within the cluster; the bytes go from datanode to datanode. It returns an error only
// if ctx ended; what became of each file comes through o.Done.
func Copy(ctx context.Context, woods *client.Client, pairs []Pair, options Options) error {
	return run(ctx, woods, options, func(ctx context.Context, transfer *mover) {
		for _, pair := range pairs {
			source, target := path.Clean(pair.Source), path.Clean(pair.Target)
			info, err := woods.Stat(ctx, pair.Source)
			refuse := func(kind fault.Kind, reason, hint string) {
				err = &fault.Error{Kind: kind, Path: pair.Source, Reason: reason, Hint: hint}
			}
			switch {
			case err != nil:
			case source == target:
				refuse(fault.Invalid, "source and target are the same", "")
			case info.Directory && !options.Recursive:
				refuse(fault.IsDirectory, "is a directory", "use -r to copy it with everything in it")
			case info.Directory && strings.HasPrefix(target, strings.TrimSuffix(source, "/")+"/"):
				refuse(fault.Invalid, "the target is inside of the source", "")
			}
			if err != nil {
				transfer.failed(pair, err)
				continue
			}
			transfer.copyAny(ctx, info, pair)
		}
	})
}

func (m *mover) copyAny(ctx context.Context, info client.FileInfo, pair Pair) {
	if !info.Directory {
		m.submit(ctx, info.Length, func(ctx context.Context) Result { return m.copyFile(ctx, pair) })
		return
	}
	err := m.client.Mkdir(ctx, pair.Target, client.MkdirOptions{Parents: m.o.Parents})
	if err != nil {
		err = m.isDirectory(ctx, pair.Target, err) // copying into what is there
	}
	m.finish(Result{Pair: pair, Directory: true, Err: err})
	if err == nil {
		m.each(ctx, pair, path.Join, func(entry client.FileInfo, child Pair) { m.copyAny(ctx, entry, child) })
	}
}

// copyFile has the datanodes copy a file. The copy keeps the source's
// replication and chunk size unless the options say otherwise.
func (m *mover) copyFile(ctx context.Context, pair Pair) Result {
	copied, err := m.client.Copy(ctx, pair.Source, pair.Target,
		client.CopyOptions{CreateOptions: m.createOptions(), Progress: m.o.Progress})
	return Result{Pair: pair, Bytes: copied.Length, Err: err}
}
