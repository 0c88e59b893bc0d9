package transfer

import (
	"context"
	"path"
	"strings"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Copy copies files and trees within the cluster; the bytes go from datanode to
// datanode. It returns an error only if ctx ended; what became of each file
// comes through o.Done.
func Copy(ctx context.Context, c *client.Client, pairs []Pair, o Options) error {
	return run(ctx, c, o, func(ctx context.Context, m *mover) {
		for _, p := range pairs {
			source, target := path.Clean(p.Source), path.Clean(p.Target)
			info, err := c.Stat(ctx, p.Source)
			refuse := func(kind fault.Kind, reason, hint string) {
				e := fault.New(kind, "", "%s", reason)
				e.Path, e.Hint = p.Source, hint
				err = e
			}
			switch {
			case err != nil:
			case source == target:
				refuse(fault.Invalid, "source and target are the same", "")
			case info.Directory && !o.Recursive:
				refuse(fault.IsDirectory, "is a directory", "use -r to copy it with everything in it")
			case info.Directory && strings.HasPrefix(target, strings.TrimSuffix(source, "/")+"/"):
				refuse(fault.Invalid, "the target is inside of the source", "")
			}
			if err != nil {
				m.finish(Result{Source: p.Source, Target: p.Target, Err: err})
				continue
			}
			m.copyAny(ctx, info, p)
		}
	})
}

func (m *mover) copyAny(ctx context.Context, info client.FileInfo, p Pair) {
	if !info.Directory {
		m.submit(ctx, info.Length, func(ctx context.Context) Result { return m.copyFile(ctx, p) })
		return
	}
	err := m.client.Mkdir(ctx, p.Target, client.MkdirOptions{Parents: m.o.Parents})
	if err != nil {
		err = m.isDirectory(ctx, p.Target, err) // copying into what is there
	}
	m.finish(Result{Source: p.Source, Target: p.Target, Directory: true, Err: err})
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
		m.copyAny(ctx, entry, Pair{Source: path.Join(p.Source, entry.Name), Target: path.Join(p.Target, entry.Name)})
	}
}

// copyFile has the datanodes copy a file. The copy keeps the source's
// replication and chunk size unless the options say otherwise.
func (m *mover) copyFile(ctx context.Context, p Pair) Result {
	copied, err := m.client.Copy(ctx, p.Source, p.Target, client.CopyOptions{CreateOptions: m.createOptions(), Progress: m.o.Progress})
	return Result{Source: p.Source, Target: p.Target, Bytes: copied.Length, Err: err}
}
