package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/vfs"
)

// monitor looks after the volumes while the store runs: that their operations return, that their disks are still
// there, that these still take what is written, and that none is far slower than its siblings. It runs one goroutine,
// and one for each volume while that is inspected: an inspection does I/O, and may hang with the disk.
type monitor struct {
	*env
	volumes *volumes
	group   sync.WaitGroup // of inspections
	done    chan struct{}  // closed by stop
	probed  map[*volume]probed
	drained func(*volume) // removes a volume that is to be removed, if nothing on it is needed
	release func()        // gives the disks of removed volumes free

	siblings siblings
}

// probed is when a volume was probed, and how many writes and syncs it had until then.
type probed struct {
	at     time.Time
	writes uint64
}

func (m *monitor) stop() { close(m.done) }

func (m *monitor) run() {
	timer := m.options.Clock.NewTimer(inspectInterval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
			m.check()
			timer.Reset(inspectInterval)
		case <-m.done:
			return
		}
	}
}

// check looks at every volume once and does not wait.
func (m *monitor) check() {
	now := m.options.Clock.Now()
	m.siblings.compare(m.volumes.all(), now)
	m.release()
	if v := m.volumes.coming.Load(); v != nil {
		v.health.Check()
	}
	for _, volume := range m.volumes.all() {
		if volume.draining.Load() && !volume.finishing.Swap(true) {
			m.group.Go(func() {
				defer volume.finishing.Store(false)
				m.drained(volume)
			})
		}
		if volume.health.Check(); volume.health.Out() || volume.inspected.Swap(true) {
			continue
		}
		// A suspect disk is asked at once: one that is dead fails until it is out.
		last, writes := m.probed[volume], volume.health.Lateness().Writes.Operations
		interval := probeInterval
		if writes <= last.writes+1 { // the probe's own: nobody else would see that the disk is dead
			interval = probeIdleInterval
		}
		probe := now.Sub(last.at) >= interval || volume.health.Status().State == datanode.VolumeSuspect
		if probe {
			m.probed[volume] = probed{now, writes}
		}
		m.group.Go(func() {
			defer volume.inspected.Store(false)
			volume.inspect(probe)
		})
	}
}

// inspect checks that the volume is still the one that was opened, and with probe that its disk takes a write.
func (v *volume) inspect(probe bool) {
	info, err := v.fs.Stat(v.directory)
	if v.absent(err) {
		return
	}
	if now := vfs.Device(info); now != v.device {
		v.health.Condemn(datanode.VolumeMissing,
			fmt.Sprintf("another file system is at %s than when it was opened: its disk was unmounted", v.directory))
		return
	}
	for _, name := range []string{identityName, chunkfile.Directory, packsDirectory} {
		if _, err := v.fs.Stat(v.path(name)); v.absent(err) {
			return
		}
	}
	if !probe {
		return
	}
	if err := v.probe(); err != nil {
		v.noteError(diskError("probe volume", path.Join(v.directory, probeName), chunk.ID{}, err))
	}
}

// absent judges the error of a Stat; true: there is nothing more to look at.
func (v *volume) absent(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, fs.ErrNotExist):
		v.health.Condemn(datanode.VolumeMissing, "a part of it is gone: "+err.Error())
	default:
		v.noteError(diskError("inspect volume", v.directory, chunk.ID{}, err))
	}
	return true
}

// probe writes a few bytes over those of last time, and syncs them.
func (v *volume) probe() error {
	f, err := v.fs.OpenFile(path.Join(v.directory, probeName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(v.options.Clock.Now().UnixNano())), 0)
	if err == nil {
		err = f.Datasync()
	}
	return errors.Join(err, f.Close())
}

// losses reports the replicas of volumes that went out of service. It runs one goroutine: whoever finds out holds
// locks, and there may be millions of replicas.
type losses struct {
	*env
	index   *index
	waiting chan *volume // each volume at most once
	done    chan struct{}
}

func (l *losses) stop() { close(l.done) }

func (l *losses) run() {
	for {
		select {
		case v := <-l.waiting:
			l.report(v)
		case <-l.done:
			return
		}
	}
}

func (l *losses) report(v *volume) {
	count := l.index.lose(v)
	state := v.describe()
	v.logger.Error("volume is out of service: its replicas are reported lost",
		"state", state.Health.String(), "reason", state.Error, "replicas", count)
	l.options.OnVolume(state)
}
