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
			switch {
			case asJSON && markdown:
				return usage(c, "--json or --markdown, not both")
			case o.Short && (save != "" || baseline != ""):
				return usage(c, "the numbers of --short mean nothing: leave --save and --baseline out")
			case save != "" && baseline != "":
				return usage(c, "--save or --baseline, not both: a regression would become the baseline")
			}
			var before *table.Baselines
			var err, againErr error
			if baseline != "" { // a bad one shows before minutes have passed
				if before, err = table.ReadBaselines(baseline); err != nil {
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
			t := &table.Table{Schema: table.Schema, Taken: time.Now().UTC().Format(time.DateOnly), Short: o.Short, Machine: report.ThisMachine(o.Directory), Rows: rows}
			var suspects []string
			if before != nil {
				suspects, againErr = again(c.Context(), o, before, t)
			}
			if err := writeTable(c.OutOrStdout(), t, asJSON, markdown); err != nil {
				return err
			}
			if againErr != nil {
				return fmt.Errorf("measure once more: %w", againErr)
			}
			if save != "" {
				return table.Save(save, t)
			}
			if before == nil {
				return nil
			}
			return held(c.ErrOrStderr(), before, t, suspects)
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
	f.StringVar(&save, "save", "", "make the table this machine's baseline in this `file`; other machines' stay there, and with --only the other parts")
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
// were picked because they look bad prove nothing, so only the new ones count. It
// returns the names of those ratios.
func again(ctx context.Context, o table.Options, before *table.Baselines, t *table.Table) (suspects []string, err error) {
	found, _, _, _ := before.Held(t)
	if len(found) == 0 {
		return nil, nil
	}
	o.Only = nil
	for _, r := range found {
		suspects = append(suspects, r.Name)
		fmt.Fprintf(o.Progress, "measured once more: %s\n", r)
		if !slices.Contains(o.Only, r.Part) {
			o.Only = append(o.Only, r.Part)
		}
	}
	o.Rounds = max(o.Rounds, againRounds)
	more, err := table.Run(ctx, o)
	if err == nil {
		t.Rows = table.Merge(t.Rows, more)
	}
	return suspects, err
}

// held compares with the baselines and says what fell behind. Only those that did
// twice count: a ratio that was well, and is measured again because another of its
// part was not, has had no second look.
func held(w io.Writer, before *table.Baselines, now *table.Table, twice []string) error {
	found, strangers, compared, known := before.Held(now)
	if !known {
		fmt.Fprintf(w, "wwbench: there is no baseline of this machine (%s, %d CPUs, %s): held against those of others, the mildest counts; make one with --save\n",
			now.Machine.CPUModel, now.Machine.CPUs, now.Machine.Kernel)
	}
	for _, name := range strangers {
		fmt.Fprintf(w, "wwbench: not compared, its floor is more than twice as fast or slow as in the baseline: %s\n", name)
	}
	regressions := 0
	for _, r := range found {
		if r.Certain() && slices.Contains(twice, r.Name) {
			regressions++
			fmt.Fprintf(w, "wwbench: REGRESSION %s\n", r)
		} else {
			fmt.Fprintf(w, "wwbench: not certain %s\n", r)
		}
	}
	if regressions > 0 {
		return fmt.Errorf("%w: %d of %d ratios", errRegressed, regressions, len(compared))
	}
	if len(compared) == 0 {
		return fmt.Errorf("%w: no ratio could be compared with a baseline: make one of this machine with --save", errRegressed)
	}
	fmt.Fprintf(w, "no ratio of %d compared is certainly more than 20 %% worse than in the baseline\n", len(compared))
	return nil
}
