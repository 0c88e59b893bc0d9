package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

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

// WriteText prints a document for people: ratios first, then what they come from.
func (d *Document) WriteText(w io.Writer) error {
	out := printer{w: w}
	out.line("%s: %s, %s", d.Workload, d.Settings.shape(), d.Machine.short())
	for _, s := range d.Summary {
		ratio := "no floor"
		if s.Floor != "" {
			ratio = fmt.Sprintf("%5.0f %% of %s", 100*s.Ratio, s.Floor)
		}
		out.line("  %-22s %-30s %12s   p50 %8s  p99 %8s%s", s.Name, ratio, Rate(s.Rate, s.Unit), short(s.P50Ns),
			short(s.P99Ns), spread(s))
	}
	for i, round := range d.Rounds {
		for _, r := range round.Results {
			out.result(i, r)
		}
	}
	if len(d.Rounds) > 0 && len(d.Rounds[len(d.Rounds)-1].Floors) > 0 {
		out.line("floors of the last round:")
		for _, f := range d.Rounds[len(d.Rounds)-1].Floors {
			out.floor(f)
		}
	}
	return out.err
}

// result prints what the summary leaves out.
func (p *printer) result(round int, result Result) {
	if len(result.Limits) > 1 {
		var others []string
		for _, l := range result.Limits[1:] {
			others = append(others, fmt.Sprintf("%.0f %% of %s", 100*l.Ratio, l.Floor))
		}
		p.line("  round %d %-22s also %s", round+1, result.Name, strings.Join(others, ", "))
	}
	if result.VerifiedBytes > 0 {
		p.line("  round %d %-22s %s read back and compared afterwards", round+1, result.Name,
			humanize.IBytes(uint64(result.VerifiedBytes)))
	}
	if result.Missed > 0 {
		p.line("  round %d %-22s %d operations never began: the system cannot keep up with the rate", round+1,
			result.Name, result.Missed)
	}
	if result.Failures > 0 {
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(result.FailuresBy)) {
			kinds = append(kinds, fmt.Sprintf("%s %d", kind, result.FailuresBy[kind]))
		}
		p.line("  round %d %-22s FAILED %d (%s); the first: %s", round+1, result.Name, result.Failures,
			strings.Join(kinds, ", "), result.FirstFailure)
	}
	if result.Stopped != "" {
		p.line("  round %d %-22s STOPPED: %s", round+1, result.Name, result.Stopped)
	}
}

func (p *printer) floor(floor Floor) {
	if floor.Rate == 0 {
		p.line("  %-20s %14s  %s", floor.Name, "-", floor.How)
		return
	}
	cpu := ""
	if floor.ServerCPU > 0 {
		cpu = fmt.Sprintf(", %.2f s of the sender's CPU per GB", floor.CPUPerGB())
	}
	unit := "bytes/s"
	if floor.Count > 0 {
		unit = "ops/s"
	}
	p.line("  %-20s %14s  %s%s", floor.Name, Rate(floor.Rate, unit), floor.How, cpu)
}

// WriteFloor prints one floor.
func WriteFloor(w io.Writer, f Floor) error {
	p := printer{w: w}
	p.floor(f)
	return p.err
}

// spread shows the least and greatest ratio of several rounds.
func spread(s Summary) string {
	if len(s.Ratios) < 2 {
		return ""
	}
	return fmt.Sprintf("   (%d rounds: %.0f..%.0f %%)", len(s.Ratios), 100*slices.Min(s.Ratios),
		100*slices.Max(s.Ratios))
}

// Rate is a rate with its unit, for people.
func Rate(rate float64, unit string) string {
	if unit == "bytes/s" {
		return humanize.Bytes(uint64(rate)) + "/s"
	}
	if rate >= 10_000 {
		return humanize.SIWithDigits(rate, 1, "") + "/s"
	}
	return fmt.Sprintf("%.0f /s", rate)
}

func short(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// shape says how the load was issued.
func (s Settings) shape() string {
	loop := fmt.Sprintf("closed loop, %d workers", s.Workers)
	if s.Rate > 0 {
		loop = fmt.Sprintf("open loop, %g per second, %d workers", s.Rate, s.Workers)
	}
	verify := "every byte verified"
	if !s.Verify {
		verify = "not verified"
	}
	return fmt.Sprintf("%s, %s, seed %d, against %s", loop, verify, s.Seed, s.Target)
}

func (m Machine) short() string {
	return fmt.Sprintf("%d CPUs, %s, %s, %s", m.CPUs, humanize.IBytes(m.MemoryBytes), m.FileSystem, m.Kernel)
}
