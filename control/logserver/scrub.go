package logserver

import (
	"context"
	"time"

	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/clock"
)

// scrub reads the checkpoints and the log again and again, as long as the server runs: what nobody reads may have
// become unreadable, and a start would find out too late. A damaged checkpoint is not used any more. Of a damaged log
// the server tells in LogStatus, and goes on: what it writes is good, and two new checkpoints replace what is not.
func (s *Server) scrub() {
	// A start has just verified the log, with the memory of one file, as a scrub takes it.
	_ = clock.Sleep(s.good, s.options.Clock, min(s.options.ScrubPeriod, scrubFirst)) // the loop looks at it
	for s.good.Err() == nil {
		began := s.options.Clock.Now()
		s.scrubOnce(s.good)
		rest := s.options.ScrubPeriod - s.options.Clock.Now().Sub(began)
		_ = clock.Sleep(s.good, s.options.Clock, max(rest, scrubRestMin)) // the loop looks at it
	}
}

// scrubOnce verifies everything once.
func (s *Server) scrubOnce(ctx context.Context) {
	wait := func(bytes int64) error {
		return clock.Sleep(ctx, s.options.Clock, time.Duration(bytes)*time.Second/scrubBytesPerSecond)
	}
	checkpoints, err := s.keeper.files.Scrub(wait)
	if err == nil {
		var log int64
		log, err = walcheck.Scrub(s.options.Directory, func() uint64 { return s.fsm.view().applied }, wait)
		if err == nil {
			s.options.Logger.Info("the log was verified", "log_bytes", log, "checkpoint_bytes", checkpoints)
		}
	}
	if ctx.Err() != nil {
		return
	}
	s.health.scrubbed(err)
	if err != nil {
		s.options.Logger.Error("the scrub of the log found damage, or could not read it", "err", err)
	}
}
