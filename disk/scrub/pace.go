package scrub

import (
	"errors"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
)

// ErrStopped is why a pass broke off.
var ErrStopped = errors.New("the scrub was stopped")

// Pace says when the next bytes may be read.
type Pace struct {
	clock     clock.Clock
	bandwidth int64         // bytes per second; 0: no bound
	busy      func() bool   // others use the disk
	done      chan struct{} // closed: stop
	free      time.Time     // what was read so far is paid for then
}

// Wait blocks until so many more bytes may be read. Error: ErrStopped.
func (p *Pace) Wait(bytes int64) error {
	now := p.clock.Now()
	if err := p.sleep(p.free.Sub(now)); err != nil {
		return err
	}
	for waited := time.Duration(0); p.bandwidth > 0 && waited < yieldMax && p.busy(); waited += yieldStep {
		if err := p.sleep(yieldStep); err != nil {
			return err
		}
	}
	if p.bandwidth > 0 {
		if now = p.clock.Now(); p.free.Before(now) {
			p.free = now
		}
		p.free = p.free.Add(time.Duration(float64(bytes) / float64(p.bandwidth) * float64(time.Second)))
	}
	return nil
}

// sleep waits for a while; without one it only looks whether to stop.
func (p *Pace) sleep(d time.Duration) error {
	if d <= 0 {
		select {
		case <-p.done:
			return ErrStopped
		default:
			return nil
		}
	}
	timer := p.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-p.done:
		return ErrStopped
	}
}
