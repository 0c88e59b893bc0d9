package table

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/statemachine"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/fault"
)

// actorAlone steps mutations through the state machine, without network and log.
func actorAlone(ctx context.Context, run *runner) error {
	return run.rounds("state machine alone", func(int) error {
		floors, err := run.floors(ctx, floor.MapInsert)
		if err != nil {
			return err
		}
		folders, err := run.repeat(ctx, func(m *statemachine.Machine, i int) error {
			return m.Mkdir(fmt.Sprintf("/%08d", i))
		})
		if err != nil {
			return err
		}
		files, err := run.repeat(ctx, func(m *statemachine.Machine, i int) error { return m.FillFrom(i, 1) })
		if err != nil {
			return err
		}
		files *= 2 // create, complete
		inserts := floors[floor.MapInsert].Rate()
		run.add(Row{Name: "state machine alone, mkdir", Unit: "/s", Goal: 300_000}, folders, "mutations; one goroutine")
		run.add(Row{Name: "state machine alone, files", Unit: "/s", Goal: 300_000}, files,
			"mutations: create with a chunk on three nodes, complete")
		run.ratio("state machine, mkdir, to a Go map", 0, folders, inserts, "%.0f insertions /s", inserts)
		run.ratio("state machine, files, to a Go map", 0, files, inserts, "%.0f insertions /s", inserts)
		return nil
	})
}

// repeat is how often per second a new machine does something.
func (r *runner) repeat(ctx context.Context, do func(m *statemachine.Machine, i int) error) (float64, error) {
	machine, err := statemachine.New(3, 1, nil)
	if err != nil {
		return 0, err
	}
	const step = 1000 // between two looks at the clock
	started := time.Now()
	count := 0
	for ; time.Since(started) < r.phase(); count += step {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		for i := range step {
			if err := do(machine, count+i); err != nil {
				return 0, err
			}
		}
	}
	return float64(count) / time.Since(started).Seconds(), nil
}

// memory counts the heap of a namespace, and takes it through a checkpoint.
func memory(_ context.Context, run *runner) error {
	run.say("memory of %d files", run.scale.files)
	s, err := statemachine.Measure(run.scale.files, run.directory)
	if err != nil {
		return err
	}
	run.add(Row{Name: "heap per file, one chunk, three replicas", Unit: "bytes", Goal: 300, Less: true},
		s.HeapPerFile, "%d files", s.Files)
	run.add(Row{Name: "a checkpoint of them, loaded", Unit: "s", Goal: goalOfFiles(s.Files),
		Less: true}, s.Load.Seconds(),
		"%.0f MB, written in %.2f s; the target for 10 M files is 30 s, %.1f s for these",
		float64(s.CheckpointBytes)/1e6, s.Write.Seconds(), goalOfFiles(s.Files))
	return nil
}

// goalOfFiles scales the target of 30 s for 10 M files.
func goalOfFiles(files int) float64 { return 30 * float64(files) / 10e6 }

// restartTailRecords is the longest tail that a namenode with default settings leaves behind a checkpoint, for a
// state of files with a chunk each: an eighth of its inodes and chunks, at least 50,000 records.
func restartTailRecords(files int) int { return max(50_000, 2*files/8) }

// restart fills a real log and measures how long a namenode process needs until it serves what is in it: from the log
// alone; after the checkpoint that the namenode takes by itself then; and killed with the longest tail behind it.
func restart(ctx context.Context, run *runner) (err error) {
	run.say("restart of a namenode with %d files", run.scale.files)
	system, err := run.start(ctx, "restart", cluster.Options{Datanodes: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, system.close()) }()
	if err := system.LogServer.Start(); err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", system.LogPort)
	last, err := fillLog(ctx, address, run.scale.files)
	if err != nil {
		return err
	}
	measure := func(name, how string) error {
		started := time.Now()
		if err := system.Namenode.Start(); err != nil {
			return err
		}
		if err := cluster.Poll(ctx, func() error { return serves(ctx, system, last) }); err != nil {
			return err
		}
		took := time.Since(started)
		run.add(Row{Name: name, Unit: "s", Goal: goalOfFiles(run.scale.files), Less: true}, took.Seconds(),
			"%d files with a chunk each, no datanode reports; %s; the target for 10 M is 30 s", run.scale.files, how)
		return nil
	}
	if err := measure("namenode restart, from the log", "no checkpoint, as after the loss of both"); err != nil {
		return err
	}
	tail := restartTailRecords(run.scale.files)
	how := "SIGKILL after the checkpoint that it took by itself"
	if 2*run.scale.files < tail { // too few records
		how = "SIGKILL after a checkpoint that was asked for"
		if _, err := system.clients[0].Checkpoint(ctx); err != nil {
			return err
		}
	}
	if err := cluster.Poll(ctx, func() error { return checkpointed(ctx, system) }); err != nil {
		return err
	}
	if err := system.Namenode.Kill(); err != nil {
		return err
	}
	if err := measure("namenode restart, again", how); err != nil {
		return err
	}
	if run.options.Short {
		tail = 1000
	}
	if _, err := system.clients[0].SafeMode(ctx, client.SafeModeLeave); err != nil { // no datanode will report
		return err
	}
	if err := changes(ctx, system, tail-tail/100); err != nil {
		return err
	}
	status, err := system.clients[0].ClusterStatus(ctx)
	if err != nil {
		return err
	}
	if err := system.Namenode.Kill(); err != nil {
		return err
	}
	return measure("namenode restart, long tail", fmt.Sprintf("SIGKILL with %d records behind the last checkpoint",
		status.Checkpoint.RecordsSince))
}

