// Package floor measures what this machine allows with the least code: raw disk
// writes, fdatasync, loopback TCP, a sendfile server, and a raw pipeline of
// sockets and files with checksums and acks but no protocol and no metadata.
// Every result of the system itself is read as a ratio to these numbers of the
// same run; the numbers alone say little on a shared machine.
//
// Each measurement makes its own files in a temporary folder below the given
// directory and removes them, listens on loopback only, and ends by itself.
package floor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Options say where and how much.
type Options struct {
	Directory string // on the disk to measure
	SizeBytes int64  // bytes per bulk measurement
	Hops      int    // datanodes of the pipeline; default 3
	// SyncDuration bounds the fdatasync measurement; default 2 s.
	SyncDuration time.Duration
}

// Result is one measured limit.
type Result struct {
	Name     string        `json:"name"`
	Bytes    int64         `json:"bytes,omitempty"`
	Count    int64         `json:"count,omitempty"`
	Duration time.Duration `json:"duration_ns"`
	// What was done, for people.
	How string `json:"how"`
}

// Seconds is the measured time.
func (r Result) Seconds() float64 { return r.Duration.Seconds() }

// Rate is bytes per second, or operations per second for a counted result.
func (r Result) Rate() float64 {
	if r.Duration <= 0 {
		return 0
	}
	if r.Count > 0 {
		return float64(r.Count) / r.Seconds()
	}
	return float64(r.Bytes) / r.Seconds()
}

// Names of the results.
const (
	DiskBuffered  = "disk-write-buffered"
	DiskDirect    = "disk-write-direct"
	DiskSync      = "disk-fdatasync-4k"
	Loopback      = "loopback-tcp"
	Sendfile      = "sendfile-verified"
	Pipeline      = "pipeline"
	PipelineNoIO  = "pipeline-no-disk"
	packetBytes   = 256 << 10
	writeoutBytes = 8 << 20
)

// Run takes every measurement, one after the other, and hands each result to
// report as it ends; an error of report ends the run.
func Run(ctx context.Context, o Options, report func(Result) error) (err error) {
	if o.Hops == 0 {
		o.Hops = 3
	}
	if o.SyncDuration == 0 {
		o.SyncDuration = 2 * time.Second
	}
	directory, err := os.MkdirTemp(o.Directory, "wwbench-floor-")
	if err != nil {
		return fmt.Errorf("make a folder for the floor measurements: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	o.Directory = directory
	for _, m := range []struct {
		name string
		run  func(context.Context, Options) (Result, error)
	}{
		{DiskBuffered, diskBuffered},
		{DiskDirect, diskDirect},
		{DiskSync, diskSync},
		{Loopback, loopback},
		{Sendfile, sendfile},
		{PipelineNoIO, pipelineNoDisk},
		{Pipeline, pipeline},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := m.run(ctx, o)
		if err != nil {
			return fmt.Errorf("measure %s: %w", m.name, err)
		}
		r.Name = m.name
		if err := report(r); err != nil {
			return err
		}
	}
	return nil
}
