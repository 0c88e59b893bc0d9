package table

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/whispering-woods/ww/internal/fault"
)

// tolerance: a ratio that is worse than the baseline's by more than this share
// is a regression.
const tolerance = 0.2

// floorsApart is how far two machines, or two days of one, may be apart.
const floorsApart = 2

// Regression is a guarded ratio that fell behind the baseline.
type Regression struct {
	Name          string
	Before, Limit float64
	Least, Most   float64 // of this run's rounds
}

// String tells it in one line.
func (r Regression) String() string {
	return fmt.Sprintf("%s: %.3f to %.3f in all rounds, the baseline is %.3f, the limit %.3f", r.Name, r.Least, r.Most, r.Before, r.Limit)
}

// Regressions holds the guarded ratios against a baseline. One counts only when
// every round of this run lies beyond the limit: the interval from the least to
// the greatest of n rounds covers the true median with a chance of 1-2^(1-n) (75 %
// of 3 rounds, 94 % of 5), and a machine's hiccup in one round is no regression.
// Rows that only one side has are not compared; nor are those whose floor was
// more than floorsApart times faster or slower then, because a ratio to a disk that
// is the bottleneck says nothing about one to a disk that is not: strangers.
//
// compared counts those that were.
func Regressions(baseline, now []Row) (out []Regression, strangers []string, compared int) {
	for _, r := range now {
		at := slices.IndexFunc(baseline, func(b Row) bool { return b.Part == r.Part && b.Name == r.Name })
		if at < 0 || !r.Guarded || len(r.Values) == 0 || len(baseline[at].Values) == 0 {
			continue
		}
		if then, today := median(baseline[at].Floors), median(r.Floors); then > 0 && today > 0 && max(then/today, today/then) > floorsApart {
			strangers = append(strangers, r.Name)
			continue
		}
		compared++
		found := Regression{Name: r.Name, Before: baseline[at].Median(), Least: slices.Min(r.Values), Most: slices.Max(r.Values)}
		found.Limit = found.Before * (1 - tolerance)
		worse := found.Most < found.Limit
		if r.Less {
			found.Limit = found.Before * (1 + tolerance)
			worse = found.Least > found.Limit
		}
		if worse {
			out = append(out, found)
		}
	}
	return out, strangers, compared
}

// Merge puts the rows of a run of some parts in the place of the old rows of
// those parts, all in the order of the parts.
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

// ReadBaseline reads a table. Errors: fault.Invalid, fault.Version.
func ReadBaseline(path string) (*Table, error) {
	const op = "read baseline"
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: path, Reason: "the file cannot be read", Err: err}
	}
	var t Table
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: path, Reason: "no table", Err: err}
	}
	if t.Schema != Schema {
		return nil, &fault.Error{Kind: fault.Version, Op: op, Path: path, Reason: fmt.Sprintf("schema %d, this program reads %d", t.Schema, Schema)}
	}
	return &t, nil
}
