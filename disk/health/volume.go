package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/lateness"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Volume is the health of one volume. Safe for concurrent use; no method does I/O.
type Volume struct {
	limits Limits
	clock  clock.Clock
	onOut  func()
	out    atomic.Bool
	gone   chan struct{} // closed when it goes out of service
	device atomic.Uint64 // see SetDevice

	reads, writes lateness.Meter // see Lateness
	waitedFor     atomic.Int64   // reads and syncs under way, each of which somebody waits for; see Yield

	mu struct {
		sync.Mutex
		state  datanode.VolumeHealth // of Status, when it was asked last; final once out of service
		since  time.Time             // state is what it is
		errors uint64
		last   string
		reason string    // why it is out of service
		recent []failure // the last errors that count: at most ErrorsMax
		full   bool
		slow   string // see SetSlow
		// running are the operations under way, by slot; free are the slots without one. Their number is that
		// of the goroutines that use the disk at once, which their owners bound.
		running []operation
		free    []int
	}
}

// failure is an error that counts.
type failure struct {
	at   time.Time
	read string // the file that could not be read; "": it was another operation
}

// operation is one that has not returned; op is empty in a free slot.
type operation struct {
	op, path string
	began    time.Time
}

// New makes the health of a volume that has shown nothing yet. onOut is called once, when the volume goes out
// of service, on the goroutine that found out, which may hold locks: it must not block.
func New(c clock.Clock, l Limits, onOut func()) *Volume {
	v := &Volume{limits: l, clock: c, onOut: onOut, gone: make(chan struct{})}
	v.mu.state, v.mu.since = datanode.VolumeHealthy, c.Now()
	return v
}

// Status is a volume's state at one moment.
type Status struct {
	State  datanode.VolumeHealth
	Since  time.Time
	Errors uint64
	Last   string // error, or why it is out of service or slow; "": there was none
}

// SetDevice says on which file system the volume is (vfs.Device); 0: that is not known. A file that is created on
// another one ends the service.
func (v *Volume) SetDevice(device uint64) { v.device.Store(device) }

// Out tells whether the volume is out of service. It never returns.
func (v *Volume) Out() bool { return v.out.Load() }

// Gone is closed when the volume goes out of service.
func (v *Volume) Gone() <-chan struct{} { return v.gone }

// Note counts an I/O error. A full disk and a shortage of files or memory are no errors of the disk, and neither are
// wrong bytes and files that are gone: they are shown, but are no reason to give up the others. A read-only file system
// ends the service at once.
func (v *Volume) Note(err error) { v.note("", err) }

// NoteRead is Note for an error of reading a file, which counts once however often that is tried: a disk with a bad
// sector may serve everything else for years.
func (v *Volume) NoteRead(path string, err error) { v.note(path, err) }

func (v *Volume) note(read string, err error) {
	if err == nil || vfs.IsFull(err) || vfs.IsShortage(err) || errors.As(err, new(*OutError)) {
		return
	}
	v.mu.Lock()
	v.mu.errors++
	v.mu.last = limits.Clip(err.Error(), textBytesMax)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fault.CorruptData) {
		v.countLocked(failure{v.clock.Now(), read})
	}
	many := len(v.mu.recent) >= v.limits.ErrorsMax
	v.mu.Unlock()
	switch {
	case errors.Is(err, syscall.EROFS):
		v.Condemn(datanode.VolumeReadOnly, "the file system is read-only: "+err.Error())
	case many:
		v.Condemn(datanode.VolumeFailed,
			fmt.Sprintf("%d I/O errors within %v, the last: %v", v.limits.ErrorsMax, v.limits.Window, err))
	}
}

// countLocked adds a failure to those that count.
func (v *Volume) countLocked(next failure) {
	v.forgetLocked(next.at)
	if next.read != "" {
		for i := range v.mu.recent {
			if v.mu.recent[i].read == next.read {
				v.mu.recent[i] = next
				return
			}
		}
	}
	v.mu.recent = append(v.mu.recent, next)
}

// forgetLocked drops errors that are too old to count.
func (v *Volume) forgetLocked(now time.Time) {
	v.mu.recent = slices.DeleteFunc(v.mu.recent, func(f failure) bool { return now.Sub(f.at) > v.limits.Window })
}

// Condemn ends the volume's service. Only the first call counts.
func (v *Volume) Condemn(state datanode.VolumeHealth, reason string) {
	if v.endService(state, reason) {
		v.onOut()
	}
}

// endService tells whether this call did it.
func (v *Volume) endService(state datanode.VolumeHealth, reason string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.state.OutOfService() {
		return false
	}
	v.mu.state, v.mu.since, v.mu.reason = state, v.clock.Now(), limits.Clip(reason, textBytesMax)
	v.out.Store(true)
	close(v.gone)
	return true
}

// Retire ends the service of a volume whose owner ends; that is no loss, so onOut is not called. It returns what is
// still under way on the disk, and may be for ever. "": nothing is, and nothing begins any more, so that another
// process may have the volume.
func (v *Volume) Retire() (hanging string) {
	v.endService(datanode.VolumeFailed, "its chunk store is closed")
	now := v.clock.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if oldest := v.oldestLocked(); oldest.op != "" {
		return oldest.describe(now)
	}
	return ""
}

