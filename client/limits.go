package client

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
)

const (
	// ParallelChunksMax bounds Options.ParallelChunks.
	ParallelChunksMax = 64

	parallelChunksDefault = 4
	packetBytesDefault    = wire.PacketBytesDefault
	windowBytesDefault    = 8 << 20
	readaheadBytesDefault = 4 << 20

	firstContactDefault = 5 * time.Second
	callTimeoutDefault  = 15 * time.Second
	dataTimeoutDefault  = 30 * time.Second
	dialTimeoutDefault  = 3 * time.Second
	leaseRenewalDefault = 15 * time.Second

	retryElapsedDefault = 60 * time.Second
	retryInitialDefault = 50 * time.Millisecond
	retryMaximumDefault = 2 * time.Second
)
