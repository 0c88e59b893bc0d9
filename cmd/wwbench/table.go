package main

import (
	"context"
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
	var options table.Options
	var baseline, save string
	var asJSON, markdown bool
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Measure the list of this project's targets beside what is reached",
		Long: `Start real processes, measure floors and system in turn, and print each target
beside what was reached, ratios first. With --baseline it fails (exit code 4) if
the median of a ratio is worse than the baseline's by more than 20 % and chance
does not explain it; such a ratio is measured once more first. Run nothing
else meanwhile; it takes some minutes.

The peers' numbers that some targets name were taken on another day and a faster
disk, so only the ratios to the floors of their day are used.`,
		Example: `  wwbench table --dir /data --baseline bench/baseline.json
  wwbench table --dir /data --save bench/baseline.json
  wwbench table --dir /data --only data,small --rounds 5 --save bench/baseline.json
  wwbench table --dir /data --only recovery --recovery 8GiB`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case asJSON && markdown:
				return usage(cmd, "--json or --markdown, not both")
			case options.Short && (save != "" || baseline != ""):
				return usage(cmd, "the numbers of --short mean nothing: leave --save and --baseline out")
			case save != "" && baseline != "":
				return usage(cmd, "--save or --baseline, not both: a regression would become the baseline")
			}
			var before *table.Baselines
			var err, againErr error
			if baseline != "" { // a bad one shows before minutes have passed
				if before, err = table.ReadBaselines(baseline); err != nil {
					return err
				}
			}
			if options.Program, err = programOr(options.Program); err != nil {
				return err
			}
			options.Progress = cmd.ErrOrStderr()
			rows, err := table.Run(cmd.Context(), options)
			if err != nil {
				return err
			}
			measured := &table.Table{Schema: table.Schema, Taken: time.Now().UTC().Format(time.DateOnly),
				Short: options.Short, Machine: report.ThisMachine(options.Directory), Rows: rows}
			var suspects []string
			if before != nil {
				suspects, againErr = measureAgain(cmd.Context(), options, before, measured)
			}
			if err := writeTable(cmd.OutOrStdout(), measured, asJSON, markdown); err != nil {
				return err
			}
			if againErr != nil {
				return fmt.Errorf("measure once more: %w", againErr)
			}
			if save != "" {
				return table.Save(save, measured)
			}
			if before == nil {
				return nil
			}
			return compare(cmd.ErrOrStderr(), before, measured, suspects)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Program, "ww", "", "the `program` to measure; default: ww beside wwbench")
	flags.StringVar(&options.Directory, "dir", ".", "`directory` on the disk to measure")
	flags.IntVar(&options.Rounds, "rounds", 3, "how often floors and system are measured in turn")
	flags.IntVar(&options.Files, "files", 1_000_000, "files of the parts memory and restart")
	bytesFlag(cmd, "recovery", "bytes stored, three times, for the part recovery; 0: it is left out",
		&options.RecoveryBytes)
	flags.StringSliceVar(&options.Only, "only", nil, "parts to measure: "+strings.Join(table.Parts(), ","))
	flags.BoolVar(&options.Short, "short", false, "only check that everything works; the numbers mean nothing")
	flags.StringVar(&baseline, "baseline", "", "`file` of an earlier --save to compare the ratios with")
	flags.StringVar(&save, "save", "",
		"make the table this machine's baseline in this `file`; "+
			"other machines' tables stay, and with --only the other parts")
	flags.BoolVar(&asJSON, "json", false, "print one JSON document")
	flags.BoolVar(&markdown, "markdown", false, "print a Markdown table")
	return cmd
}

// programOr is the named program, or else the ww in the directory of this one.
func programOr(named string) (string, error) {
	if named != "" {
		return named, nil
	}
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

func writeTable(out io.Writer, measured *table.Table, asJSON, markdown bool) error {
	switch {
	case asJSON:
		return report.WriteJSON(out, measured)
	case markdown:
		return measured.WriteMarkdown(out)
	}
	return measured.WriteText(out)
}

// againRounds of each side can be certain.
const againRounds = 5

// measureAgain measures the parts anew in which a ratio seems to have regressed. A few rounds may have met a bad
// minute of the machine, and rounds that were picked because they look bad prove nothing, so only the new ones
// count. It returns the names of those ratios.
func measureAgain(ctx context.Context, options table.Options, before *table.Baselines,
	measured *table.Table) (suspects []string, err error) {
	found, _, _, _ := before.Compare(measured)
	if len(found) == 0 {
		return nil, nil
	}
	options.Only = nil
	for _, r := range found {
		suspects = append(suspects, r.Name)
		fmt.Fprintf(options.Progress, "measured once more: %s\n", r)
		if !slices.Contains(options.Only, r.Part) {
			options.Only = append(options.Only, r.Part)
		}
	}
	options.Rounds = max(options.Rounds, againRounds)
	more, err := table.Run(ctx, options)
	if err == nil {
		measured.Rows = table.Merge(measured.Rows, more)
	}
	return suspects, err
}

// compare compares with the baselines and prints the regressions. Only ratios that regressed twice count: a ratio
// that was good, and is measured again because another one of its part was not, has been looked at once.
func compare(out io.Writer, before *table.Baselines, now *table.Table, twice []string) error {
	found, strangers, compared, known := before.Compare(now)
	if !known {
		fmt.Fprintf(out, "wwbench: there is no baseline of this machine (%s, %d CPUs, %s): "+
			"compared with those of others, the mildest counts; make one with --save\n",
			now.Machine.CPUModel, now.Machine.CPUs, now.Machine.Kernel)
	}
	for _, name := range strangers {
		fmt.Fprintf(out, "wwbench: not compared, its floor is more than twice as fast or slow as in the baseline: %s\n",
			name)
	}
	regressions := 0
	for _, r := range found {
		if r.Certain() && slices.Contains(twice, r.Name) {
			regressions++
			fmt.Fprintf(out, "wwbench: REGRESSION %s\n", r)
		} else {
			fmt.Fprintf(out, "wwbench: not certain %s\n", r)
		}
	}
	if regressions > 0 {
		return fmt.Errorf("%w: %d of %d ratios", errRegressed, regressions, len(compared))
	}
	if len(compared) == 0 {
		return fmt.Errorf("%w: no ratio could be compared with a baseline: make one of this machine with --save",
			errRegressed)
	}
	fmt.Fprintf(out, "no ratio of %d compared is certainly more than 20 %% worse than in the baseline\n", len(compared))
	return nil
}
