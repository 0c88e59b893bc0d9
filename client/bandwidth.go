package client

import (
	"context"

	"golang.org/x/time/rate"

	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// BandwidthLeast is the lowest limit of a client's bandwidth, bytes per second:
// with less, packets would take longer than datanodes wait for them.
const BandwidthLeast = 4 << 10

// bandwidthBurst passes at once: the largest piece that is asked for or sent.
const bandwidthBurst = 1 << 20

// SetBandwidth limits the bytes per second that the client sends to and reads
// from datanodes, all its files together; 0: no limit. Bytes that datanodes copy
// among themselves do not count. Error: fault.Invalid below BandwidthLeast.
func (c *Client) SetBandwidth(bytesPerSecond int64) error {
	switch {
	case bytesPerSecond == 0:
		c.limiter.SetLimit(rate.Inf)
	case bytesPerSecond < BandwidthLeast:
		return fault.New(fault.Invalid, "set bandwidth", "%d bytes per second: want 0 or at least %d", bytesPerSecond, int64(BandwidthLeast))
	default:
		c.limiter.SetLimit(rate.Limit(bytesPerSecond))
	}
	return nil
}

// allow waits until so many bytes may pass. Error: that of ctx.
func (c *Client) allow(ctx context.Context, bytes int) error {
	if c.limiter.Limit() == rate.Inf {
		return nil
	}
	for bytes > 0 {
		n := min(bytes, bandwidthBurst)
		reservation := c.limiter.ReserveN(c.clock.Now(), n)
		if err := clock.Sleep(ctx, c.clock, reservation.DelayFrom(c.clock.Now())); err != nil {
			reservation.Cancel()
			return err
		}
		bytes -= n
	}
	return nil
}
