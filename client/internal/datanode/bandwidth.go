package datanode

import (
	"context"

	"golang.org/x/time/rate"

	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Bandwidth limits the bytes per second that a client sends to and reads from datanodes. Safe for concurrent use.
type Bandwidth struct {
	limiter *rate.Limiter
	clock   clock.Clock
}

// NewBandwidth makes one without a limit.
func NewBandwidth(c clock.Clock) *Bandwidth {
	return &Bandwidth{limiter: rate.NewLimiter(rate.Inf, bandwidthBurst), clock: c}
}

// Set changes the limit; 0: none. Error: fault.Invalid below BandwidthLeast.
func (w *Bandwidth) Set(bytesPerSecond int64) error {
	switch {
	case bytesPerSecond == 0:
		w.limiter.SetLimit(rate.Inf)
	case bytesPerSecond < BandwidthLeast:
		return fault.New(fault.Invalid, "set bandwidth", "%d bytes per second: want 0 or at least %d",
			bytesPerSecond, int64(BandwidthLeast))
	default:
		w.limiter.SetLimit(rate.Limit(bytesPerSecond))
	}
	return nil
}

// Wait blocks until so many bytes may pass. Error: that of ctx.
func (w *Bandwidth) Wait(ctx context.Context, bytes int) error {
	if w.limiter.Limit() == rate.Inf {
		return nil
	}
	for bytes > 0 {
		n := min(bytes, bandwidthBurst)
		reservation := w.limiter.ReserveN(w.clock.Now(), n)
		if err := clock.Sleep(ctx, w.clock, reservation.DelayFrom(w.clock.Now())); err != nil {
			reservation.Cancel()
			return err
		}
		bytes -= n
	}
	return nil
}
