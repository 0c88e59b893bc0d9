package logserver

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

// Names of checkpoints inside a log server's directory: 20 digits of the txid
// and one of the endings. A received one is raft's snapshot too: its peer's log
// no longer held what this server's lacked, so this log begins behind it.
const (
	checkpointDirectory = "checkpoints"
	checkpointEnding    = ".checkpoint"
	receivedEnding      = ".received"
	temporaryEnding     = ".tmp"
)

func checkpointName(txid uint64, received bool) string {
	ending := checkpointEnding
	if received {
		ending = receivedEnding
	}
	return fmt.Sprintf("%020d%s", txid, ending)
}

// checkpoints are those in one directory.
type checkpoints struct {
	fs     vfs.FS
	dir    string
	logger *slog.Logger
	// changing is held while a file gets its name, is removed, or the log is cut.
	changing sync.Mutex

	mu struct {
		sync.Mutex
		files     []checkpointFile // rising in txid
		temporary int              // number of the last temporary name
	}
}

// openCheckpoints looks at what is there, head and end of each file, and
// removes what was never finished. Errors: fault.Disk; damage is kept with the
// file.
func openCheckpoints(fsys vfs.FS, directory string, logger *slog.Logger) (*checkpoints, error) {
	const op = "open checkpoints"
	c := &checkpoints{fs: fsys, dir: filepath.Join(directory, checkpointDirectory), logger: logger}
	if err := fsys.MkdirAll(c.dir, 0o755); err != nil {
		return nil, diskFault(op, err)
	}
	if err := fsys.SyncDir(directory); err != nil {
		return nil, diskFault(op, err)
	}
	list, err := fsys.ReadDir(c.dir)
	if err != nil {
		return nil, diskFault(op, err)
	}
	for _, item := range list {
		if strings.HasSuffix(item.Name(), temporaryEnding) {
			if err := fsys.Remove(filepath.Join(c.dir, item.Name())); err != nil {
				return nil, diskFault(op, err)
			}
		}
	}
	if c.mu.files, err = listCheckpoints(fsys, directory, glanceAtCheckpoint); err != nil {
		return nil, err
	}
	for _, f := range c.mu.files {
		if f.damage != nil {
			logger.Error("a checkpoint is damaged and is not used", "checkpoint", f.name, "err", f.damage)
		}
	}
	return c, nil
}

// listCheckpoints gives the checkpoints in a log server's directory, rising in
// txid; look is how well each is read. None if there is no such directory.
func listCheckpoints(fsys vfs.FS, directory string, look func(vfs.FS, string) (checkpointFile, error)) ([]checkpointFile, error) {
	dir := filepath.Join(directory, checkpointDirectory)
	list, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskFault("read checkpoints", err)
	}
	var files []checkpointFile
	for _, item := range list {
		var txid uint64
		received := strings.HasSuffix(item.Name(), receivedEnding)
		if _, err := fmt.Sscanf(item.Name(), "%020d", &txid); err != nil || item.Name() != checkpointName(txid, received) {
			continue
		}
		f, err := look(fsys, filepath.Join(dir, item.Name()))
		switch {
		case err == nil && f.head.txid != txid:
			err = badCheckpoint("%s: its head is that of txid %d", item.Name(), f.head.txid)
		case err == nil:
			_, err = f.head.configuration()
		}
		f.name, f.head.txid, f.received, f.damage = item.Name(), txid, received, err
		files = append(files, f)
	}
	slices.SortFunc(files, byTxid)
	return files, nil
}

func byTxid(a, b checkpointFile) int {
	return cmp.Or(cmp.Compare(a.head.txid, b.head.txid), strings.Compare(a.name, b.name))
}

// usable gives the good ones that a log beginning with raft entry first goes on
// behind, the newest first.
func (c *checkpoints) usable(first uint64) []checkpointFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	return usableOf(c.mu.files, first)
}

// usableOf gives the newest first.
func usableOf(files []checkpointFile, first uint64) []checkpointFile {
	var out []checkpointFile
	for _, f := range slices.Backward(files) {
		if f.damage == nil && f.head.index+1 >= first {
			out = append(out, f)
		}
	}
	return out
}

// received is the highest index that a peer's checkpoint covers; 0: there is none.
func (c *checkpoints) received() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := uint64(0)
	for _, f := range c.mu.files {
		if f.received && f.damage == nil {
			most = max(most, f.head.index)
		}
	}
	return most
}

// term is that of the raft entry which a received checkpoint stands for.
func (c *checkpoints) term(index uint64) (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.mu.files {
		if f.received && f.damage == nil && f.head.index == index {
			return f.head.term, true
		}
	}
	return 0, false
}

// all gives every one, the newest first.
func (c *checkpoints) all() []checkpointFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.mu.files)
	slices.Reverse(out)
	return out
}

// find gives the one with a name.
func (c *checkpoints) find(name string) (checkpointFile, bool) {
	for _, f := range c.all() {
		if f.name == name {
			return f, true
		}
	}
	return checkpointFile{}, false
}

