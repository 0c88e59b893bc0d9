package table

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// What the peers reached on the machine that the targets were set on, as ratios to the floors that were measured there:
// absolute numbers of another day say nothing. 1 GiB stored: MooseFS 3.0.117 5.2 s (synced), SeaweedFS 4.44 6.6 s (not
// synced), raw pipeline with sync 1.8 s. 4 KiB files, 16 writers: MooseFS 727 /s, SeaweedFS 1,875 /s (not synced),
// create + fdatasync + rename + directory sync in three directories 1,200 /s. Each is the peer's best run.
const (
	mooseStore   = 1.8 / 5.2
	seaweedStore = 1.8 / 6.6
	mooseSmall   = 727.0 / 1200
	seaweedSmall = 1875.0 / 1200
)

// data stores and fetches one large file.
func data(ctx context.Context, run *runner) error {
	system, err := run.processes(ctx)
	if err != nil {
		return err
	}
	woods := system.clients[0]
	err = run.rounds("store and fetch", func(number int) error {
		floors, err := run.floors(ctx, floor.Pipeline, floor.Sendfile, floor.Copying)
		if err != nil {
			return err
		}
		path := fmt.Sprintf("/data-%d", number)
		source := workload.Source(uint64(number), 0)
		before := time.Now()
		if _, err := woods.Store(ctx, path, source, run.scale.fileBytes, client.StoreOptions{}); err != nil {
			return err
		}
		store := floor.Result{Bytes: run.scale.fileBytes, Duration: time.Since(before)}

		var got dropper
		if _, err := woods.Fetch(ctx, path, &got, client.FetchOptions{}); err != nil { // warms what the store evicted
			return err
		}
		used, err := cluster.CPU(system.Datanodes)
		if err != nil {
			return err
		}
		before = time.Now()
		if _, err := woods.Fetch(ctx, path, &got, client.FetchOptions{}); err != nil {
			return err
		}
		fetch := floor.Result{Bytes: run.scale.fileBytes, Duration: time.Since(before)}
		after, err := cluster.CPU(system.Datanodes)
		if err != nil {
			return err
		}
		fetch.ServerCPU = after - used
		if got.bytes.Load() != 2*run.scale.fileBytes {
			return fault.New(fault.CorruptData, "fetch", "%d bytes came, not %d", got.bytes.Load(),
				2*run.scale.fileBytes)
		}
		// not measured
		if _, err := woods.Fetch(ctx, path, workload.Checker(uint64(number), 0), client.FetchOptions{}); err != nil {
			return err
		}
		run.addData(store, fetch, floors)
		return nil
	})
	for number := range run.options.Rounds {
		_, removeErr := woods.Remove(ctx, fmt.Sprintf("/data-%d", number), client.RemoveOptions{})
		err = cmp.Or(err, removeErr)
	}
	return err
}

func (r *runner) addData(store, fetch floor.Result, floors map[string]floor.Result) {
	size := fmt.Sprintf("%d MiB", r.scale.fileBytes>>20)
	pipeline, sendfile, copying := floors[floor.Pipeline], floors[floor.Sendfile], floors[floor.Copying]
	stored := store.Rate() / pipeline.Rate()
	r.ratio("store "+size+", 3 replicas, synced", 0.85, store.Rate(), pipeline.Rate(),
		"%s against the raw pipeline's %s", mbs(store), mbs(pipeline))
	r.ratio("fetch "+size+", warm, verified", 0.9, fetch.Rate(), sendfile.Rate(),
		"%s against one verified sendfile connection's %s", mbs(fetch), mbs(sendfile))
	r.add(Row{Name: "datanodes' CPU per GB fetched", Unit: "ratio", Goal: 0.8, Less: true, Guarded: true,
		Floors: []float64{1 / copying.CPUPerGB()}}, fetch.CPUPerGB()/copying.CPUPerGB(),
		"%.2f s against a copying server's %.2f s (sendfile: %.2f s)", fetch.CPUPerGB(), copying.CPUPerGB(),
		sendfile.CPUPerGB())
	r.add(Row{Name: "store, times MooseFS's ratio to its floor", Unit: "factor", Goal: 3}, stored/mooseStore,
		"MooseFS stored at %.0f %% of the raw pipeline of its day", 100*mooseStore)
	r.add(Row{Name: "store, times SeaweedFS's ratio to its floor", Unit: "factor", Goal: 3}, stored/seaweedStore,
		"SeaweedFS, without sync, at %.0f %%", 100*seaweedStore)
}

func mbs(f floor.Result) string { return fmt.Sprintf("%.0f MB/s", f.Rate()/1e6) }

// dropper counts what it is given.
type dropper struct{ bytes atomic.Int64 }

// WriteAt implements io.WriterAt.
func (d *dropper) WriteAt(p []byte, _ int64) (int, error) {
	d.bytes.Add(int64(len(p)))
	return len(p), nil
}

var _ io.WriterAt = (*dropper)(nil)
