package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/daemon/config"
)

func floorCommand() *cobra.Command {
	var o floor.Options
	size := sizeFlag{value: 1 << 30}
	var asJSON bool
	c := &cobra.Command{
		Use:   "floor",
		Short: "Measure disk, loopback and a raw pipeline: what the machine allows",
		Long: `Measures, one after the other and with the least code: buffered and O_DIRECT
disk writes and reads, the rates of fdatasync, of small durable files and of
records in a group-committed journal, loopback TCP, a server that uses sendfile
and one that copies (with the CPU time of the sending side), a gRPC echo, and a
raw pipeline (sockets, files, checksums, acks) with and without disk. Run it
while nothing else runs.`,
		Example: `  wwbench floor --dir /data --size 1GiB
  wwbench floor --only pipeline,sendfile-verified --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			o.SizeBytes = size.value
			var all []report.Floor
			o.Restless = restless(c)
			err := floor.Run(c.Context(), o, func(r floor.Result) error {
				all = append(all, report.FloorOf(r))
				if asJSON {
					return nil
				}
				return report.WriteFloor(c.OutOrStdout(), report.FloorOf(r))
			})
			if err != nil || !asJSON {
				return err
			}
			encoder := json.NewEncoder(c.OutOrStdout())
			encoder.SetIndent("", " ")
			return encoder.Encode(struct {
				Schema  int            `json:"schema"`
				Machine report.Machine `json:"machine"`
				Floors  []report.Floor `json:"floors"`
			}{report.Schema, report.ThisMachine(o.Directory), all})
		},
	}
	c.Flags().StringVar(&o.Directory, "dir", ".", "`directory` on the disk to measure")
	c.Flags().Var(&size, "size", "bytes per bulk measurement")
	c.Flags().IntVar(&o.Hops, "hops", 3, "datanodes of the raw pipeline, directories of the small files")
	c.Flags().IntVar(&o.Writers, "writers", 16, "small files or records under way at once; four times as many calls")
	c.Flags().DurationVar(&o.CountDuration, "time", 2*time.Second, "length of each measurement that counts operations")
	settleFlag(c, &o.Settle)
	c.Flags().StringSliceVar(&o.Only, "only", nil, "take these measurements only, by name")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

// sizeFlag is a number of bytes such as 64MiB.
type sizeFlag struct{ value int64 }

func (s *sizeFlag) String() string { return config.Size(s.value).String() }
func (s *sizeFlag) Type() string   { return "size" }

// Set implements pflag.Value.
func (s *sizeFlag) Set(text string) error {
	n, err := config.ParseSize(text)
	s.value = int64(n)
	return err
}
