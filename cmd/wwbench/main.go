// Command wwbench measures Whispering Woods, and first of all what the machine
// itself allows.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/internal/profiling"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "wwbench",
		Short:         "Measure Whispering Woods beside the limits of the machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(floorCommand(), miniCommand())
	kind := root.PersistentFlags().String("profile", "", "write a pprof profile of this process: "+profiling.Modes())
	directory := root.PersistentFlags().String("profile-dir", ".", "directory of the profile")
	stopProfile := func() {}
	root.PersistentPreRunE = func(*cobra.Command, []string) (err error) {
		stopProfile, err = profiling.Start(*kind, *directory)
		return err
	}
	err := root.ExecuteContext(ctx)
	stopProfile()
	if err != nil {
		fmt.Fprintf(os.Stderr, "wwbench: %v\n", err)
		stop()
		os.Exit(1)
	}
}
