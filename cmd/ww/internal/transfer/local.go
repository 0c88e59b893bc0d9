package transfer

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

// preallocateBytesMin is the size from which a fetched file's space is taken
// before its bytes travel, so that a full disk is found at once.
const preallocateBytesMin = 1 << 20

// LocalError gives an error of the local file system a kind and the path; an
// error that has a kind already is returned as it is.
func LocalError(operation, path string, err error) error {
	if err == nil || fault.KindOf(err) != 0 {
		return err
	}
	failure := &fault.Error{Kind: fault.Disk, Op: operation, Path: path, Reason: err.Error()}
	var pathError *fs.PathError
	var linkError *os.LinkError
	switch {
	case errors.As(err, &pathError):
		failure.Reason = pathError.Err.Error()
	case errors.As(err, &linkError):
		failure.Reason = linkError.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		failure.Kind = fault.NotFound
	case errors.Is(err, fs.ErrExist):
		failure.Kind, failure.Hint = fault.Exists, "use -f to overwrite"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		failure.Kind = fault.NoSpace
	case errors.Is(err, syscall.ENOTDIR):
		failure.Kind = fault.NotDirectory
	case errors.Is(err, syscall.EISDIR):
		failure.Kind = fault.IsDirectory
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL):
		failure.Kind = fault.Invalid
	}
	return failure
}

// partFile is a local file that gets its name only when it is whole. After
// commit or discard it is done with; discard after commit does nothing.
type partFile struct {
	*os.File
	temporary, target string
	overwrite         bool
	finished          bool
}

// createPart makes a file beside target. size bytes of space are taken now, if that is more than a little. It
// refuses an existing target unless overwrite, and a directory always.
func createPart(target string, size int64, overwrite bool) (*partFile, error) {
	info, err := os.Lstat(target)
	switch {
	case err == nil && info.IsDir():
		return nil, LocalError("create", target, syscall.EISDIR)
	case err == nil && !overwrite:
		return nil, LocalError("create", target, syscall.EEXIST)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, LocalError("create", target, err)
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		if resolved, err := filepath.EvalSymlinks(target); err == nil {
			target = resolved // replace what the link names, as a plain write would
		}
	}
	part := &partFile{target: target, overwrite: overwrite}
	part.temporary = filepath.Join(filepath.Dir(target), ".ww-part-"+rand.Text())
	part.File, err = os.OpenFile(part.temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, LocalError("create", target, err)
	}
	if size >= preallocateBytesMin {
		err := unix.Fallocate(int(part.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			part.discard()
			return nil, LocalError("create", target, err)
		} // others: this file system cannot; the writes will tell
	}
	return part, nil
}

// commit gives the file its name.
func (p *partFile) commit() error {
	if err := p.Close(); err != nil { // delayed write errors (NFS, quota) come here
		p.discard()
		return LocalError("close", p.target, err)
	}
	var err error
	if p.overwrite {
		err = os.Rename(p.temporary, p.target)
	} else {
		err = renameNew(p.temporary, p.target)
	}
	if err != nil {
		p.discard()
		return LocalError("rename", p.target, err)
	}
	p.finished = true
	return nil
}

// discard removes the file unless it was committed.
func (p *partFile) discard() {
	if p.finished {
		return
	}
	p.finished = true
	_ = p.Close()              // its content is not wanted
	_ = os.Remove(p.temporary) // best effort: it has no name that anyone reads
}

// renameNew renames without replacing.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOSYS) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	// This file system cannot promise it; the target was absent a moment ago.
	if _, err := os.Lstat(to); err == nil {
		return syscall.EEXIST
	}
	return os.Rename(from, to)
}

// isSpecial reports whether the path leads to a device, pipe or socket, which is written into and never replaced.
func isSpecial(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && !info.Mode().IsRegular()
}
