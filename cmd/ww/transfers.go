package main

import (
	"cmp"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// transferFlags are those of put, get and cp.
type transferFlags struct {
	recursive, force, parents bool
	parallel                  int
	replication               int
	chunkSize                 string
	bandwidth                 bandwidth
}

func (f *transferFlags) register(cmd *cobra.Command, creates bool) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "include directories with everything in them")
	flags.BoolVarP(&f.force, "force", "f", false, "overwrite existing files")
	flags.BoolVarP(&f.parents, "parents", "p", false, "make missing parent directories of the target")
	flags.IntVar(&f.parallel, "parallel", transfer.ParallelDefault, "files that are transferred at the same time")
	f.bandwidth.register(cmd)
	if creates {
		f.registerCreate(cmd)
	}
}

func (f *transferFlags) registerCreate(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.replication, "replication", 0, "copies of each file; 0: the cluster's default")
	cmd.Flags().StringVar(&f.chunkSize, "chunk-size", "",
		"`size` of a chunk, a multiple of 64KiB; default: the cluster's")
}

// options checks the flags.
func (f *transferFlags) options() (transfer.Options, error) {
	options := transfer.Options{
		Parallel: f.parallel, Recursive: f.recursive, Overwrite: f.force, Parents: f.parents,
		Replication: f.replication,
	}
	if f.parallel < 1 || f.parallel > transfer.ParallelMax {
		return options, usage("--parallel %d is not within 1..%d", f.parallel, transfer.ParallelMax)
	}
	if err := f.bandwidth.check(); err != nil {
		return options, err
	}
	if f.replication < 0 {
		return options, usage("--replication %d is negative", f.replication)
	}
	if f.chunkSize != "" {
		size, err := config.ParseSize(f.chunkSize)
		if err != nil {
			return options, usage("--chunk-size: %v", err)
		}
		options.ChunkSize = int64(size)
	}
	return options, nil
}

// transferCall is transfer.Put, Get or Copy.
type transferCall func(context.Context, *client.Client, []transfer.Pair, transfer.Options) error

// transfer runs a call with progress, one JSON object per file, one message per failure, and a line of summary.
func (a *app) transfer(ctx context.Context, verb string, woods *client.Client, call transferCall, list []transfer.Pair,
	options transfer.Options) error {
	out, bar := a.printer(), a.progress(verb)
	var failed failures
	var files, directories, bytes int64
	start := time.Now()
	options.Planned, options.Progress = bar.plan, bar.moved
	options.Done = func(done transfer.Result) {
		failed.total++
		switch {
		case done.Err != nil && ctx.Err() != nil:
			return // the signal ended it; that is reported once
		case done.Err != nil:
			bar.end()
			a.complain(verb, &failed, hintOverwrite(named(done), options.Overwrite))
			return
		case done.Directory:
			directories++
		default:
			files++
			bytes += done.Bytes
		}
		kind := "file"
		if done.Directory {
			kind = "directory"
		}
		result := record{
			"verb": verb, "source": done.Source, "target": done.Target,
			"bytes": done.Bytes, "seconds": seconds(done.Elapsed),
		}
		addSlow(result, done.SlowNodes)
		out.object(kind, result)
	}
	err := call(ctx, woods, list, options)
	bar.end()
	if err != nil {
		return out.done(err)
	}
	elapsed := time.Since(start)
	out.object("summary", record{
		"verb": verb, "files": files, "directories": directories, "bytes": bytes,
		"failed": failed.failed, "seconds": seconds(elapsed),
	})
	if files > 0 && isTerminal(a.stderr) {
		a.note("%s: %s, %s in %.2fs (%s)", verb, count(int(files), "file"), size(bytes, true), elapsed.Seconds(),
			rate(bytes, elapsed))
	}
	return out.done(failed.err())
}

// addSlow adds the nodes that held up a file, if there were any.
func addSlow(to record, nodes []client.SlowNode) {
	if len(nodes) == 0 {
		return
	}
	list := make([]record, 0, len(nodes))
	for _, n := range nodes {
		waitsFor := "disk"
		if n.Link {
			waitsFor = "link"
		}
		list = append(list, record{"node": n.NodeID, "address": n.Address, "bytes_per_second": int64(n.BytesPerSecond),
			"waits_for": waitsFor})
	}
	to["slow_nodes"] = list
}

// named makes sure that a failure names its source.
func named(r transfer.Result) error {
	if _, ok := fault.Outermost(r.Err); !ok {
		return &fault.Error{Kind: cmp.Or(fault.KindOf(r.Err), fault.Internal), Path: r.Source, Reason: r.Err.Error()}
	}
	return fault.WithPath(r.Err, r.Source)
}
