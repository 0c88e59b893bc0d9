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
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "wwbench: %v\n", err)
		stop()
		os.Exit(1)
	}
}
