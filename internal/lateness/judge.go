package lateness

import (
	"cmp"
	"slices"
	"time"
)

// RoundInterval is how long a round takes.
const RoundInterval = 2 * time.Second

// DiskFloor is a Floor for disks: what a healthy one with a spindle needs when it is busy.
const DiskFloor = 20 * time.Millisecond

// FreeMost is by how much the free share of what is slow has to exceed that of the others to be used like them: they
// would be full first if they always went before it.
const FreeMost = 0.2

// A verdict needs several rounds, so that one stall makes nobody slow: of the last scoresKept scores, scoresLeast or
// more, the median counts. One that ended less than relapseAfter ago lasts twice as long the next time, doubled up to
// relapsesMax times: from holdFor, 1 min, to 16 min.
const (
	scoresKept   = 5
	scoresLeast  = 4
	scoreAgeMax  = 30 * time.Second // older ones say nothing
	factor       = 3                // that of HDFS's OutlierDetector, as are the floors of its users
	holdFor      = time.Minute
	relapseAfter = 30 * time.Minute
	relapsesMax  = 4
)

// Record is what is known of one thing. The zero Record knows nothing. Times are since any fixed moment, the same for
// all records of a Judge. A verdict ends by itself: what is avoided because of it is measured no more, and has to be
// tried again.
type Record struct {
	scores   [scoresKept]time.Duration
	count    int           // of scores, since the last gap
	at       time.Duration // of the newest score
	until    time.Duration // slow until then; 0: it never was
	relapses int           // 0..relapsesMax
	verdict  Verdict
}

// Verdict is why something was found slow.
type Verdict struct {
	Since time.Duration // when it was found
	Late  time.Duration // one of its operations, lately
	Peers time.Duration // one of its peers', the median
}

// Score adds how late an operation was on average in the round that ends now.
func (r *Record) Score(now, late time.Duration) {
	if now-r.at > scoreAgeMax {
		r.count = 0
	}
	r.scores[r.count%scoresKept], r.at = late, now
	r.count++
}

// level is the (lower) median of the last scores; false: there are too few.
func (r *Record) level(now time.Duration) (late time.Duration, known bool) {
	if r.count < scoresLeast || now-r.at > scoreAgeMax {
		return 0, false
	}
	scores := r.scores
	return Median(scores[:min(r.count, scoresKept)]), true
}

// Slow reports whether the last verdict stands, and what it says.
func (r *Record) Slow(now time.Duration) (Verdict, bool) { return r.verdict, now < r.until }

// Judge compares records with each other.
type Judge struct {
	Floor time.Duration // what is less late than this is not slow
	Peers int           // at least so many others have to be known
}

// Decide ends a round: it looks at all records that can be compared, each of which has a Score of now or none in this
// round. At most so many are slow then, the latest first: peers that are few or wrong condemn only a share.
func (j Judge) Decide(now time.Duration, most int, records []*Record) {
	levels := make([]time.Duration, 0, len(records))
	for _, r := range records {
		if late, known := r.level(now); known {
			levels = append(levels, late)
		}
		if _, slow := r.Slow(now); slow {
			most--
		}
	}
	if len(levels) <= j.Peers {
		return
	}
	slices.Sort(levels)
	type finding struct {
		record  *Record
		verdict Verdict
	}
	var found []finding
	for _, record := range records {
		late, known := record.level(now)
		if !known || record.at != now {
			continue
		}
		peers := medianWithout(levels, late)
		bar := max(j.Floor, factor*peers)
		switch _, slow := record.Slow(now); {
		case slow && late >= bar/2:
			record.until = now + record.hold()
			record.verdict.Late, record.verdict.Peers = late, peers
		case !slow && late >= bar:
			found = append(found, finding{record, Verdict{Since: now, Late: late, Peers: peers}})
		}
	}
	slices.SortStableFunc(found, func(a, b finding) int { return cmp.Compare(b.verdict.Late, a.verdict.Late) })
	for _, f := range found[:max(0, min(most, len(found)))] {
		f.record.condemn(now, f.verdict)
	}
}

// condemn begins a verdict.
func (r *Record) condemn(now time.Duration, v Verdict) {
	if r.until != 0 && now-r.until < relapseAfter {
		r.relapses = min(r.relapses+1, relapsesMax)
	} else {
		r.relapses = 0
	}
	r.verdict, r.until = v, now+r.hold()
}

// hold is how long a verdict stands without another score that is late.
func (r *Record) hold() time.Duration { return holdFor << r.relapses }

// medianWithout is the (lower) median of sorted values without one of them, of which there are two at least.
func medianWithout(sorted []time.Duration, value time.Duration) time.Duration {
	at, _ := slices.BinarySearch(sorted, value)
	middle := (len(sorted) - 2) / 2
	if at <= middle {
		middle++
	}
	return sorted[middle]
}

// Median is the lower median of one value or more, which it sorts.
func Median(values []time.Duration) time.Duration {
	slices.Sort(values)
	return values[(len(values)-1)/2]
}
