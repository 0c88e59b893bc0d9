package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
)

// bandwidth is the flag of verbs that move bytes.
type bandwidth struct {
	text string
	rate int64 // bytes per second; 0: unlimited
}

func (b *bandwidth) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.text, "bandwidth", "",
		"at most this `size` per second, over all files, such as 100MiB; default: no limit")
}

// check reads the flag.
func (b *bandwidth) check() error {
	if b.text == "" {
		return nil
	}
	size, err := config.ParseSize(b.text)
	if err != nil {
		return usage("--bandwidth: %v", err)
	}
	if b.rate = int64(size); b.rate < client.BandwidthLeast {
		return usage("--bandwidth %s is less than %d bytes per second", b.text, int64(client.BandwidthLeast))
	}
	return nil
}

// connectWithin is connect for a verb whose transfers keep to a limit.
func (a *app) connectWithin(ctx context.Context, limit bandwidth) (*client.Client, error) {
	woods, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	return woods, woods.SetBandwidth(limit.rate)
}
