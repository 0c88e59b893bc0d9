package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/floor"
)

func floorCommand() *cobra.Command {
	var o floor.Options
	var size string
	var asJSON bool
	c := &cobra.Command{
		Use:   "floor",
		Short: "Measure disk, loopback and a raw pipeline: what the machine allows",
		Long: `Measures, one after the other and with the least code: buffered and O_DIRECT
disk writes, the fdatasync rate, loopback TCP, a sendfile server whose reader
verifies checksums, and a raw pipeline (sockets, files, checksums, acks) without
and with disk. Run it while nothing else runs.`,
		Example: "  wwbench floor --dir /data --size 1GiB\n  wwbench floor --json | jq .rate",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			n, err := parseSize(size)
			if err != nil {
				return err
			}
			o.SizeBytes = n
			out := c.OutOrStdout()
			return floor.Run(c.Context(), o, func(r floor.Result) error { return printResult(out, r, asJSON) })
		},
	}
	c.Flags().StringVar(&o.Directory, "dir", ".", "directory on the disk to measure")
	c.Flags().StringVar(&size, "size", "1GiB", "bytes per bulk measurement")
	c.Flags().IntVar(&o.Hops, "hops", 3, "datanodes of the raw pipeline")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per result")
	return c
}

// parseSize reads --size.
func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<40 {
		return 0, fmt.Errorf("--size %q: want a number of bytes such as 1GiB, up to 1TiB", text)
	}
	return int64(n), nil
}

func printResult(w io.Writer, r floor.Result, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			floor.Result
			Rate float64 `json:"rate"`
		}{r, r.Rate()})
	}
	rate := fmt.Sprintf("%.0f MB/s", r.Rate()/1e6)
	if r.Count > 0 {
		rate = fmt.Sprintf("%.0f /s", r.Rate())
	}
	_, err := fmt.Fprintf(w, "%-20s %12s  %6.2f s  %s\n", r.Name, rate, r.Seconds(), r.How)
	return err
}
