package floor

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// echoConnections is how many connections the callers of the gRPC echo share.
const echoConnections = 4

// echo counts unary gRPC calls to a server that does nothing: four callers for each writer, over four connections.
func echo(ctx context.Context, options Options) (_ Result, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Result{}, err
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	var served errgroup.Group
	served.Go(func() error { return server.Serve(listener) })
	defer func() {
		server.Stop()
		if serveErr := served.Wait(); err == nil {
			err = serveErr
		}
	}()
	var clients []grpc_health_v1.HealthClient
	for range echoConnections {
		connection, err := grpc.NewClient(listener.Addr().String(),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return Result{}, err
		}
		defer connection.Close()
		clients = append(clients, grpc_health_v1.NewHealthClient(connection))
	}
	options.Writers *= 4
	var turn atomic.Int64
	r, err := many(ctx, options, func(ctx context.Context, _ int64) error {
		c := clients[turn.Add(1)%echoConnections]
		_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	})
	r.How = fmt.Sprintf("empty unary call, server and callers in one process, %d callers over %d connections",
		options.Writers, echoConnections)
	return r, err
}

// mapInsert counts insertions of paths into a Go map by one goroutine: a measure
// of one core with its caches and memory, for what is bound by those.
func mapInsert(ctx context.Context, options Options) (Result, error) {
	const paths = 1 << 16
	names := make([]string, paths)
	for i := range names {
		names[i] = fmt.Sprintf("/directory-%03d/file-%08d", i%1000, i)
	}
	options.Writers = 1
	r, err := many(ctx, options, func(context.Context, int64) error {
		m := map[string]uint64{}
		for i, name := range names {
			m[name] = uint64(i)
		}
		return nil
	})
	r.Count *= paths
	r.How = "65,536 paths into a Go map, repeatedly, one goroutine"
	return r, err
}
