package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/bench/table"
)

func tableCommand() *cobra.Command {
	var o table.Options
	var baseline, save string
	var asJSON, markdown bool
	c := &cobra.Command{
		Use:   "table",
		Short: "Measure the list of this project's targets beside what is reached",
		Long: `Starts real processes, measures floors and system in turn, and prints each target
beside what was reached, ratios first. With --baseline it fails (exit code 4) if
the median of a ratio is worse than the baseline's by more than 20 % and chance
does not explain it; what looks like that is measured once more. Leave the machine
alone meanwhile: it takes some minutes.

The peers' numbers that some targets name were taken on another day and a faster
disk, so only the ratios to the floors of their day are used.`,
		Example: `  wwbench table --dir /data --baseline bench/baseline.json
  wwbench table --dir /data --save bench/baseline.json
  wwbench table --dir /data --only data,small --rounds 5 --save bench/baseline.json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON && markdown {
				return usage(c, "--json or --markdown, not both")
			}
			var before *table.Table
			var err, againErr error
			if baseline != "" { // a bad one shows before minutes have passed
				if before, err = table.ReadBaseline(baseline); err != nil {
					return err
				}
			}
			if o.Program == "" {
				if o.Program, err = beside(); err != nil {
					return err
				}
			}
			o.Progress = c.ErrOrStderr()
			rows, err := table.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if before != nil && !o.Short {
				rows, againErr = again(c.Context(), o, before, rows)
			}
			t := &table.Table{Schema: table.Schema, Taken: time.Now().UTC().Format(time.DateOnly), Short: o.Short, Machine: report.ThisMachine(o.Directory), Rows: rows}
			if err := writeTable(c.OutOrStdout(), t, asJSON, markdown); err != nil {
				return err
			}
			if againErr != nil {
				return fmt.Errorf("measure once more: %w", againErr)
			}
			if save != "" {
				if len(o.Only) > 0 && save != "-" {
					if old, err := table.ReadBaseline(save); err == nil { // else it is new
						t.Rows = table.Merge(old.Rows, t.Rows)
					}
				}
				return writeFile(save, c.OutOrStdout(), func(w io.Writer) error { return writeTable(w, t, true, false) })
			}
			if before == nil || o.Short {
				return nil
			}
			return held(c.ErrOrStderr(), before, t)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Program, "ww", "", "the `program` to measure; default: ww beside wwbench")
	f.StringVar(&o.Directory, "dir", ".", "`directory` on the disk to measure")
	f.IntVar(&o.Rounds, "rounds", 3, "how often floors and system are measured in turn")
	f.IntVar(&o.Files, "files", 1_000_000, "files of the parts memory and restart")
	f.StringSliceVar(&o.Only, "only", nil, "parts to measure: "+strings.Join(table.Parts(), ","))
	f.BoolVar(&o.Short, "short", false, "only check that everything works; the numbers mean nothing")
	f.StringVar(&baseline, "baseline", "", "`file` of an earlier --save to hold the ratios against")
	f.StringVar(&save, "save", "", "write the table to this `file`, as a new baseline; with --only, the other parts stay as they are there")
	f.BoolVar(&asJSON, "json", false, "print one JSON document")
	f.BoolVar(&markdown, "markdown", false, "print a Markdown table")
	return c
}

// beside is the ww in the directory of this program.
func beside() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "ww")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: there is no %s; name the program with --ww", errUsage, path)
	}
	return path, nil
}

func writeTable(w io.Writer, t *table.Table, asJSON, markdown bool) error {
	switch {
	case asJSON:
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", " ")
		return encoder.Encode(t)
	case markdown:
		return t.WriteMarkdown(w)
	}
	return t.WriteText(w)
}

// againRounds of each side can be certain.
const againRounds = 5

// again measures the parts anew in which a ratio seems to have fallen behind the
// baseline: a few rounds may have met a bad minute of the machine, and rounds that
// were picked because they look bad prove nothing, so only the new ones count.
func again(ctx context.Context, o table.Options, before *table.Table, rows []table.Row) ([]table.Row, error) {
	suspects, _, _ := table.Regressions(before.Rows, rows)
	if len(suspects) == 0 {
		return rows, nil
	}
	o.Only = nil
	for _, r := range suspects {
		fmt.Fprintf(o.Progress, "measured once more: %s\n", r)
		if !slices.Contains(o.Only, r.Part) {
			o.Only = append(o.Only, r.Part)
		}
	}
	o.Rounds = max(o.Rounds, againRounds)
	more, err := table.Run(ctx, o)
	if err != nil {
		return rows, err
	}
	return table.Merge(rows, more), nil
}

// held compares with the baseline and says what fell behind.
func held(w io.Writer, before, now *table.Table) error {
	if before.Machine.CPUs != now.Machine.CPUs || before.Machine.CPUModel != now.Machine.CPUModel {
		fmt.Fprintf(w, "wwbench: the baseline is of another machine (%s, %d CPUs): make one of this machine with --save\n", before.Machine.CPUModel, before.Machine.CPUs)
	}
	suspects, strangers, compared := table.Regressions(before.Rows, now.Rows)
	for _, name := range strangers {
		fmt.Fprintf(w, "wwbench: not compared, its floor is more than twice as fast or slow as in the baseline: %s\n", name)
	}
	regressions := 0
	for _, r := range suspects {
		if r.Certain() {
			regressions++
			fmt.Fprintf(w, "wwbench: REGRESSION %s\n", r)
		} else {
			fmt.Fprintf(w, "wwbench: not certain %s\n", r)
		}
	}
	if regressions > 0 {
		return fmt.Errorf("%w: %d ratios of the baseline of %s", errRegressed, regressions, before.Taken)
	}
	if compared == 0 {
		return fmt.Errorf("%w: no ratio could be compared with the baseline of %s: make one of this machine with --save", errRegressed, before.Taken)
	}
	fmt.Fprintf(w, "no ratio of %d compared is certainly more than 20 %% worse than in the baseline of %s\n", compared, before.Taken)
	return nil
}
