package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/whispering-woods/ww/bench/floor"
)

// Comparison is one measurement of the system beside the limit that it is held
// to, both taken in one run.
type Comparison struct {
	Name   string
	Result floor.Result // of the system
	Limit  floor.Result // of the machine
}

// Ratio is the system's rate as a share of the limit's.
func (c Comparison) Ratio() float64 {
	if c.Limit.Rate() == 0 {
		return 0
	}
	return c.Result.Rate() / c.Limit.Rate()
}

// Report is what several runs gave.
type Report struct {
	Runs [][]Comparison // run → comparisons, the same names in each run
	// Floors are further limits, of the last run, for reading.
	Floors []floor.Result
}

// limits pairs each of the system's results with the floor that it is held to.
func limits() map[string]string {
	return map[string]string{Store: floor.Pipeline, Fetch: floor.Sendfile}
}

// Compare sets the results of one run beside its floors. Results without a
// matching floor are left out.
func Compare(results, floors []floor.Result) []Comparison {
	var out []Comparison
	for _, r := range results {
		at := slices.IndexFunc(floors, func(f floor.Result) bool { return f.Name == limits()[r.Name] })
		if at >= 0 {
			out = append(out, Comparison{Name: r.Name, Result: r, Limit: floors[at]})
		}
	}
	return out
}

// median picks, for each name, the run in the middle by ratio (the worse one of
// two). Rate and limit stay from one run.
func (r Report) median() []Comparison {
	var out []Comparison
	for i := range r.Runs[0] {
		var all []Comparison
		for _, run := range r.Runs {
			all = append(all, run[i])
		}
		slices.SortFunc(all, func(a, b Comparison) int {
			switch {
			case a.Ratio() < b.Ratio():
				return -1
			case a.Ratio() > b.Ratio():
				return 1
			}
			return 0
		})
		out = append(out, all[(len(all)-1)/2])
	}
	return out
}

// WriteText prints the ratios first, then what they come from.
func (r Report) WriteText(w io.Writer) error {
	p := printer{w: w}
	if len(r.Runs) == 0 {
		p.line("nothing was measured")
		return p.err
	}
	p.line("median of %d runs, ratios first:", len(r.Runs))
	for _, c := range r.median() {
		p.line("  %-6s %5.0f %% of %-18s %10s/s against %10s/s  (%s)", c.Name, 100*c.Ratio(), c.Limit.Name,
			rate(c.Result), rate(c.Limit), c.Result.How)
	}
	p.line("all runs:")
	for i, run := range r.Runs {
		for _, c := range run {
			p.line("  run %d %-6s %5.0f %%  %10s/s  %6.2f s   %s %s/s", i+1, c.Name, 100*c.Ratio(), rate(c.Result), c.Result.Seconds(), c.Limit.Name, rate(c.Limit))
		}
	}
	if len(r.Floors) > 0 {
		p.line("the machine in the last run:")
		for _, f := range r.Floors {
			p.line("  %-20s %12s/s  %6.2f s  %s", f.Name, rate(f), f.Seconds(), f.How)
		}
	}
	return p.err
}

// rate is bytes, or a count.
func rate(r floor.Result) string {
	if r.Count > 0 {
		return humanize.SIWithDigits(r.Rate(), 1, "")
	}
	return humanize.Bytes(uint64(r.Rate()))
}

// WriteJSON prints one object.
func (r Report) WriteJSON(w io.Writer) error {
	type measured struct {
		floor.Result
		Rate float64 `json:"rate"` // bytes per second, or operations per second
	}
	type comparison struct {
		Name   string   `json:"name"`
		Ratio  float64  `json:"ratio"`
		Result measured `json:"result"`
		Limit  measured `json:"limit"`
	}
	convert := func(in []Comparison) []comparison {
		out := []comparison{}
		for _, c := range in {
			out = append(out, comparison{c.Name, c.Ratio(), measured{c.Result, c.Result.Rate()}, measured{c.Limit, c.Limit.Rate()}})
		}
		return out
	}
	document := struct {
		Version int            `json:"version"`
		Median  []comparison   `json:"median"`
		Runs    [][]comparison `json:"runs"`
		Floors  []measured     `json:"floors"`
	}{Version: 1, Median: []comparison{}, Runs: [][]comparison{}, Floors: []measured{}}
	if len(r.Runs) > 0 {
		document.Median = convert(r.median())
	}
	for _, run := range r.Runs {
		document.Runs = append(document.Runs, convert(run))
	}
	for _, f := range r.Floors {
		document.Floors = append(document.Floors, measured{f, f.Rate()})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// printer writes lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, arguments ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", arguments...)
	}
}