// path of a file.
func (c *checkpoints) path(f checkpointFile) string { return filepath.Join(c.dir, f.name) }

// create begins a file under a temporary name. Errors: fault.Disk,
// fault.NoSpace.
func (c *checkpoints) create() (*checkpointWriter, error) {
	c.mu.Lock()
	c.mu.temporary++
	path := filepath.Join(c.dir, fmt.Sprintf("%d%s", c.mu.temporary, temporaryEnding))
	c.mu.Unlock()
	file, err := c.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, diskFault("write checkpoint", err)
	}
	return &checkpointWriter{fs: c.fs, path: path, file: file}, nil
}

// publish makes a written file count, durably, unless check refuses what is in
// it. received: a peer sent it, in the place of this log's beginning.
func (c *checkpoints) publish(w *checkpointWriter, received bool, check func(*checkpointHead) error) (checkpointFile, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	f, err := w.publish(received, check)
	if err != nil {
		return f, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.files = slices.DeleteFunc(c.mu.files, func(old checkpointFile) bool { return old.name == f.name })
	c.mu.files = append(c.mu.files, f)
	slices.SortFunc(c.mu.files, byTxid)
	return f, nil
}

// retire removes the checkpoints before the older of the two newest good ones,
// after cut has removed the log in front of that one's index: first is the raft
// entry with which the log begins. It does nothing while there are not two.
func (c *checkpoints) retire(first uint64, cut func(kept checkpointFile) error) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	kept, ok := c.kept(first)
	if !ok {
		return nil
	}
	if err := cut(kept); err != nil {
		return err
	}
	return c.prune(kept)
}

// roomFor refuses a checkpoint that would leave less than reserve free bytes on
// the disk.
func (c *checkpoints) roomFor(reserve int64) error {
	space, err := c.fs.StatFS(c.dir)
	if err != nil {
		return diskFault("write checkpoint", err)
	}
	if space.Free < reserve {
		return fault.New(fault.NoSpace, "write checkpoint", "%d bytes are free, %d are kept for the log", space.Free, reserve)
	}
	return nil
}

// open opens a file for reading; verified: having read all of it.
func (c *checkpoints) open(f checkpointFile, verified bool) (vfs.File, error) {
	if verified {
		if _, err := verifyCheckpoint(c.fs, c.path(f)); err != nil {
			c.damaged(f.name, err)
			return nil, err
		}
	}
	file, err := c.fs.OpenFile(c.path(f), os.O_RDONLY, 0)
	return file, diskFault("read checkpoint", err)
}

// unreadable remembers that a namenode cannot read the checkpoint of a txid.
func (c *checkpoints) unreadable(txid uint64) {
	for _, received := range []bool{false, true} {
		c.damaged(checkpointName(txid, received), badCheckpoint("the namenode cannot read it"))
	}
}

// damaged remembers that a file cannot be read.
func (c *checkpoints) damaged(name string, err error) {
	c.mu.Lock()
	first := false
	for i := range c.mu.files {
		if f := &c.mu.files[i]; f.name == name && f.damage == nil {
			f.damage, first = err, true
		}
	}
	c.mu.Unlock()
	if first {
		c.logger.Error("a checkpoint is damaged and is not used any more", "checkpoint", name, "err", err)
	}
}

// kept gives the older of the two newest good checkpoints, having read all of
// it: the log in front of its index, and every checkpoint before it, may go.
// False if there are not two, or nothing is in front. changing is held.
func (c *checkpoints) kept(first uint64) (checkpointFile, bool) {
	usable := c.usable(first)
	if len(usable) < checkpointsKept {
		return checkpointFile{}, false
	}
	if older := usable[checkpointsKept-1]; older.head.index <= first && older.name == c.oldest() {
		return checkpointFile{}, false // all is done
	}
	for i, f := range usable {
		if i < checkpointsKept-1 {
			continue // verified when it was published, or it is the next one's reserve
		}
		if _, err := verifyCheckpoint(c.fs, c.path(f)); err != nil {
			c.damaged(f.name, err)
			continue
		}
		return f, true
	}
	return checkpointFile{}, false
}

// oldest is the name of the oldest file; "" if there is none.
func (c *checkpoints) oldest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.files) == 0 {
		return ""
	}
	return c.mu.files[0].name
}

// prune removes the files in front of the one that is kept, damaged ones too.
// changing is held.
func (c *checkpoints) prune(kept checkpointFile) error {
	c.mu.Lock()
	n := slices.IndexFunc(c.mu.files, func(f checkpointFile) bool { return f.name == kept.name })
	gone := slices.Clone(c.mu.files[:max(n, 0)])
	c.mu.Unlock()
	for _, f := range gone {
		if err := c.fs.Remove(c.path(f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return diskFault("remove checkpoint", err)
		}
		c.mu.Lock()
		c.mu.files = slices.DeleteFunc(c.mu.files, func(old checkpointFile) bool { return old.name == f.name })
		c.mu.Unlock()
	}
	return nil
}
