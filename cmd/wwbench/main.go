// Command wwbench measures Whispering Woods, and first of all what the machine itself allows.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/profiling"
	"github.com/whispering-woods/ww/internal/fault"
)

// Exit codes.
const (
	exitFailed    = 1 // the measurement failed, or operations in it did
	exitUsage     = 2 // wrong flags or arguments
	exitWrong     = 3 // bytes differ from those stored
	exitRegressed = 4 // a ratio is below the baseline's
)

// Errors that decide the exit code.
var (
	errUsage     = errors.New("wrong usage")
	errWrong     = errors.New("bytes differ from those stored")
	errRegressed = errors.New("slower than the baseline")
)

func main() {
	daemon.SpareProcessors() // --mini has data servers in this process
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stopProfile := func() {}
	root := newRoot(&stopProfile)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	stopProfile()
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "wwbench: %v\n", err)
	switch {
	case errors.Is(err, errUsage) || fault.KindOf(err) == fault.Invalid:
		return exitUsage
	case errors.Is(err, errWrong):
		return exitWrong
	case errors.Is(err, errRegressed):
		return exitRegressed
	}
	return exitFailed
}

func newRoot(stopProfile *func()) *cobra.Command {
	root := &cobra.Command{
		Use:   "wwbench",
		Short: "Measure Whispering Woods beside the limits of the machine",
		Long: `wwbench loads a cluster and compares what it reaches with what the machine allows:
every workload measures the floors of the machine in the same run and prints the
ratio first. Run nothing else on the machine meanwhile.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 bytes differ from those stored,
4 slower than the baseline.`,
		Example: `  wwbench floor --dir /data                         what disk, loopback and a bare pipeline can do
  wwbench small --mini --dir /data                  small files in a cluster of its own
  wwbench write --config client.yaml --bytes 10GiB  large files in a running cluster
  wwbench compare old.json new.json                 is it faster?
  wwbench knob datanode.loops=1,2 --dir /data -- write --count 8    what does a setting do?`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%v", err) })
	root.CompletionOptions.DisableDefaultCmd = true
	kind := root.PersistentFlags().String("profile", "", "write a pprof profile of this process: "+profiling.Modes())
	directory := root.PersistentFlags().String("profile-dir", ".", "directory of the profile")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		stop, err := profiling.Start(*kind, *directory)
		if err == nil {
			*stopProfile = stop
		}
		return err
	}
	root.AddCommand(floorCommand(), compareCommand(), reportCommand(), tableCommand(), knobCommand())
	for _, cmd := range workloadCommands() {
		root.AddCommand(cmd)
	}
	return root
}

// usage is an error that points to the command's help.
func usage(cmd *cobra.Command, format string, arguments ...any) error {
	return fmt.Errorf("%w: %s — see %s --help", errUsage, fmt.Sprintf(format, arguments...), cmd.CommandPath())
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "there is no command or argument %q", args[0])
	}
	return nil
}
