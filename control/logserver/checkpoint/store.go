package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Names of checkpoints inside a log server's directory: 20 digits of the txid and one of the suffixes. A received one
// is raft's snapshot too: its peer's log no longer held what this server's lacked, so this log begins behind it.
const (
	Directory       = "checkpoints"
	uploadedSuffix  = ".checkpoint"
	receivedSuffix  = ".received"
	temporarySuffix = ".tmp"
)

// Name is the file name of a checkpoint.
func Name(txid uint64, received bool) string {
	suffix := uploadedSuffix
	if received {
		suffix = receivedSuffix
	}
	return fmt.Sprintf("%020d%s", txid, suffix)
}

// Store is the checkpoints of one log server's directory. Safe for concurrent use.
type Store struct {
	fs       vfs.FS
	dir      string
	logger   *slog.Logger
	changing sync.Mutex // held while a file gets its name, is removed, or the log is cut

	mu struct {
		sync.Mutex
		files     []File // rising in txid
		temporary int    // number of the last temporary name
	}
}

// OpenStore looks at what is there, head and end of each file, and removes what was never finished. Errors:
// fault.Disk; damage is kept with the file.
func OpenStore(fsys vfs.FS, directory string, logger *slog.Logger) (*Store, error) {
	const op = "open checkpoints"
	store := &Store{fs: fsys, dir: filepath.Join(directory, Directory), logger: logger}
	if err := fsys.MkdirAll(store.dir, 0o755); err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	if err := fsys.SyncDir(directory); err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	list, err := fsys.ReadDir(store.dir)
	if err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	for _, item := range list {
		if strings.HasSuffix(item.Name(), temporarySuffix) {
			if err := fsys.Remove(filepath.Join(store.dir, item.Name())); err != nil {
				return nil, vfs.FaultOf(op, err)
			}
		}
	}
	if store.mu.files, err = List(fsys, directory, Glance); err != nil {
		return nil, err
	}
	for _, f := range store.mu.files {
		if f.Damage != nil {
			logger.Error("a checkpoint is damaged and is not used", "checkpoint", f.Name, "err", f.Damage)
		}
	}
	return store, nil
}

// List returns the checkpoints in a log server's directory, rising in
// txid; look is how well each is read. None if there is no such directory.
func List(fsys vfs.FS, directory string, look func(vfs.FS, string) (File, error)) ([]File, error) {
	dir := filepath.Join(directory, Directory)
	list, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, vfs.FaultOf("read checkpoints", err)
	}
	var files []File
	for _, item := range list {
		var txid uint64
		received := strings.HasSuffix(item.Name(), receivedSuffix)
		if _, err := fmt.Sscanf(item.Name(), "%020d", &txid); err != nil || item.Name() != Name(txid, received) {
			continue
		}
		f, err := look(fsys, filepath.Join(dir, item.Name()))
		switch {
		case err == nil && f.Head.Txid != txid:
			err = corrupt("%s: its head is that of txid %d", item.Name(), f.Head.Txid)
		case err == nil:
			_, err = f.Head.Configuration()
		}
		f.Name, f.Head.Txid, f.Received, f.Damage = item.Name(), txid, received, err
		files = append(files, f)
	}
	slices.SortFunc(files, byTxid)
	return files, nil
}

func byTxid(a, b File) int {
	return cmp.Or(cmp.Compare(a.Head.Txid, b.Head.Txid), strings.Compare(a.Name, b.Name))
}

// Usable returns the good ones that a log beginning with raft entry first continues, the newest first.
func (c *Store) Usable(first uint64) []File {
	return slices.DeleteFunc(c.All(), func(f File) bool { return !f.Usable(first) })
}

// Received is the highest index that a peer's good checkpoint covers; 0: there is
// none. The entries of a log up to there may be missing.
func Received(files []File) uint64 {
	most := uint64(0)
	for _, f := range files {
		if f.Received && f.Damage == nil {
			most = max(most, f.Head.Index)
		}
	}
	return most
}

// Term is that of the raft entry which a received checkpoint stands for.
func (c *Store) Term(index uint64) (uint64, bool) {
	for _, f := range c.All() {
		if f.Received && f.Damage == nil && f.Head.Index == index {
			return f.Head.Term, true
		}
	}
	return 0, false
}

// All returns all of them, the newest first.
func (c *Store) All() []File {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.mu.files)
	slices.Reverse(out)
	return out
}

