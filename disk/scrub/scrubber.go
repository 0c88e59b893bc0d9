package scrub

import (
	"bytes"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Volume is what a Scrubber goes over. Verify and Busy are safe for concurrent use; the others are called from one
// goroutine.
type Volume interface {
	// Begin looks at what does not belong to any one replica. A pass begins with it.
	Begin()
	// Replicas lists the chunks whose ids end with a byte, in any order; the caller owns the list.
	Replicas(last byte) []chunk.ID
	// Verify compares a replica with its checksums, and takes a bad one out of service. It calls pace before it reads.
	Verify(id chunk.ID, pace *Pace) (Result, error)
	// Strays looks for files that are no replica of a chunk whose id ends with a byte. A shard ends with it.
	Strays(last byte)
	// Busy tells whether somebody else uses the disk now.
	Busy() bool
}

// Result is what the verification of one replica came to. One that is gone, or not on the disk yet, is the zero Result.
type Result struct {
	Bytes    int64 // that were compared
	Verified bool
	Bad      bool // it was taken out of service
}

// Options of a Scrubber. All are needed, but for Period and Bandwidth.
type Options struct {
	Volume    Volume
	FS        vfs.FS
	Path      string        // of the file that remembers
	Period    time.Duration // in which every replica is verified; 0: only on demand
	Bandwidth int64         // bytes per second; 0: no bound
	Clock     clock.Clock
	Logger    *slog.Logger
	Gone      <-chan struct{} // closed when the volume is out of service: there is nothing more to do
}

// Scrubber goes over the replicas of one volume again and again.
type Scrubber struct {
	options Options
	pace    Pace
	done    chan struct{} // closed by Stop
	wake    chan struct{} // capacity 1: a pass is wanted

	mu struct {
		sync.Mutex
		state   state
		shard   int  // of the pass under way
		again   bool // the pass begins anew: somebody wants all replicas verified from now on
		stopped bool
	}
}

// New makes a Scrubber and reads what is remembered.
func New(o Options) *Scrubber {
	s := &Scrubber{options: o, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	s.pace = Pace{clock: o.Clock, bandwidth: o.Bandwidth, busy: o.Volume.Busy, done: s.done}
	remembered, err := load(o.FS, o.Path)
	if err != nil {
		o.Logger.Warn("how far the scrub came is not known, it begins anew", "path", o.Path, "err", err)
	}
	s.mu.state = remembered
	return s
}

// Stop ends Run; how far it came is written down.
func (s *Scrubber) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.stopped {
		s.mu.stopped = true
		close(s.done)
	}
}

// Request has all replicas verified from now on, at once, and returns the number of the pass that does it: it is over
// when Status counts so many.
func (s *Scrubber) Request() (pass uint64) {
	s.mu.Lock()
	s.mu.again = true
	pass = s.mu.state.Passes + 1
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return pass
}

// Status is how far the scrub came.
func (s *Scrubber) Status() datanode.Scrub {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.mu.state
	status := datanode.Scrub{Passes: now.Passes, Running: now.Running || s.mu.again, Began: since(now.BeganMs),
		Ended: since(now.EndedMs), Replicas: now.Replicas, Bytes: now.Bytes, Bad: now.Bad, BadTotal: now.BadTotal}
	if now.Running {
		status.Percent = uint32(s.mu.shard * 100 / shards)
	}
	return status
}

// Run goes over the volume until Stop, or until the volume is out of service.
func (s *Scrubber) Run() {
	for s.await() {
		if err := s.pass(); err != nil {
			break
		}
	}
	select {
	case <-s.options.Gone: // it takes no note any more
	default:
		s.save()
	}
}

// await waits until a pass is due; false: it is over.
func (s *Scrubber) await() bool {
	for !s.over() {
		wait, periodic := s.due()
		if periodic && wait <= 0 {
			return true
		}
		s.sleep(wait, periodic)
	}
	return false
}

// sleep waits for a while, or for ever, but no longer than nothing happens.
func (s *Scrubber) sleep(wait time.Duration, periodic bool) {
	var elapsed <-chan time.Time
	if periodic {
		timer := s.options.Clock.NewTimer(wait)
		defer timer.Stop()
		elapsed = timer.C()
	}
	select {
	case <-elapsed:
	case <-s.wake:
	case <-s.done:
	case <-s.options.Gone:
	}
}

func (s *Scrubber) over() bool {
	select {
	case <-s.done:
		return true
	case <-s.options.Gone:
		return true
	default:
		return false
	}
}

// due is how long it is until the next pass begins, or goes on; false: it does not by itself. A time in the future is a
// clock that was set back.
func (s *Scrubber) due() (wait time.Duration, known bool) {
	now := s.options.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.mu.state
	began := since(last.BeganMs)
	switch {
	case s.mu.again:
		return 0, true
	case s.options.Period == 0:
		return 0, false
	case last.Running || last.BeganMs == 0 || began.After(now):
		return 0, true
	}
	return began.Add(s.options.Period / restDenominator * restNumerator).Sub(now), true
}

// pass goes over the replicas that are left of the pass under way, or begins one. Error: ErrStopped.
func (s *Scrubber) pass() error {
	position := s.begin()
	saved := s.options.Clock.Now()
	for shard := int(position[len(position)-1]); shard < shards; shard++ {
		s.mu.Lock()
		s.mu.shard = shard
		s.mu.Unlock()
		for _, id := range s.after(position, byte(shard)) {
			if err := s.verify(id); err != nil {
				return err
			}
			if s.wanted() {
				return nil // it begins anew
			}
			if now := s.options.Clock.Now(); now.Sub(saved) >= saveInterval {
				s.save()
				saved = now
			}
		}
		s.options.Volume.Strays(byte(shard))
		position = chunk.ID{}
		if s.wanted() {
			return nil
		}
	}
	s.end()
	return nil
}

// wanted tells whether the pass has to begin anew.
func (s *Scrubber) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.again
}

