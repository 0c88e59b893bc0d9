package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/whispering-woods/ww/internal/fault"
)

// FS is a read-only io/fs view of the cluster's tree. It also implements fs.ReadDirFS, fs.StatFS, fs.ReadFileFS and
// fs.SubFS. ctx ends every operation of it and of the files it opens. Its errors are *fs.PathError that match
// fs.ErrNotExist and its like, and the fault's kind.
func (c *Client) FS(ctx context.Context) fs.FS { return tree{c, ctx, "/"} }

// tree is the view below one directory.
type tree struct {
	client *Client
	ctx    context.Context
	root   string // clean, absolute
}

var (
	_ fs.ReadDirFS  = tree{}
	_ fs.StatFS     = tree{}
	_ fs.ReadFileFS = tree{}
	_ fs.SubFS      = tree{}
)

// at turns a name of io/fs into a path of the cluster.
func (t tree) at(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return t.root, nil
	}
	return childPath(t.root, name), nil
}

// Open opens a file or directory.
func (t tree) Open(name string) (fs.File, error) {
	absolute, err := t.at("open", name)
	if err != nil {
		return nil, err
	}
	info, err := t.client.Stat(t.ctx, absolute)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if info.Directory {
		return &ioDirectory{tree: t, name: name, info: info}, nil
	}
	r, err := t.client.Open(t.ctx, absolute)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &ioFile{name: name, reader: r, info: info}, nil
}

// Stat describes a file or directory.
func (t tree) Stat(name string) (fs.FileInfo, error) {
	p, err := t.at("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := t.client.Stat(t.ctx, p)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return namedInfo(info, name), nil
}

// ReadDir lists a directory in the order of its names.
func (t tree) ReadDir(name string) ([]fs.DirEntry, error) {
	p, err := t.at("readdir", name)
	if err != nil {
		return nil, err
	}
	infos, err := t.client.ReadDir(t.ctx, p)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	entries := make([]fs.DirEntry, 0, len(infos))
	for _, info := range infos {
		entries = append(entries, fs.FileInfoToDirEntry(info.FS()))
	}
	return entries, nil
}

// ReadFile reads a whole file.
func (t tree) ReadFile(name string) ([]byte, error) {
	p, err := t.at("readfile", name)
	if err != nil {
		return nil, err
	}
	r, err := t.client.Open(t.ctx, p)
	if err != nil {
		return nil, pathError("readfile", name, err)
	}
	content := make([]byte, r.view.Length())
	n, err := r.ReadAt(content, 0)
	// The file was cut meanwhile, or is empty.
	if err == io.EOF { //nolint:errorlint // only the bare io.EOF is an end; a wrapped one is a failure
		err = nil
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, pathError("readfile", name, err)
	}
	return content[:n], nil
}

// Sub is the view below a directory.
func (t tree) Sub(name string) (fs.FS, error) {
	p, err := t.at("sub", name)
	if err != nil {
		return nil, err
	}
	return tree{t.client, t.ctx, p}, nil
}

// namedInfo is the io/fs view under the name that the caller used: the root of a view is ".".
func namedInfo(info FileInfo, name string) fs.FileInfo {
	if name == "." {
		info.Name = ""
	} else {
		info.Name = path.Base(name)
	}
	return info.FS()
}

// ioFile is an open file of a view.
type ioFile struct {
	name   string
	reader *FileReader
	info   FileInfo
}

var (
	_ io.ReadSeeker = (*ioFile)(nil)
	_ io.ReaderAt   = (*ioFile)(nil)
	_ io.WriterTo   = (*ioFile)(nil)
)

func (f *ioFile) Stat() (fs.FileInfo, error) { return namedInfo(f.info, f.name), nil }
func (f *ioFile) Close() error               { return pathError("close", f.name, f.reader.Close()) }

func (f *ioFile) Read(p []byte) (int, error) {
	n, err := f.reader.Read(p)
	return n, pathError("read", f.name, err)
}

func (f *ioFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.reader.ReadAt(p, offset)
	return n, pathError("read", f.name, err)
}

func (f *ioFile) WriteTo(w io.Writer) (int64, error) {
	n, err := f.reader.WriteTo(w)
	return n, pathError("read", f.name, err)
}

func (f *ioFile) Seek(offset int64, whence int) (int64, error) {
	n, err := f.reader.Seek(offset, whence)
	return n, pathError("seek", f.name, err)
}

// ioDirectory is an open directory of a view. It lists when first asked.
type ioDirectory struct {
	tree    tree
	name    string
	info    FileInfo
	listed  bool
	entries []fs.DirEntry // not yet returned
	closed  bool
}

var _ fs.ReadDirFile = (*ioDirectory)(nil)

func (d *ioDirectory) Stat() (fs.FileInfo, error) { return namedInfo(d.info, d.name), nil }

func (d *ioDirectory) Read([]byte) (int, error) {
	return 0, pathError("read", d.name, &fault.Error{Kind: fault.IsDirectory, Op: "read", Path: d.info.Path})
}

func (d *ioDirectory) Close() error {
	d.closed = true
	return nil
}

func (d *ioDirectory) ReadDir(count int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: fs.ErrClosed}
	}
	if !d.listed {
		entries, err := d.tree.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.entries, d.listed = entries, true
	}
	take := len(d.entries)
	if count > 0 {
		if take == 0 {
			return nil, io.EOF
		}
		take = min(take, count)
	}
	out := d.entries[:take:take]
	d.entries = d.entries[take:]
	return out, nil
}

// pathError wraps an error for io/fs; io.EOF and nil stay as they are.
func pathError(op, name string, err error) error {
	var already *fs.PathError
	if err == nil || err == io.EOF || errors.As(err, &already) { //nolint:errorlint // a wrapped io.EOF is a failure
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: ioError{err}}
}

// ioError makes a fault match the errors of io/fs.
type ioError struct{ error }

func (e ioError) Unwrap() error { return e.error }

func (e ioError) Is(target error) bool {
	switch fault.KindOf(e.error) {
	case fault.NotFound:
		return target == fs.ErrNotExist
	case fault.Exists:
		return target == fs.ErrExist
	case fault.Invalid:
		return target == fs.ErrInvalid
	case fault.Closed:
		return target == fs.ErrClosed
	}
	return false
}