// Find returns the one with a name.
func (c *Store) Find(name string) (File, bool) {
	for _, f := range c.All() {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// path of a file.
func (c *Store) path(f File) string { return filepath.Join(c.dir, f.Name) }

// Create begins a file under a temporary name. Errors: fault.Disk, fault.NoSpace.
func (c *Store) Create() (*Writer, error) {
	c.mu.Lock()
	c.mu.temporary++
	path := filepath.Join(c.dir, fmt.Sprintf("%d%s", c.mu.temporary, temporarySuffix))
	c.mu.Unlock()
	file, err := c.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, vfs.FaultOf("write checkpoint", err)
	}
	return &Writer{fs: c.fs, path: path, file: file}, nil
}

// Publish makes a written file count, durably, unless check refuses what is in
// it. received: a peer sent it, in the place of this log's beginning.
func (c *Store) Publish(w *Writer, received bool, check func(*Head) error) (File, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	f, err := w.publish(received, check)
	if err != nil {
		return f, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.files = slices.DeleteFunc(c.mu.files, func(old File) bool { return old.Name == f.Name })
	c.mu.files = append(c.mu.files, f)
	slices.SortFunc(c.mu.files, byTxid)
	return f, nil
}

// Retire removes the checkpoints before the older of the two newest good ones, after cut has removed the log in front
// of that one's index. begins returns the raft entry with which the log begins; it is called when no other call
// publishes or retires a checkpoint, and so cuts the log. Retire does nothing while there are fewer than two.
func (c *Store) Retire(begins func() (uint64, error), cut func(first uint64, kept File) error) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	first, err := begins()
	if err != nil {
		return err
	}
	kept, ok := c.kept(first)
	if !ok {
		return nil
	}
	if err := cut(first, kept); err != nil {
		return err
	}
	return c.prune(kept)
}

// RoomFor refuses a checkpoint that would leave less than reserve free bytes on the disk.
func (c *Store) RoomFor(reserve int64) error {
	space, err := c.fs.StatFS(c.dir)
	if err != nil {
		return vfs.FaultOf("write checkpoint", err)
	}
	if space.Free < reserve {
		return fault.New(fault.NoSpace, "write checkpoint", "%d bytes are free, %d are kept for the log", space.Free,
			reserve)
	}
	return nil
}

// Open opens a file for reading; verified: having read all of it.
func (c *Store) Open(f File, verified bool) (vfs.File, error) {
	if verified {
		if _, err := Verify(c.fs, c.path(f)); err != nil {
			c.damaged(f.Name, err)
			return nil, err
		}
	}
	file, err := c.fs.OpenFile(c.path(f), os.O_RDONLY, 0)
	return file, vfs.FaultOf("read checkpoint", err)
}

// Scrub reads all files, and remembers which cannot be read. wait is called with the bytes of each piece; an error of
// wait ends the scrub and is returned. It returns the bytes of content of good files.
func (c *Store) Scrub(wait func(bytes int64) error) (verified int64, err error) {
	for _, file := range c.All() {
		if file.Damage != nil {
			continue
		}
		if err := c.uncache(file); err != nil {
			c.logger.Warn("a checkpoint is verified as the page cache has it", "checkpoint", file.Name, "err", err)
		}
		var stopped error
		_, err := verify(c.fs, c.path(file), func(bytes int64) error {
			stopped = wait(bytes)
			return stopped
		})
		switch {
		case stopped != nil:
			return verified, stopped
		case errors.Is(err, fs.ErrNotExist): // it was retired meanwhile
		case vfs.IsShortage(err): // of this process, which says nothing about the file
			return verified, err
		case err != nil:
			c.damaged(file.Name, err)
		default:
			verified += int64(file.Bytes)
		}
	}
	return verified, nil
}

// uncache has the next reader of a file read from the disk.
func (c *Store) uncache(f File) error {
	file, err := c.fs.OpenFile(c.path(f), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Uncache(0, 0), file.Close())
}

// Unreadable remembers that a namenode cannot read the checkpoint of a txid.
func (c *Store) Unreadable(txid uint64) {
	for _, received := range []bool{false, true} {
		c.damaged(Name(txid, received), corrupt("the namenode cannot read it"))
	}
}

// damaged remembers that a file cannot be read.
func (c *Store) damaged(name string, err error) {
	c.mu.Lock()
	first := false
	for i := range c.mu.files {
		if f := &c.mu.files[i]; f.Name == name && f.Damage == nil {
			f.Damage, first = err, true
		}
	}
	c.mu.Unlock()
	if first {
		c.logger.Error("a checkpoint is damaged and is not used any more", "checkpoint", name, "err", err)
	}
}

// kept returns the older of the two newest good checkpoints, having read all of
// it: the log in front of its index, and every checkpoint before it, may be removed.
// False if there are fewer than two, or nothing is in front. changing is held.
func (c *Store) kept(first uint64) (File, bool) {
	usable, all := c.Usable(first), c.All()
	if len(usable) < KeptCount {
		return File{}, false
	}
	if older := usable[KeptCount-1]; older.Head.Index <= first && older.Name == all[len(all)-1].Name {
		return File{}, false // all is done
	}
	// The newer one was verified when it was published, or is the next one's reserve.
	for _, f := range usable[KeptCount-1:] {
		if _, err := Verify(c.fs, c.path(f)); err != nil {
			c.damaged(f.Name, err)
			continue
		}
		return f, true
	}
	return File{}, false
}

// prune removes the files in front of the one that is kept, damaged ones too. changing is held.
func (c *Store) prune(kept File) error {
	c.mu.Lock()
	n := slices.IndexFunc(c.mu.files, func(f File) bool { return f.Name == kept.Name })
	gone := slices.Clone(c.mu.files[:max(n, 0)])
	c.mu.Unlock()
	for _, f := range gone {
		if err := c.fs.Remove(c.path(f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return vfs.FaultOf("remove checkpoint", err)
		}
		c.mu.Lock()
		c.mu.files = slices.DeleteFunc(c.mu.files, func(old File) bool { return old.Name == f.Name })
		c.mu.Unlock()
	}
	return nil
}
