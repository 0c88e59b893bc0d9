package disk

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Names inside a volume, beside chunkfile.Directory.
const (
	trashDirectory      = "trash"
	quarantineDirectory = "quarantine"
	packsDirectory      = "packs"
	identityName        = "identity"
	lockName            = "lock"

	forgottenSuffix = ".forgotten" // in quarantine: kept for people, no longer reported
)

// volume is one directory, normally one disk.
type volume struct {
	*env
	directory string
	id        string
	logger    *slog.Logger
	identity  volumeIdentity // guarded by membership.mu after Open
	lock      io.Closer
	workers   []*worker
	packs     *pack.Set
	replicas  atomic.Int64  // in the index, all states
	serial    atomic.Uint32 // for parked names

	// What StatFS said last, for those who must not ask.
	free   atomic.Int64 // bytes
	freeAt atomic.Int64 // when, in Unix nanoseconds; 0: never

	health struct {
		sync.Mutex
		errors    int
		unhealthy bool
		last      string
	}
}

// openVolume makes the directories, takes the lock and reads the identity; a volume without one is new and
// gets it later, from the store. The caller closes the result's lock.
func openVolume(e *env, directory string) (_ *volume, err error) {
	const op = "open volume"
	volume := &volume{env: e, directory: directory, logger: e.options.Logger.With("volume", directory)}
	if err := makeDirectory(volume.fs, directory); err != nil {
		return nil, diskError(op, directory, chunk.ID{}, err)
	}
	volume.lock, err = volume.fs.Lock(path.Join(directory, lockName))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &fault.Error{Kind: fault.Busy, Op: op, Path: directory, Reason: "another process uses this volume",
			Hint: "stop it, or give this one its own directory"}
	}
	if err != nil {
		return nil, diskError(op, directory, chunk.ID{}, err)
	}
	if err := volume.load(); err != nil {
		return nil, errors.Join(err, volume.lock.Close())
	}
	return volume, nil
}

// load reads the identity and completes the tree of directories.
func (v *volume) load() error {
	const op = "open volume"
	identity, known, err := readIdentity(v.fs, v.directory)
	if err != nil {
		return err
	}
	v.identity = identity
	if !known {
		used, err := v.hasReplicas()
		if err != nil {
			return diskError(op, v.directory, chunk.ID{}, err)
		}
		if used {
			return &fault.Error{Kind: fault.Invalid, Op: op, Path: v.directory,
				Reason: "the directory holds chunks but no identity file, so nobody knows whose they are",
				Hint: "restore " + identityName + " from another volume of this node, with this volume's id, " +
					"or move the directory away"}
		}
	}
	if err := v.makeTree(); err != nil {
		return diskError(op, v.directory, chunk.ID{}, err)
	}
	return nil
}

// makeTree makes the volume's directories, durably. A tree that is there costs one listing.
func (v *volume) makeTree() error {
	chunks := path.Join(v.directory, chunkfile.Directory)
	if err := v.fs.MkdirAll(chunks, 0o755); err != nil {
		return err
	}
	present, err := v.fs.ReadDir(chunks)
	if err != nil {
		return err
	}
	have := make(map[string]bool, len(present))
	for _, entry := range present {
		have[entry.Name()] = true
	}
	complete := true
	for last := range 256 {
		if name := chunkfile.Shard(byte(last)); !have[name] {
			complete = false
			if err := v.fs.MkdirAll(path.Join(chunks, name), 0o755); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{trashDirectory, quarantineDirectory, packsDirectory} {
		if err := v.fs.MkdirAll(path.Join(v.directory, name), 0o755); err != nil {
			return err
		}
	}
	// Without an identity the directories may be the unsynced ones of a start that was cut off.
	if complete && v.identity.NodeID != "" {
		return nil
	}
	if err := v.fs.SyncDir(chunks); err != nil {
		return err
	}
	return v.fs.SyncDir(v.directory)
}

// hasReplicas reports whether there is any file below packs or chunks.
func (v *volume) hasReplicas() (bool, error) {
	segments, err := v.fs.ReadDir(path.Join(v.directory, packsDirectory))
	if len(segments) > 0 || (err != nil && !errors.Is(err, fs.ErrNotExist)) {
		return len(segments) > 0, err
	}
	chunks := path.Join(v.directory, chunkfile.Directory)
	shards, err := v.fs.ReadDir(chunks)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, d := range shards {
		files, err := v.fs.ReadDir(path.Join(chunks, d.Name()))
		if err != nil || len(files) > 0 {
			return len(files) > 0, err
		}
	}
	return false, nil
}

// makeDirectory is a MkdirAll whose new entries are durable on return.
func makeDirectory(fsys vfs.FS, directory string) error {
	var missing []string
	for d := path.Clean(directory); ; d = path.Dir(d) {
		if _, err := fsys.Stat(d); err == nil || path.Dir(d) == d {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
	}
	if err := fsys.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	for _, d := range missing {
		if err := fsys.SyncDir(path.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// path of something in the volume.
func (v *volume) path(relative string) string { return path.Join(v.directory, relative) }

// park moves a file of the volume into its trash or quarantine and returns the new name. The move is not
// durable yet.
func (v *volume) park(directory, relative string, name chunkfile.ParkedName) (string, error) {
	name.Serial = v.serial.Add(1)
	parked := path.Join(directory, name.String())
	return parked, v.fs.Rename(v.path(relative), v.path(parked))
}

// workerOf is the worker that all jobs of a chunk run on.
func (v *volume) workerOf(id chunk.ID) *worker {
	return v.workers[xxh3.Hash(id[:])%uint64(len(v.workers))]
}

// noteError counts an I/O error against the volume. A read-only file system makes it unhealthy at once, a
// full disk or a shortage of files does not count.
func (v *volume) noteError(err error) {
	if vfs.IsFull(err) || vfs.IsShortage(err) {
		return
	}
	v.health.Lock()
	defer v.health.Unlock()
	v.health.errors++
	v.health.last = err.Error()
	if !v.health.unhealthy && (v.health.errors >= volumeErrorsMax || errors.Is(err, syscall.EROFS)) {
		v.health.unhealthy = true
		v.logger.Error("volume is unhealthy, no new replicas go there", "errors", v.health.errors, "err", err)
	}
}

func (v *volume) healthy() (ok bool, last string) {
	v.health.Lock()
	defer v.health.Unlock()
	return !v.health.unhealthy, v.health.last
}
