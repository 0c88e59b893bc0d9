package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"golang.org/x/perf/benchmath"

	"github.com/whispering-woods/ww/internal/fault"
)

// Change is how one result differs between two sets of rounds.
type Change struct {
	Name string
	// Of says what was compared: "ratio" to the floor of the same round if both sides have one, else "rate".
	Of           string
	Old, New     benchmath.Summary // medians with their intervals
	Factor       float64           // New.Center / Old.Center
	P            float64           // of the Mann-Whitney U test: the chance that noise looks like this
	Significant  bool              // P is below 0.05
	Warnings     []string          // "too few rounds…"
	oldN, newN   int
	oldP99, newP float64
}

// confidence is that of the intervals that are printed. With fewer than six
// rounds no interval reaches it, which is printed as ∞.
const confidence = 0.95

// Compare sets the results that both documents have beside each other, like benchstat: medians, order-statistic
// intervals, and the Mann-Whitney U test, none of which assumes a distribution. Errors: fault.Invalid when the
// documents have nothing in common.
func Compare(before, after *Document) ([]Change, error) {
	var out []Change
	for _, earlier := range before.Summary {
		at := slices.IndexFunc(after.Summary, func(s Summary) bool { return s.Name == earlier.Name })
		if at < 0 {
			continue
		}
		later := after.Summary[at]
		c := Change{Name: earlier.Name, Of: "ratio", oldP99: float64(earlier.P99Ns), newP: float64(later.P99Ns)}
		a, b := earlier.Ratios, later.Ratios
		if len(a) == 0 || len(b) == 0 || earlier.Floor != later.Floor {
			c.Of, a, b = "rate", earlier.Rates, later.Rates
		}
		c.fill(a, b)
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Invalid, "compare reports", "the two documents have no result in common")
	}
	return out, nil
}

// fill computes the statistics of two samples.
func (c *Change) fill(before, after []float64) {
	thresholds := benchmath.DefaultThresholds
	a := benchmath.NewSample(slices.Clone(before), &thresholds)
	b := benchmath.NewSample(slices.Clone(after), &thresholds)
	c.oldN, c.newN = len(before), len(after)
	c.Old, c.New = benchmath.AssumeNothing.Summary(a, confidence), benchmath.AssumeNothing.Summary(b, confidence)
	if c.Old.Center != 0 {
		c.Factor = c.New.Center / c.Old.Center
	}
	test := benchmath.AssumeNothing.Compare(a, b)
	c.P = test.P
	c.Significant = test.P < test.Alpha
	for _, w := range test.Warnings {
		c.Warnings = append(c.Warnings, w.Error())
	}
}

// WriteChanges prints a comparison.
func WriteChanges(w io.Writer, changes []Change) error {
	out := printer{w: w}
	out.line("%-24s %-6s %18s %18s %10s", "", "of", "old", "new", "change")
	for _, c := range changes {
		verdict := "~"
		if c.Significant {
			verdict = fmt.Sprintf("%+.1f %%", 100*(c.Factor-1))
		}
		out.line("%-24s %-6s %18s %18s %10s  (p=%.3f n=%d+%d)%s", c.Name, c.Of, c.value(c.Old), c.value(c.New), verdict,
			c.P, c.oldN, c.newN, c.remark())
	}
	out.line("~: the difference may be noise (Mann-Whitney U, alpha 0.05); ratios are to the floor of the same round")
	return out.err
}

func (c Change) value(s benchmath.Summary) string {
	if c.Of == "ratio" {
		return fmt.Sprintf("%.1f %% ± %s", 100*s.Center, s.PctRangeString())
	}
	return fmt.Sprintf("%.4g ± %s", s.Center, s.PctRangeString())
}

func (c Change) remark() string {
	text := ""
	if c.oldP99 > 0 && c.newP > 0 {
		text = fmt.Sprintf("  p99 x%.2f", c.newP/c.oldP99)
	}
	if len(c.Warnings) > 0 {
		text += "  " + c.Warnings[0]
	}
	return text
}

// Median is the lower of the two values in the middle; zero of none.
func Median[T cmp.Ordered](values []T) (median T) {
	if len(values) > 0 {
		median = slices.Sorted(slices.Values(values))[(len(values)-1)/2]
	}
	return median
}
