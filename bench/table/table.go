// Package table measures the whole list of this project's targets in one run: each beside what was reached, as a
// ratio to a floor of the same run wherever there is one. It starts real processes of ww, alternates floors and
// system in rounds, and compares the ratios with a committed baseline.
//
// It owns the processes that it starts and one temporary folder, and ends both.
package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/internal/fault"
)

// Schema is the version of the table's JSON document and of the baseline.
const Schema = 2

// Row is one target and what was reached.
type Row struct {
	Part string `json:"part"`
	Name string `json:"name"`
	Unit string `json:"unit"` // of Values: "ratio" to a floor of the same round, or what is counted
	// Goal is the target in the same unit; 0: there is none, the row is for reading.
	Goal    float64   `json:"goal,omitempty"`
	Less    bool      `json:"less,omitempty"`    // a good value is at most the goal
	Values  []float64 `json:"values"`            // of the rounds, in their order
	Guarded bool      `json:"guarded,omitempty"` // the row is compared with the baseline
	// Floors are the rates of the floor in the same rounds, or what else a ratio
	// divides by: they show whether two runs had the same machine.
	Floors  []float64 `json:"floors,omitempty"`
	Detail  string    `json:"detail"`            // of the last round, for people
	Missing string    `json:"missing,omitempty"` // says why nothing was measured; Values is empty then
}

// Median of the rounds (the lower of the two in the middle).
func (r Row) Median() float64 { return report.Median(r.Values) }

// Met reports whether the median reaches the goal.
func (r Row) Met() bool {
	switch {
	case len(r.Values) == 0:
		return false
	case r.Less:
		return r.Median() <= r.Goal
	}
	return r.Median() >= r.Goal
}

// Table is the document of one run.
type Table struct {
	Schema  int            `json:"schema"`
	Taken   string         `json:"taken"` // date
	Short   bool           `json:"short,omitempty"`
	Machine report.Machine `json:"machine"`
	Rows    []Row          `json:"rows"`
}

// Options of Run.
type Options struct {
	Program   string   // the built ww
	Directory string   // on the disk to measure
	Rounds    int      // 1..roundsMax
	Only      []string // parts to measure; empty: all
	Short     bool     // checks that everything works, in seconds: its numbers mean nothing
	Files     int      // of the part "restart", and of "memory"
	// RecoveryBytes are stored, three replicas each, for the part "recovery"; 0: it is left out.
	RecoveryBytes int64
	Progress      io.Writer
}

const roundsMax = 20

// part measures some rows; it adds values round by round.
type part struct {
	name string
	run  func(ctx context.Context, run *runner) error
}

func parts() []part {
	return []part{
		{"data", data}, {"small", small}, {"append", appends}, {"meta", meta}, {"actor", actorAlone},
		{"memory", memory}, {"restart", restart}, {"start", start}, {"idle", idle}, {"slow", slow}, {"repair", repair},
		{"recovery", recovery}, {"death", death}, {"later", later},
	}
}

// Parts lists the parts.
func Parts() []string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// runner is one run of the table.
type runner struct {
	options   Options
	directory string
	part      string // that runs now
	rows      []Row
	cluster   *processes // of the parts that want one; started by the first
	scale     scale
}

// scale is how much is measured.
type scale struct {
	fileBytes  int64
	floorBytes int64
	seconds    float64 // of one phase
	files      int
	idle       float64       // seconds
	settle     time.Duration // see floor.Settle
}

// Run measures. Errors: fault.Invalid for bad options, and what broke.
func Run(ctx context.Context, options Options) (_ []Row, err error) {
	const op = "measure the table"
	if options.Rounds < 1 || options.Rounds > roundsMax {
		return nil, fault.New(fault.Invalid, op, "%d rounds: want 1 to %d", options.Rounds, roundsMax)
	}
	for _, name := range options.Only {
		if !slices.Contains(Parts(), name) {
			return nil, fault.New(fault.Invalid, op, "there is no part %q; there are %s", name,
				strings.Join(Parts(), ", "))
		}
	}
	if options.RecoveryBytes != 0 && options.RecoveryBytes < recoveryLeast {
		return nil, fault.New(fault.Invalid, op, "%d bytes to recover: want 0 or at least %d", options.RecoveryBytes,
			recoveryLeast)
	}
	if options.Files < 1 || options.Files > filesMax {
		return nil, fault.New(fault.Invalid, op, "%d files: want 1 to %d", options.Files, filesMax)
	}
	run := &runner{options: options, scale: scale{1 << 30, 1 << 30, 3, options.Files, 10, 20 * time.Second}}
	if options.Short {
		run.scale = scale{8 << 20, 8 << 20, 0.1, min(options.Files, 2000), 0.5, 0}
	}
	if run.directory, err = os.MkdirTemp(options.Directory, "wwbench-table-"); err != nil {
		return nil, &fault.Error{Kind: fault.Disk, Op: op, Path: options.Directory,
			Reason: "no folder can be made", Err: err}
	}
	defer func() {
		if run.cluster != nil {
			err = errors.Join(err, run.cluster.close())
		}
		err = errors.Join(err, os.RemoveAll(run.directory))
	}()
	for _, p := range parts() {
		if len(options.Only) > 0 && !slices.Contains(options.Only, p.name) {
			continue
		}
		run.part = p.name
		if err := p.run(ctx, run); err != nil {
			return nil, fmt.Errorf("part %s: %w", p.name, err)
		}
	}
	return run.rows, nil
}

