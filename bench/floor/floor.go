// Package floor measures what this machine allows with the least code: raw disk reads and writes, the rate of small
// durable files, loopback TCP, servers that send a file with and without copying it, a gRPC echo, and a raw
// pipeline of sockets and files with checksums and acks but no protocol and no metadata. Every result of the system
// itself is read as a ratio to these numbers of the same run; the numbers alone say little on a shared machine.
//
// Each measurement makes its own files in a temporary folder below the given
// directory and removes them, listens on loopback only, and ends by itself.
package floor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
)

// Options say what, where and how much.
type Options struct {
	Directory     string        // on the disk to measure
	SizeBytes     int64         // bytes per bulk measurement
	Hops          int           // datanodes of the pipeline, directories of the small files; default 3
	CountDuration time.Duration // bounds each measurement that counts operations; default 2 s
	// Writers is how many small files, records or calls are under way at once;
	// default 16, and four times as many for calls.
	Writers int
	// Settle is how long to wait, at most, for the disk to become quiet before each
	// measurement that uses it, and in the end; 0: not at all. See Settle.
	Settle time.Duration
	// OnRestless is called when the disk was not quiet within Settle; may be nil.
	OnRestless func(waited time.Duration)
	Only       []string // names the measurements to take, in any order; empty: all
}

// Result is one measured limit.
type Result struct {
	Name     string        `json:"name"`
	Bytes    int64         `json:"bytes,omitempty"`
	Count    int64         `json:"count,omitempty"`
	Duration time.Duration `json:"duration_ns"`
	// ServerCPU is the CPU time of the sending side, where it is known.
	ServerCPU time.Duration `json:"server_cpu_ns,omitempty"`
	How       string        `json:"how"` // what was done, for people
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

// CPUPerGB is the seconds of CPU time that the sending side used for 10^9 bytes; 0 if that is not known.
func (r Result) CPUPerGB() float64 {
	if r.Bytes == 0 {
		return 0
	}
	return r.ServerCPU.Seconds() * 1e9 / float64(r.Bytes)
}

// Names of the results.
const (
	DiskBuffered   = "disk-write-buffered"
	DiskDirect     = "disk-write-direct"
	DiskRead       = "disk-read-buffered"
	DiskReadDirect = "disk-read-direct"
	DiskSync       = "disk-fdatasync-4k"
	DiskSyncHops   = "disk-fdatasync-4k-hops"
	SmallSynced    = "small-files-synced"
	SmallJournal   = "small-files-journal"
	Loopback       = "loopback-tcp"
	Sendfile       = "sendfile-verified"
	Copying        = "copying-verified"
	Echo           = "grpc-echo"
	PipelineEcho   = "pipeline-echo"
	ThreadsEcho    = "pipeline-echo-threads"
	PipelineNoIO   = "pipeline-no-disk"
	Pipeline       = "pipeline"
	MapInsert      = "map-insert"
)

const (
	packetBytes   = 256 << 10
	directBytes   = 4 << 20 // of one read or write with O_DIRECT
	writeoutBytes = 8 << 20
)

type measurement struct {
	name string
	disk bool // it waits for the disk
	run  func(context.Context, Options) (Result, error)
}

// measurements in the order in which they are taken.
func measurements() []measurement {
	return []measurement{
		{DiskBuffered, true, diskBuffered},
		{DiskDirect, true, diskDirect},
		{DiskRead, true, diskRead},
		{DiskReadDirect, true, diskReadDirect},
		{DiskSync, true, diskSync},
		{DiskSyncHops, true, diskSyncHops},
		{SmallSynced, true, smallSynced},
		{SmallJournal, true, smallJournal},
		{Loopback, false, loopback},
		{Sendfile, false, sendfile},
		{Copying, false, copying},
		{Echo, false, echo},
		{PipelineEcho, false, pipelineEcho},
		{ThreadsEcho, false, pipelineEchoThreads},
		{PipelineNoIO, false, pipelineNoDisk},
		{Pipeline, true, pipeline},
		{MapInsert, false, mapInsert},
	}
}

// Names lists all measurements.
func Names() []string {
	var names []string
	for _, m := range measurements() {
		names = append(names, m.name)
	}
	return names
}

// validate fills the defaults in. Error: fault.Invalid.
func (o *Options) validate() error {
	o.Hops = cmp.Or(o.Hops, 3)
	o.CountDuration = cmp.Or(o.CountDuration, 2*time.Second)
	o.Writers = cmp.Or(o.Writers, 16)
	const op = "measure floors"
	switch {
	case o.SizeBytes <= 0:
		return fault.New(fault.Invalid, op, "a size of %d bytes", o.SizeBytes)
	case o.Hops < 1 || o.Hops > hopsMax:
		return fault.New(fault.Invalid, op, "%d hops: want 1 to %d", o.Hops, hopsMax)
	case o.Writers < 1 || o.Writers > writersMax:
		return fault.New(fault.Invalid, op, "%d writers: want 1 to %d", o.Writers, writersMax)
	}
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return fault.New(fault.Invalid, op, "there is no measurement %q; there are %s", name,
				strings.Join(Names(), ", "))
		}
	}
	return nil
}

const (
	hopsMax    = 16
	writersMax = 1024
)

// Run takes the measurements, one after the other, and passes each result to
// report as it ends; an error of report ends the run.
func Run(ctx context.Context, options Options, report func(Result) error) (err error) {
	if err := options.validate(); err != nil {
		return err
	}
	directory, err := os.MkdirTemp(options.Directory, "wwbench-floor-")
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "measure floors", Path: options.Directory,
			Reason: "no folder can be made", Err: err}
	}
	parent, onDisk := options.Directory, false
	defer func() {
		err = errors.Join(err, os.RemoveAll(directory))
		if err == nil && onDisk {
			err = options.settle(ctx, parent)
		}
	}()
	options.Directory = directory
	for _, measurement := range measurements() {
		if len(options.Only) > 0 && !slices.Contains(options.Only, measurement.name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if measurement.disk {
			onDisk = true
			if err := options.settle(ctx, directory); err != nil {
				return err
			}
		}
		r, err := measurement.run(ctx, options)
		if err != nil {
			return fmt.Errorf("measure %s: %w", measurement.name, err)
		}
		r.Name = measurement.name
		if err := report(r); err != nil {
			return err
		}
	}
	return nil
}
