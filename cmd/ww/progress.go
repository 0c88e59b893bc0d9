package main

import (
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a transfer is: a bar on a terminal, nothing
// elsewhere. Its methods may be called from several goroutines.
type progress struct {
	bar     *progressbar.ProgressBar // nil: nothing is shown
	planned atomic.Int64
}

// progress starts a bar for a verb.
func (a *app) progress(title string) *progress {
	shown := &progress{}
	if a.global.json || a.global.quiet || !isTerminal(a.stderr) {
		return shown
	}
	shown.bar = progressbar.NewOptions64(-1,
		progressbar.OptionSetDescription(title), progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(false))
	return shown
}

// plan adds bytes that are going to move.
func (p *progress) plan(bytes int64) {
	total := p.planned.Add(bytes)
	if p.bar != nil && total > 0 {
		p.bar.ChangeMax64(total)
	}
}

// moved adds bytes that have moved; drawing errors do not concern the transfer.
func (p *progress) moved(bytes int64) {
	if p.bar != nil {
		_ = p.bar.Add64(bytes)
	}
}

// end takes the bar off the screen.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
