package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/report"
)

func floorCommand() *cobra.Command {
	options := floor.Options{SizeBytes: 1 << 30}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "floor",
		Short: "Measure disk, loopback and a raw pipeline: what the machine allows",
		Long: `Measure, one after the other and with the least code: buffered and O_DIRECT
disk writes and reads, the rates of fdatasync, of small durable files and of
records in a group-committed journal, loopback TCP, a server that uses sendfile
and one that copies (with the CPU time of the sending side), a gRPC echo, and a
raw pipeline (sockets, files, checksums, acks) with and without disk. Run it
while nothing else runs.`,
		Example: `  wwbench floor --dir /data --size 1GiB
  wwbench floor --only pipeline,sendfile-verified --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []report.Floor
			options.OnRestless = restless(cmd)
			err := floor.Run(cmd.Context(), options, func(r floor.Result) error {
				all = append(all, report.FloorOf(r))
				if asJSON {
					return nil
				}
				return report.WriteFloor(cmd.OutOrStdout(), report.FloorOf(r))
			})
			if err != nil || !asJSON {
				return err
			}
			return report.WriteJSON(cmd.OutOrStdout(), struct {
				Schema  int            `json:"schema"`
				Machine report.Machine `json:"machine"`
				Floors  []report.Floor `json:"floors"`
			}{report.Schema, report.ThisMachine(options.Directory), all})
		},
	}
	cmd.Flags().StringVar(&options.Directory, "dir", ".", "`directory` on the disk to measure")
	bytesFlag(cmd, "size", "bytes per bulk measurement", &options.SizeBytes)
	cmd.Flags().IntVar(&options.Hops, "hops", 3, "datanodes of the raw pipeline, directories of the small files")
	cmd.Flags().IntVar(&options.Writers, "writers", 16,
		"small files or records under way at once; four times as many calls")
	cmd.Flags().DurationVar(&options.CountDuration, "time", 2*time.Second,
		"length of each measurement that counts operations")
	settleFlag(cmd, &options.Settle)
	cmd.Flags().StringSliceVar(&options.Only, "only", nil, "take these measurements only, by name")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}
