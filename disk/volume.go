package disk

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/health"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/disk/scrub"
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
	formatName          = "format-missing" // by the operator: make a missing volume anew
	scrubName           = "scrub"          // how far the scrub came
	probeName           = "probe"          // is written to see whether the disk takes it
	markSuffix          = ".ww-volume"     // beside a mount point, see markPath

	forgottenSuffix = ".forgotten" // in quarantine: kept for people, no longer reported
)

// volume is one directory, normally one disk.
type volume struct {
	*env
	fs        vfs.FS // of this volume: it fails at once when the volume is out of service
	directory string
	id        string
	logger    *slog.Logger
	health    *health.Volume
	identity  volumeIdentity // guarded by membership.persist after Open
	real      string         // the directory, without symbolic links once it was opened
	info      fs.FileInfo    // of the directory when it was opened; nil: it was not
	mounted   bool           // it was a mount point when it was opened
	added     bool           // while a store ran: the configuration does not name it
	device    uint64         // of the directory's file system then; 0: not known
	lock      io.Closer      // nil: it was out of service from the start
	workers   []*worker
	copiers   []*worker // of what is written in the background
	copies    atomic.Uint64
	packs     *pack.Set
	scrubber  *scrub.Scrubber // nil: it was out of service from the start
	replicas  atomic.Int64    // in the index, all states
	serial    atomic.Uint32   // for parked names
	writing   atomic.Bool     // its identity file
	draining  atomic.Bool     // it is to be removed: nothing new goes there, and its replicas do not count
	finishing atomic.Bool     // the end of that is being looked for
	released  atomic.Bool     // it was removed, and others may have its disk
	unindexed atomic.Bool     // it has replicas that the index does not know: it is out of service
	inspected atomic.Bool     // an inspection is under way

	reporting sync.RWMutex // read-held while a replica of the volume is reported; see losses

	space space
	// What StatFS said last.
	capacity atomic.Int64 // bytes
	free     atomic.Int64 // bytes
	freeAt   atomic.Int64 // when, in Unix nanoseconds; 0: never
}

// newVolume describes a directory that was not looked at yet. onOut is that of health.New.
func newVolume(e *env, directory string, onOut func(*volume)) *volume {
	v := &volume{env: e, directory: directory, real: path.Clean(directory),
		logger: e.options.Logger.With("volume", directory)}
	bounds := health.Limits{
		ErrorsMax: e.options.VolumeErrorsMax, Window: health.Window,
		StallAfter: health.StallAfter, HangAfter: e.options.VolumeHangAfter,
	}
	v.health = health.New(e.options.Clock, bounds, func() { onOut(v) })
	v.fs = v.health.FS(e.fs)
	return v
}

// open makes the directories, takes the lock and reads the identity; a volume without one is new and gets it
// later, from the store.
func (v *volume) open() (err error) {
	const op = "open volume"
	if err := makeDirectory(v.fs, v.directory); err != nil {
		return diskError(op, v.directory, chunk.ID{}, err)
	}
	v.lock, err = v.fs.Lock(path.Join(v.directory, lockName))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return &fault.Error{Kind: fault.Busy, Op: op, Path: v.directory, Reason: "another process uses this volume",
			Hint: "stop it, or give this one its own directory"}
	}
	if err != nil {
		return diskError(op, v.directory, chunk.ID{}, err)
	}
	info, err := v.fs.Stat(v.directory)
	if err != nil {
		return diskError(op, v.directory, chunk.ID{}, err)
	}
	if err := v.locate(info); err != nil {
		return diskError(op, v.directory, chunk.ID{}, err)
	}
	v.device = vfs.Device(info)
	v.health.SetDevice(v.device)
	if above, err := v.env.fs.Stat(path.Dir(path.Clean(v.directory))); err == nil && v.device != 0 {
		v.mounted = vfs.Device(above) != v.device
	}
	return v.load()
}

// sameDirectory asks both.
func (v *volume) sameDirectory(other *volume) bool {
	one, err := v.fs.Stat(v.directory)
	if err != nil {
		return false
	}
	two, err := other.fs.Stat(other.directory)
	return err == nil && os.SameFile(one, two)
}

// locate notes where the directory is, whatever it is called.
func (v *volume) locate(info fs.FileInfo) error {
	v.info = info
	if _, machine := v.env.fs.(vfs.OS); !machine {
		return nil
	}
	return v.health.Watch("resolve", v.directory, func() (err error) {
		v.real, err = filepath.EvalSymlinks(v.directory)
		return err
	})
}

// record is what the other volumes know of it.
func (v *volume) record() volumeRecord {
	return volumeRecord{VolumeID: v.id, Directory: path.Clean(v.directory), MountPoint: v.mounted, Added: v.added,
		Draining: v.draining.Load()}
}

// load reads the identity and completes the tree of directories.
func (v *volume) load() error {
	const op = "open volume"
	identity, known, err := readIdentity(v.fs, v.path(identityName))
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

// park moves a file of the volume into its trash or quarantine and returns the new name. The move is not durable yet.
func (v *volume) park(directory, relative string, name chunkfile.ParkedName) (string, error) {
	name.Serial = v.serial.Add(1)
	parked := path.Join(directory, name.String())
	if err := v.keepDirectory(directory); err != nil {
		return parked, err
	}
	return parked, v.fs.Rename(v.path(relative), v.path(parked))
}

// keepDirectory makes the trash or the quarantine again, if somebody has removed it.
func (v *volume) keepDirectory(directory string) error {
	if _, err := v.fs.Stat(v.path(directory)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	v.logger.Warn("the directory was removed and is made again", "path", v.path(directory))
	if err := v.fs.MkdirAll(v.path(directory), 0o755); err != nil {
		return err
	}
	return v.fs.SyncDir(v.directory)
}

// workerOf is the worker that all jobs of a chunk run on.
func (v *volume) workerOf(id chunk.ID) *worker {
	return v.workers[xxh3.Hash(id[:])%uint64(len(v.workers))]
}

// nextCopyWorker is the worker of the next replica that is written in the background: each in turn, as two that wait
// for the disk should not wait for each other.
func (v *volume) nextCopyWorker() *worker {
	return v.copiers[v.copies.Add(1)%uint64(len(v.copiers))]
}

// ioError makes an I/O error on a file of the volume. A full disk is no fault of the file: the volume is named then.
func (v *volume) ioError(op, name string, id chunk.ID, err error) error {
	var number syscall.Errno
	if vfs.IsFull(err) && errors.As(err, &number) {
		full := diskError(op, v.directory, id, number)
		full.Reason = "the disk is full"
		return full
	}
	return diskError(op, name, id, err)
}

// noteError counts an I/O error against the volume.
func (v *volume) noteError(err error) { v.health.Note(err) }

// answers tells whether its disk may be asked: it is in service, and nothing hangs there.
func (v *volume) answers() bool { return !v.health.Out() && !v.health.Stalled() }

// placeable tells whether new replicas may go there.
func (v *volume) placeable() bool { return v.answers() && !v.draining.Load() }

// outError refuses work on a replica whose volume is out of service; nil while it is in service.
func (v *volume) outError(op string, id chunk.ID) error {
	if err := v.health.Error(); err != nil {
		return diskError(op, v.directory, id, err)
	}
	return nil
}

// close releases the volume to other processes.
func (v *volume) close() error {
	if v.lock == nil {
		return nil
	}
	if err := v.lock.Close(); err != nil && !v.health.Out() {
		return diskError("unlock volume", v.directory, chunk.ID{}, err)
	}
	return nil
}