const filesMax = 20_000_000

func (r *runner) say(format string, arguments ...any) {
	fmt.Fprintf(r.options.Progress, format+"\n", arguments...)
}

// ratio adds a value of a guarded row: what was reached, by a floor of the same round. Goal 0: there is no target.
func (r *runner) ratio(name string, goal, reached, floor float64, detail string, arguments ...any) {
	row := Row{Name: name, Unit: "ratio", Goal: goal, Guarded: true, Floors: []float64{floor}}
	r.add(row, reached/floor, detail, arguments...)
}

// missing adds a row that nothing measures.
func (r *runner) missing(row Row) {
	row.Part = r.part
	r.rows = append(r.rows, row)
}

// add adds a value to a row of the part that runs; the first value makes the row.
func (r *runner) add(row Row, value float64, detail string, arguments ...any) {
	row.Part = r.part
	at := slices.IndexFunc(r.rows, func(have Row) bool { return have.Part == row.Part && have.Name == row.Name })
	if at < 0 {
		at = len(r.rows)
		r.rows = append(r.rows, row)
	} else {
		r.rows[at].Floors = append(r.rows[at].Floors, row.Floors...)
	}
	r.rows[at].Values = append(r.rows[at].Values, value)
	r.rows[at].Detail = fmt.Sprintf(detail, arguments...)
}

// WriteText prints the table: ratios first.
func (t *Table) WriteText(w io.Writer) error {
	var err error
	line := func(format string, arguments ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format+"\n", arguments...)
		}
	}
	if t.Short {
		line("A short run: it shows that everything works. Its numbers mean nothing.")
	}
	for _, guarded := range []bool{true, false} {
		if guarded {
			line("ratios to what the machine allowed in the same round, median of the rounds:")
		} else {
			line("and beside them:")
		}
		for _, r := range t.Rows {
			if r.Guarded == guarded && r.Missing == "" {
				line("  %-4s %-44s %11s   %-13s %s", r.verdict(), r.Name, r.value(r.Median()), r.goal(), r.detail())
			}
		}
	}
	for _, r := range t.Rows {
		if r.Missing != "" {
			line("  --   %-44s %11s   %-13s %s", r.Name, "", r.goal(), r.Missing)
		}
	}
	return err
}

// WriteMarkdown prints the table in the form of docs/results/targets.md.
func (t *Table) WriteMarkdown(out io.Writer) error {
	var text strings.Builder
	text.WriteString("| what | target | reached | met | rounds | |\n|---|---|---|---|---|---|\n")
	for _, r := range t.Rows {
		if r.Missing != "" {
			fmt.Fprintf(&text, "| %s | %s | | | | %s |\n", r.Name, r.goal(), r.Missing)
			continue
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s |\n", r.Name, r.goal(), r.value(r.Median()),
			r.verdict(), r.span(), r.Detail)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (r Row) verdict() string {
	switch {
	case r.Goal == 0:
		return ""
	case r.Met():
		return "yes"
	}
	return "NO"
}

func (r Row) goal() string {
	switch {
	case r.Goal == 0:
		return ""
	case r.Less:
		return "≤ " + r.value(r.Goal)
	}
	return "≥ " + r.value(r.Goal)
}

func (r Row) value(value float64) string {
	switch {
	case r.Unit == "ratio" && value < 0.1:
		return fmt.Sprintf("%.1f %%", 100*value)
	case r.Unit == "ratio":
		return fmt.Sprintf("%.0f %%", 100*value)
	case r.Unit == "factor":
		return fmt.Sprintf("%.2f", value)
	case math.Abs(value) >= 1000:
		return fmt.Sprintf("%.0f %s", value, r.Unit)
	}
	return fmt.Sprintf("%.3g %s", value, r.Unit)
}

func (r Row) span() string {
	if len(r.Values) < 2 {
		return ""
	}
	return fmt.Sprintf("%s to %s", r.value(slices.Min(r.Values)), r.value(slices.Max(r.Values)))
}

func (r Row) detail() string {
	if s := r.span(); s != "" {
		return r.Detail + " (" + s + ")"
	}
	return r.Detail
}
