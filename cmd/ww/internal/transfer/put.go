package transfer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// Pair is one source with the name it gets.
type Pair struct{ Source, Target string }

// Put stores local files and trees. It returns an error only if ctx ended;
// what became of each file comes through o.Done.
func Put(ctx context.Context, woods *client.Client, pairs []Pair, options Options) error {
	return run(ctx, woods, options, func(ctx context.Context, transfer *mover) {
		for _, pair := range pairs {
			transfer.putAny(ctx, pair)
		}
	})
}

func (m *mover) putAny(ctx context.Context, pair Pair) {
	info, err := os.Stat(pair.Source)
	switch {
	case err != nil:
		m.failed(pair, LocalError("read", pair.Source, err))
	case info.IsDir() && !m.o.Recursive:
		m.failed(pair, &fault.Error{Kind: fault.IsDirectory, Path: pair.Source, Reason: "is a directory",
			Hint: "use -r to store it with everything in it"})
	case info.IsDir():
		m.putTree(ctx, pair)
	default:
		m.submit(ctx, sizeOf(info), func(ctx context.Context) Result { return m.putFile(ctx, pair) })
	}
}

func sizeOf(info fs.FileInfo) int64 {
	if info.Mode().IsRegular() {
		return info.Size()
	}
	return 0
}

// putTree walks a local directory. Links are followed to files; a link to a
// directory is refused, since it could lead round in a circle.
func (m *mover) putTree(ctx context.Context, root Pair) {
	if resolved, err := filepath.EvalSymlinks(root.Source); err == nil {
		root.Source = resolved // the walk does not follow a link, not even this one
	}
	_ = filepath.WalkDir(root.Source, func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return fs.SkipAll
		}
		pair := Pair{Source: name, Target: root.Target}
		if relative, e := filepath.Rel(root.Source, name); e == nil && relative != "." {
			pair.Target = path.Join(root.Target, filepath.ToSlash(relative))
		}
		if err != nil {
			m.failed(pair, LocalError("read", name, err))
			return fs.SkipDir
		}
		if entry.IsDir() {
			err := m.client.Mkdir(ctx, pair.Target, client.MkdirOptions{Parents: m.o.Parents || name != root.Source})
			if name == root.Source && errors.Is(err, fault.Exists) {
				err = m.isDirectory(ctx, pair.Target, err) // storing into what is there
			}
			m.finish(Result{Pair: pair, Directory: true, Err: err})
			if err != nil {
				return fs.SkipDir
			}
			return nil
		}
		info, err := os.Stat(name)
		if err == nil && info.IsDir() {
			err = &fault.Error{Kind: fault.Invalid, Path: name,
				Reason: "is a link to a directory, which is not followed"}
		}
		if err == nil && !info.Mode().IsRegular() {
			err = &fault.Error{Kind: fault.Invalid, Path: name, Reason: "is neither a file nor a directory"}
		}
		if err != nil {
			m.failed(pair, LocalError("read", name, err))
			return nil
		}
		m.submit(ctx, info.Size(), func(ctx context.Context) Result { return m.putFile(ctx, pair) })
		return nil
	}) // every error was reported where it happened
}

// isDirectory returns nil if the path is a directory of the cluster, and otherwise the error given.
func (m *mover) isDirectory(ctx context.Context, path string, otherwise error) error {
	if info, err := m.client.Stat(ctx, path); err == nil && info.Directory {
		return nil
	}
	return otherwise
}

// putFile stores one local file: in parallel chunks if its size is known, as a stream if it is a pipe or a device.
func (m *mover) putFile(ctx context.Context, pair Pair) Result {
	result := Result{Pair: pair}
	file, err := os.Open(pair.Source)
	if err != nil {
		result.Err = LocalError("read", pair.Source, err)
		return result
	}
	defer file.Close() // read only
	info, err := file.Stat()
	if err != nil {
		result.Err = LocalError("read", pair.Source, err)
		return result
	}
	if !info.Mode().IsRegular() {
		result.Bytes, result.SlowNodes, result.Err = PutStream(ctx, m.client, file, pair.Target, m.o)
		return result
	}
	var slow slowNodes
	stored, err := m.client.Store(ctx, pair.Target, file, info.Size(),
		client.StoreOptions{CreateOptions: m.createOptions(), Progress: m.o.Progress, Slow: slow.add})
	result.SlowNodes = slow.list()
	result.Bytes, result.Err = stored.Length, LocalError("read", pair.Source, err)
	return result
}

// PutStream stores what the source gives until its end, as one file that appears when it is complete. It returns
// the bytes stored, and the nodes that held it up and were replaced.
func PutStream(
	ctx context.Context, woods *client.Client, source io.Reader, target string, options Options,
) (int64, []client.SlowNode, error) {
	transfer := &mover{o: options}
	writer, err := woods.Create(ctx, target, transfer.createOptions())
	if err != nil {
		return 0, nil, err
	}
	n, err := CopyStream(ctx, writer, source, options.Progress)
	if err == nil {
		err = writer.Close()
	}
	if err != nil {
		_ = writer.Abort() // the first error is the one to tell; the file was never visible
	}
	return n, writer.SlowNodes(), err
}

// slowNodes collects what several goroutines tell, each node once.
type slowNodes struct {
	mu    sync.Mutex
	nodes []client.SlowNode
}

func (s *slowNodes) add(n client.SlowNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.nodes, func(m client.SlowNode) bool { return m.NodeID == n.NodeID }) {
		s.nodes = append(s.nodes, n)
	}
}

func (s *slowNodes) list() []client.SlowNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes
}

// streamBytes is the buffer of a copied stream.
const streamBytes = 1 << 20

// CopyStream copies until the source ends or ctx does, even while a Read of
// the source blocks; that Read is then left behind.
func CopyStream(ctx context.Context, target io.Writer, source io.Reader, progress func(int64)) (int64, error) {
	type piece struct {
		n   int
		err error
	}
	buffer := make([]byte, streamBytes)
	pieces := make(chan piece, 1)
	var total int64
	for {
		go func() {
			n, err := source.Read(buffer)
			pieces <- piece{n, err}
		}()
		var got piece
		select {
		case got = <-pieces:
		case <-ctx.Done():
			return total, ctx.Err()
		}
		n, err := target.Write(buffer[:got.n])
		total += int64(n)
		if progress != nil {
			progress(int64(n))
		}
		if err != nil {
			return total, err
		}
		if errors.Is(got.err, io.EOF) {
			return total, nil
		}
		if got.err != nil {
			return total, LocalError("read", "", got.err)
		}
	}
}
