package replicas

import "time"

// pace bounds the bytes per second of copies: what was begun is paid for before the next one begins. In a span of time
// no more begins than the bound allows for it and for paceCredit, and one copy.
type pace struct {
	bound int64         // bytes per second; 0: none
	paid  time.Duration // when what was begun is paid for
}

// ready reports whether another copy may begin.
func (p *pace) ready(now time.Duration) bool { return p.bound == 0 || p.paid <= now }

// take notes that a copy begins.
func (p *pace) take(now time.Duration, bytes int64) {
	if p.bound > 0 {
		p.paid = max(p.paid, now-paceCredit) + time.Duration(float64(bytes)/float64(p.bound)*float64(time.Second))
	}
}

// set changes the bound; what was begun before is paid for.
func (p *pace) set(bytesPerSecond int64) { *p = pace{bound: bytesPerSecond} }