// checkpointed asks whether a checkpoint is stored.
func checkpointed(ctx context.Context, system *processes) error {
	status, err := system.clients[0].ClusterStatus(ctx)
	if err != nil {
		return err
	}
	if status.Checkpoint.Txid == 0 || status.Checkpoint.Running {
		return fault.New(fault.Busy, "restart", "no checkpoint is stored yet")
	}
	return nil
}

// changes makes n folders, each new one replaces an earlier one: the state
// stays as large as it is, and the log grows by n records or a few less.
func changes(ctx context.Context, system *processes, n int) error {
	const workers = 64
	group, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		group.Go(func() error {
			woods := system.clients[w%len(system.clients)]
			name := fmt.Sprintf("/change-%d", w)
			for range n / workers / 2 {
				if err := woods.Mkdir(ctx, name, client.MkdirOptions{}); err != nil {
					return err
				}
				if _, err := woods.Remove(ctx, name, client.RemoveOptions{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// serves asks for a file, over a connection of its own: package client and gRPC
// would wait for up to a second between attempts at a server that was gone.
func serves(ctx context.Context, system *processes, path string) error {
	ended, how := system.Namenode.Ended()
	select {
	case <-ended:
		return fault.New(fault.Closed, "restart", "the namenode ended: %v", how())
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	once, err := client.RetryByName(client.RetryNone, client.RetryLimits{})
	if err != nil {
		return err
	}
	woods, err := client.Dial(ctx, client.Options{Namenodes: []string{system.Address()}, Name: "wwbench", Retry: once})
	if err != nil {
		return err
	}
	defer woods.Close()
	_, err = woods.Stat(ctx, path)
	return err
}

const (
	// Batches like those of a busy namenode.
	batchRecords = 1000
	batchBytes   = 1 << 20
)

// fillLog writes the records of a namespace of files to a log server and returns the path of the last file.
func fillLog(ctx context.Context, address string, files int) (last string, err error) {
	log, err := editlog.Dial(editlog.Options{Addresses: []string{address}})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	grant, err := log.AcquireEpoch(ctx, "wwbench")
	if err != nil {
		return "", err
	}
	durable, failed := make(chan uint64, 1), make(chan error, 1)
	writer, err := log.OpenWriter(editlog.WriterOptions{
		Grant: grant,
		OnDurable: func(txid uint64) {
			select { // only the latest counts
			case <-durable:
			default:
			}
			durable <- txid
		},
		OnFailed: func(err error) { failed <- err },
	})
	if err != nil {
		return "", err
	}
	defer writer.Close()
	batches := &batcher{ctx: ctx, writer: writer, next: grant.LastTxid + 1}
	machine, err := statemachine.New(10, grant.Epoch, batches.record)
	if err != nil {
		return "", err
	}
	if err := machine.Fill(files); err != nil {
		return "", err
	}
	if batches.flush(); batches.err != nil {
		return "", batches.err
	}
	for {
		select {
		case txid := <-durable:
			if txid == machine.Txid() {
				return statemachine.PathOf(files - 1), nil
			}
		case err := <-failed:
			return "", err
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// batcher gathers records into batches.
type batcher struct {
	ctx     context.Context
	writer  *editlog.Writer
	next    uint64 // txid of the first record gathered
	records [][]byte
	bytes   int
	err     error
}

func (b *batcher) record(txid uint64, record []byte) {
	if b.err == nil && txid != b.next+uint64(len(b.records)) {
		b.err = fault.New(fault.Gap, "fill the log", "record %d after %d", txid, b.next+uint64(len(b.records)))
	}
	b.records = append(b.records, append([]byte(nil), record...))
	if b.bytes += len(record); len(b.records) >= batchRecords || b.bytes >= batchBytes {
		b.flush()
	}
}

func (b *batcher) flush() {
	if b.err == nil && len(b.records) > 0 {
		b.err = b.writer.Append(b.ctx, b.next, b.records)
	}
	b.next += uint64(len(b.records))
	b.records, b.bytes = nil, 0
}
