package table

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// chunkBytes is the chunk size of the clusters, the default of a real one.
const chunkBytes = 64 << 20

// clients of one run, with connections of their own.
const clients = 4

// processes is a cluster of real processes: a log server, a namenode and three datanodes.
type processes struct {
	*cluster.Cluster
	clients []*client.Client
}

// processes starts the cluster that several parts share.
func (r *runner) processes(ctx context.Context) (*processes, error) {
	if r.cluster != nil {
		return r.cluster, nil
	}
	system, err := r.start(ctx, "cluster", cluster.Options{Datanodes: 3})
	if err != nil {
		return nil, err
	}
	r.cluster = system
	return system, system.Start(ctx)
}

// start configures a cluster in a folder of the run.
func (r *runner) start(ctx context.Context, name string, o cluster.Options) (*processes, error) {
	directory := r.directory + "/" + name
	if err := os.Mkdir(directory, 0o755); err != nil {
		return nil, &fault.Error{Kind: fault.Disk, Op: "start a cluster", Path: directory, Err: err}
	}
	o.Program, o.Directory, o.LogLevel = r.options.Program, directory, "warn"
	o.ChunkSize, o.LeaseSoftLimit, o.LeaseHardLimit = chunkBytes, time.Minute, 5*time.Minute
	started, err := cluster.New(o)
	if err != nil {
		return nil, err
	}
	system := &processes{Cluster: started}
	for range clients {
		one, err := client.Dial(ctx, client.Options{Namenodes: []string{system.Address()}, Name: "wwbench"})
		if err != nil {
			return nil, errors.Join(err, system.close())
		}
		system.clients = append(system.clients, one)
	}
	return system, nil
}

// close ends everything.
func (p *processes) close() error {
	for _, woods := range p.clients {
		woods.Close()
	}
	return p.Close()
}
