package disk

import (
	"errors"
	"sync"

	"github.com/whispering-woods/ww/internal/clock"
)

// errSpaceUnknown: the room of a volume would have to be asked for.
var errSpaceUnknown = errors.New("the free space is not known")

// space is the one StatFS of a volume that may be under way. A dead mount may never answer,
// so it is asked on a goroutine of its own, whose callers wait no longer than spacePatience: heartbeats go on, and a
// disk that hangs holds up no replica of another.
type space struct {
	mu struct {
		sync.Mutex
		asked *question // nil: nothing is under way
	}
}

// question is a StatFS under way.
type question struct {
	answered chan struct{} // closed when it returned
	err      error         // then
}

// wait tells whether the answer came before the timer fired; late: it has.
func (q *question) wait(patience clock.Timer, late bool) bool {
	select {
	case <-q.answered:
		return true
	default:
	}
	if late {
		return false
	}
	select {
	case <-q.answered:
		return true
	case <-patience.C():
		return false
	}
}

// askSpace asks the file system for its free bytes, unless that is under way.
func (v *volume) askSpace() *question {
	v.space.mu.Lock()
	defer v.space.mu.Unlock()
	if v.space.mu.asked != nil {
		return v.space.mu.asked
	}
	q := &question{answered: make(chan struct{})}
	v.space.mu.asked = q
	go func() { // it ends when the disk answers
		q.err = v.sampleSpace()
		v.space.mu.Lock()
		v.space.mu.asked = nil
		v.space.mu.Unlock()
		close(q.answered)
	}()
	return q
}

// sampleSpace does I/O.
func (v *volume) sampleSpace() error {
	space, err := v.fs.StatFS(v.directory)
	if err != nil {
		v.logger.Debug("no answer to how much room there is", "err", err)
		v.noteError(err)
		return err
	}
	v.capacity.Store(space.Capacity)
	v.free.Store(space.Free)
	v.health.SetFull(space.Free <= v.options.ReserveBytes)
	v.freeAt.Store(v.options.Clock.Now().UnixNano())
	return nil
}

// space asks the file system of a volume for its free bytes. If it does not answer soon, its last answer counts.
func (vs *volumes) space(volume *volume) (free int64, err error) {
	patience := vs.options.Clock.NewTimer(spacePatience)
	defer patience.Stop()
	q := volume.askSpace()
	switch {
	case q.wait(patience, false):
		return volume.free.Load(), q.err
	case volume.freeAt.Load() > 0:
		return volume.free.Load(), nil
	}
	select { // it has never answered
	case <-q.answered:
		return volume.free.Load(), q.err
	case <-volume.health.Gone():
		return 0, volume.health.Error()
	}
}

// rememberedSpace is the last answer of space, if it is not too old.
func (vs *volumes) rememberedSpace(v *volume) (free int64, err error) {
	if vs.options.Clock.Now().UnixNano()-v.freeAt.Load() > int64(spaceAgeMax) {
		return 0, errSpaceUnknown
	}
	return v.free.Load(), nil
}
