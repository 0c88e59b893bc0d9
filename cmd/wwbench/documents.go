package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/internal/fault"
)

func compareCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "compare OLD.json NEW.json",
		Short: "Compare two measurements, with confidence",
		Long: `Compare the results that two documents (from --json) have in common: medians of
the rounds, of the ratios to the floor where there is one, and whether the
difference is more than noise (Mann-Whitney U test, as benchstat does). Measure both
in turn, a round at a time, on a machine that does nothing else: documents in one
file count together. With fewer than 4 rounds each the test cannot tell anything
from noise. ` + "`make compare BASE=COMMIT`" + ` does all of it for two commits.`,
		Example: `  for round in 1 2 3 4 5 6; do
    old/wwbench small --mini --dir /data --json >> old.json
    new/wwbench small --mini --dir /data --json >> new.json
  done
  wwbench compare old.json new.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage(cmd, "want two documents, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			documents, err := readAll(args)
			if err != nil {
				return err
			}
			changes, err := report.Compare(documents[0], documents[1])
			if err != nil {
				return err
			}
			return report.WriteChanges(cmd.OutOrStdout(), changes)
		},
	}
}

func reportCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "report FILE.json...",
		Short: "Make an HTML page with plots of measurements",
		Long: `Write one self-contained page: for each result a table, latency by percentile,
and throughput over time, with all documents (from --json) in the same plots.`,
		Example: "  wwbench report old.json new.json -o report.html",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(c, "want at least one document")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			documents, err := readAll(args)
			if err != nil {
				return err
			}
			return writeFile(out, c.OutOrStdout(), func(w io.Writer) error {
				return report.WriteHTML(w, args, documents)
			})
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "-", "`file` to write; -: standard output")
	return cmd
}

func readAll(paths []string) ([]*report.Document, error) {
	var out []*report.Document
	for _, path := range paths {
		d, err := report.Read(path)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// writeFile writes to a path, or to standard output for "-".
func writeFile(path string, stdout io.Writer, write func(io.Writer) error) error {
	if path == "-" {
		return write(stdout)
	}
	file, err := os.Create(path)
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "write", Path: path, Err: err}
	}
	if err := write(file); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "write", Path: path, Err: err}
	}
	return nil
}
