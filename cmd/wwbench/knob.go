package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/bench/knob"
	"github.com/whispering-woods/ww/daemon/config"
)

func knobCommand() *cobra.Command {
	var options knob.Options
	cmd := &cobra.Command{
		Use:   "knob SETTING=VALUE,VALUE... -- WORKLOAD [FLAGS]",
		Short: "Measure what one setting does",
		Long: `Start a cluster of real processes for each value of a setting of the datanodes,
the namenode, the log server or the client, load them in turn, and print what each
reached beside the first. The workload is a command of wwbench with its
flags; its floors are left out.`,
		Example: `  wwbench knob datanode.window=8MiB,1MiB --dir /data -- write --size 256MiB --count 4 --verify=false
  wwbench knob namenode.batches_in_flight=1,2,4 --dir /data -- meta --ops create --workers 64 --duration 2s
  wwbench knob client.packet_size=64KiB,256KiB,1MiB --dir /dev/shm -- write --size 256MiB --count 4`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, values, ok := strings.Cut(args[0], "=")
			if at := cmd.ArgsLenAtDash(); !ok || at != 1 || len(args) < 2 {
				return usage(cmd, "want one SETTING=VALUE,VALUE..., then -- and a workload")
			}
			options.Key, options.Values, options.Workload = key, strings.Split(values, ","), args[1:]
			if options.Rounds < 1 || options.Rounds > 100 || options.Datanodes < 1 || options.Datanodes > 16 {
				return usage(cmd, "--rounds %d, --datanodes %d: want 1 to 100, and 1 to 16",
					options.Rounds, options.Datanodes)
			}
			section, _, _ := strings.Cut(key, ".")
			if !slices.Contains(knob.Sections(), section) {
				return usage(cmd, "%s is no setting of: %s", key, strings.Join(knob.Sections(), ", "))
			}
			if section == "client" &&
				!slices.Contains([]string{"client.window", "client.packet_size", "client.parallel_chunks"}, key) {
				return usage(cmd, "%s has no effect on a workload", key)
			}
			if !slices.ContainsFunc(config.Fields(section), func(f config.Field) bool { return f.Key == key }) {
				return usage(cmd, "there is no setting %q", key)
			}
			for _, value := range options.Values {
				if _, err := config.Load(config.Source{Flags: map[string]string{key: value}}); err != nil {
					return fmt.Errorf("%w: %w", errUsage, err)
				}
			}
			var err error
			if options.Bench, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			if options.Program, err = programOr(options.Program); err != nil {
				return err
			}
			options.Progress = cmd.ErrOrStderr()
			results, err := knob.Run(cmd.Context(), options)
			if err != nil {
				return err
			}
			return knob.Write(cmd.OutOrStdout(), key, results)
		},
	}
	f := cmd.Flags()
	f.StringVar(&options.Program, "ww", "", "the `program` to measure; default: ww beside wwbench")
	f.StringVar(&options.Directory, "dir", ".", "`directory` on the disk to measure")
	f.IntVar(&options.Datanodes, "datanodes", 3, "datanodes of each cluster")
	f.IntVar(&options.Rounds, "rounds", 5, "how often the values are measured in turn")
	return cmd
}
