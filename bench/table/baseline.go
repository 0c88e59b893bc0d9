package table

import (
	"fmt"
	"slices"

	"github.com/whispering-woods/ww/bench/report"
	"golang.org/x/perf/benchmath"
)

// tolerance: a ratio that is worse than the baseline's by more than this share is a regression.
const tolerance = 0.2

// floorsApart is how far two machines, or two days of one, may be apart.
const floorsApart = 2

// certain: a chance below this that rounds like those of both sides come from the same system.
const certain = 0.05

// Regression is a guarded ratio whose median fell behind the baseline's by more than the tolerance.
type Regression struct {
	Part, Name         string
	Before, Now, Limit float64 // medians, and what Now had to reach
	beyond             float64 // how many times Now is beyond Limit
	Rounds             int
	P                  float64 // of the Mann-Whitney U test: how easily chance makes such a difference
	// so few rounds that no P is small enough, and all of one side are beyond all of the other
	apart bool
}

// Certain reports whether chance does not explain it.
func (r Regression) Certain() bool { return r.P < certain || r.apart }

// String is the regression in one line.
func (r Regression) String() string {
	return fmt.Sprintf("%s: %.3f in the median of %d rounds, the baseline is %.3f, the limit %.3f (p=%.3f)", r.Name,
		r.Now, r.Rounds, r.Before, r.Limit, r.P)
}

// Regressions compares the medians of guarded ratios with a baseline. Where a ratio spreads from round to round, a
// median of few rounds says little, and what was picked because it looks bad proves nothing: it has to be measured
// again. Rows that only one side has are not compared; nor are those whose floor was more than floorsApart times
// faster or slower then, because a ratio to a disk that is the bottleneck says nothing about one to a disk that is
// not: strangers.
//
// compared names those that were.
func Regressions(baseline, now []Row) (out []Regression, strangers, compared []string) {
	for _, row := range now {
		at := slices.IndexFunc(baseline, row.same)
		if at < 0 || !row.Guarded || len(row.Values) == 0 || len(baseline[at].Values) == 0 {
			continue
		}
		before := baseline[at]
		if then, today := report.Median(before.Floors), report.Median(row.Floors); then > 0 && today > 0 &&
			max(then/today, today/then) > floorsApart {
			strangers = append(strangers, row.Name)
			continue
		}
		compared = append(compared, row.Name)
		found := Regression{Part: row.Part, Name: row.Name, Before: before.Median(), Now: row.Median(),
			Rounds: len(row.Values)}
		found.Limit = found.Before * (1 - tolerance)
		worse := found.Now < found.Limit
		if row.Less {
			found.Limit = found.Before * (1 + tolerance)
			worse = found.Now > found.Limit
		}
		if worse {
			found.P = differ(before.Values, row.Values)
			found.beyond = max(found.Now/found.Limit, found.Limit/found.Now)
			if row.Less {
				found.apart = slices.Min(row.Values) > slices.Max(before.Values)
			} else {
				found.apart = slices.Max(row.Values) < slices.Min(before.Values)
			}
			found.apart = found.apart && leastP(len(before.Values), len(row.Values)) >= certain
			out = append(out, found)
		}
	}
	return out, strangers, compared
}

func differ(before, now []float64) float64 {
	thresholds := benchmath.DefaultThresholds
	a := benchmath.NewSample(slices.Clone(before), &thresholds)
	b := benchmath.NewSample(slices.Clone(now), &thresholds)
	return benchmath.AssumeNothing.Compare(a, b).P
}

// leastP is the P of two samples that do not overlap: two-sided, one of all ways to choose n of n+m.
func leastP(n, m int) float64 {
	p := 2.0
	for i := range n {
		p *= float64(i+1) / float64(m+i+1)
	}
	return p
}

func (r Row) same(other Row) bool { return r.Part == other.Part && r.Name == other.Name }

// Merge replaces, by the rows of a run of some parts, the old rows of those parts, all in the order of the parts.
func Merge(old, now []Row) []Row {
	var out []Row
	for _, name := range Parts() {
		source := old
		if slices.ContainsFunc(now, func(r Row) bool { return r.Part == name }) {
			source = now
		}
		for _, r := range source {
			if r.Part == name {
				out = append(out, r)
			}
		}
	}
	return out
}