// begin begins a pass, or goes on with the one under way; it returns the chunk after which it does.
func (s *Scrubber) begin() (position chunk.ID) {
	s.mu.Lock()
	state := &s.mu.state
	if state.Running && !s.mu.again {
		position = state.position()
		s.mu.Unlock()
		return position
	}
	s.mu.again = false
	state.Running, state.Position, state.BeganMs = true, "", s.options.Clock.Now().UnixMilli()
	state.Replicas, state.Bytes, state.Bad = 0, 0, 0
	s.mu.Unlock()
	s.options.Volume.Begin()
	return chunk.ID{}
}

// after lists the chunks of a shard that come after a position, in the order of their ids.
func (s *Scrubber) after(position chunk.ID, shard byte) []chunk.ID {
	all := slices.DeleteFunc(s.options.Volume.Replicas(shard), func(id chunk.ID) bool {
		return !position.IsZero() && bytes.Compare(id[:], position[:]) <= 0
	})
	slices.SortFunc(all, func(a, b chunk.ID) int { return bytes.Compare(a[:], b[:]) })
	return all
}

// verify verifies one replica and counts it.
func (s *Scrubber) verify(id chunk.ID) error {
	if s.over() {
		return ErrStopped
	}
	if err := s.pace.Wait(replicaCostBytes); err != nil {
		return err
	}
	result, err := s.options.Volume.Verify(id, &s.pace)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := &s.mu.state
	state.Position = id.String()
	if result.Verified {
		state.Replicas++
		state.Bytes += uint64(result.Bytes)
	}
	if result.Bad {
		state.Bad++
		state.BadTotal++
	}
	return nil
}

// Verify verifies one replica now, on the caller's goroutine and as fast as the disk reads. Safe for concurrent use.
// Error: ErrStopped.
func (s *Scrubber) Verify(id chunk.ID) (Result, error) {
	pace := Pace{clock: s.options.Clock, busy: s.options.Volume.Busy, done: s.done}
	result, err := s.options.Volume.Verify(id, &pace)
	if result.Bad {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.state.BadTotal++
	}
	return result, err
}

// end ends a whole pass. One that has to begin anew is none: whoever wants that waits for the next number.
func (s *Scrubber) end() {
	s.mu.Lock()
	if s.mu.again {
		s.mu.Unlock()
		return
	}
	state := &s.mu.state
	state.Running, state.Position, state.EndedMs = false, "", s.options.Clock.Now().UnixMilli()
	state.Passes++
	done := *state
	s.mu.Unlock()
	s.save()
	took := since(done.EndedMs).Sub(since(done.BeganMs))
	s.options.Logger.Info("every replica of the volume was verified",
		"pass", done.Passes, "replicas", done.Replicas, "bytes", done.Bytes, "bad", done.Bad, "took", took)
	if s.options.Period > 0 && took > s.options.Period {
		s.options.Logger.Warn("the scrub took longer than its period: give it more bandwidth", "took", took,
			"period", s.options.Period)
	}
}

// save writes down how far the scrub came. Without the file the next start begins anew.
func (s *Scrubber) save() {
	s.mu.Lock()
	now := s.mu.state
	s.mu.Unlock()
	if now.BeganMs == 0 {
		return
	}
	if err := vfs.WriteDurably(s.options.FS, s.options.Path, now.encode()); err != nil {
		s.options.Logger.Warn("cannot write down how far the scrub came", "path", s.options.Path, "err", err)
	}
}