// SetFull notes whether there is room for new replicas.
func (v *Volume) SetFull(full bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.full = full
}

// SetSlow notes why the volume is slow beside its peers; "": it is not. A slow one is suspect, and goes on to serve.
func (v *Volume) SetSlow(reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.slow = limits.Clip(reason, textBytesMax)
}

// Slow tells whether the volume is slow beside its peers.
func (v *Volume) Slow() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.slow != ""
}

// Lateness is how late the operations on the disk were since the volume was opened.
func (v *Volume) Lateness() lateness.IO {
	return lateness.IO{Reads: v.reads.Sample(), Writes: v.writes.Sample()}
}

// Status describes the volume.
func (v *Volume) Status() Status {
	now := v.clock.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.mu.state.OutOfService() {
		if next := v.judgeLocked(now); next != v.mu.state {
			v.mu.state, v.mu.since = next, now
		}
	}
	status := Status{State: v.mu.state, Since: v.mu.since, Errors: v.mu.errors, Last: v.mu.last}
	switch {
	case v.mu.reason != "":
		status.Last = v.mu.reason
	case v.mu.slow != "" && len(v.mu.recent) == 0:
		status.Last = v.mu.slow
	}
	return status
}

// judgeLocked is the state of a volume in service.
func (v *Volume) judgeLocked(now time.Time) datanode.VolumeHealth {
	v.forgetLocked(now)
	switch oldest := v.oldestLocked(); {
	case len(v.mu.recent) > 0, oldest.op != "" && now.Sub(oldest.began) >= v.limits.StallAfter, v.mu.slow != "":
		return datanode.VolumeSuspect
	case v.mu.full:
		return datanode.VolumeFull
	}
	return datanode.VolumeHealthy
}

// Stalled tells whether an operation takes suspiciously long, so that a further one might wait for it.
func (v *Volume) Stalled() bool {
	now := v.clock.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	oldest := v.oldestLocked()
	return oldest.op != "" && now.Sub(oldest.began) >= v.limits.StallAfter
}

// Check ends the service of a volume that has an operation which does not return.
func (v *Volume) Check() {
	now := v.clock.Now()
	v.mu.Lock()
	oldest := v.oldestLocked()
	v.mu.Unlock()
	if took := now.Sub(oldest.began); oldest.op != "" && took >= v.limits.HangAfter {
		v.Condemn(datanode.VolumeFailed, oldest.describe(now))
	}
}

// describe tells for people how long the operation takes.
func (o operation) describe(now time.Time) string {
	return fmt.Sprintf("%s %s has not returned for %v", o.op, o.path, now.Sub(o.began).Round(time.Second))
}

// oldestLocked is the operation that has been under way longest; one without an op if there is none.
func (v *Volume) oldestLocked() (oldest operation) {
	for _, o := range v.mu.running {
		if o.op != "" && (oldest.op == "" || o.began.Before(oldest.began)) {
			oldest = o
		}
	}
	return oldest
}

// Busy tells whether an operation is under way.
func (v *Volume) Busy() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.mu.running) > len(v.mu.free)
}

// Yield lets the reads and syncs that are under way end first: it is called before each step of what is done in the
// background. It takes yieldMax at most, so that what yields goes on however busy the disk is.
func (v *Volume) Yield() {
	for waited := time.Duration(0); waited < yieldMax && v.waitedFor.Load() > 0; waited += yieldStep {
		_ = clock.Sleep(context.Background(), v.clock, yieldStep) // it ends by itself
	}
}

// begin notes an operation that starts. Error: OutError.
func (v *Volume) begin(op, path string) (slot int, err error) {
	now := v.clock.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.state.OutOfService() {
		return 0, &OutError{State: v.mu.state, Reason: v.mu.reason}
	}
	if free := len(v.mu.free); free > 0 {
		slot, v.mu.free = v.mu.free[free-1], v.mu.free[:free-1]
	} else {
		slot, v.mu.running = len(v.mu.running), append(v.mu.running, operation{})
	}
	v.mu.running[slot] = operation{op, path, now}
	return slot, nil
}

// end notes that an operation returned, and how long it took.
func (v *Volume) end(slot int) (took time.Duration) {
	now := v.clock.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	took = now.Sub(v.mu.running[slot].began)
	v.mu.running[slot] = operation{}
	v.mu.free = append(v.mu.free, slot)
	return took
}

// Error is why the volume is out of service; nil while it is in service.
func (v *Volume) Error() error {
	if !v.Out() {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return &OutError{State: v.mu.state, Reason: v.mu.reason}
}

// OutError is what operations on a volume out of service get.
type OutError struct {
	State  datanode.VolumeHealth
	Reason string
}

// Error names the state and its reason.
func (e *OutError) Error() string {
	return fmt.Sprintf("the volume is out of service (%s): %s", e.State, e.Reason)
}
