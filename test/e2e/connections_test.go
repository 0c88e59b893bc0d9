package e2e

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/dataplane/wire"
)

// idleConnections is how many connections a daemon has to hold for nearly
// nothing, and what each may cost it, in bytes of live heap and stacks
// (docs/operations.md#memory); leftBytes is what may be left when they are gone.
const (
	idleConnections     = 1000
	dataConnectionBytes = 4 << 10
	grpcConnectionBytes = 32 << 10
	leftBytes           = 8 << 20
	leftCount           = 16 // goroutines, or descriptors
)

// TestIdleConnections opens 1,000 connections to a datanode, to the namenode and
// to the log server, each of which asks once and then says nothing.
func TestIdleConnections(t *testing.T) {
	system := start(t, cluster.Options{Datanodes: 3, LogLevel: "info"})
	ctx := patient(t, time.Minute)
	content := bytesOf(1, 700_000)
	mustWW(t, system, "put", localFile(t, content), "/file")
	admin := adminAddresses(t, system)
	for _, kind := range []struct {
		name       string
		process    *cluster.Process
		bytes      int64 // of each
		goroutines int   // of each
		connect    func(ctx context.Context) (stop func() error, err error)
	}{
		{"datanode", system.Datanodes[0], dataConnectionBytes, 0, func(ctx context.Context) (func() error, error) {
			return idleData(ctx, system.DataPorts[0])
		}},
		{"namenode", system.Namenode, grpcConnectionBytes, 3, func(ctx context.Context) (func() error, error) {
			return idleCall(system.NamenodePort, func(conn *grpc.ClientConn) error {
				_, err := controlpb.NewNamenodeClient(conn).Stat(ctx, &controlpb.StatRequest{Path: "/file"})
				return err
			})
		}},
		{"log-server", system.LogServer, grpcConnectionBytes, 3, func(ctx context.Context) (func() error, error) {
			return idleCall(system.LogPort, func(conn *grpc.ClientConn) error {
				_, err := controlpb.NewEditLogClient(conn).LogStatus(ctx, &controlpb.LogStatusRequest{})
				return err
			})
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			before := heldBy(t, kind.process, admin[kind.process])
			closers := make([]func() error, idleConnections-8) // others have connections too
			var all errgroup.Group
			all.SetLimit(32)
			for i := range closers {
				all.Go(func() (err error) {
					closers[i], err = kind.connect(ctx)
					return err
				})
			}
			require.NoError(t, all.Wait())
			during := heldBy(t, kind.process, admin[kind.process])
			each := (during.live - before.live) / idleConnections
			t.Logf("%+v before; %+v with %d connections, %d bytes each", before, during, len(closers), each)
			if !underRace() { // the race detector keeps books of all memory
				require.LessOrEqual(t, each, kind.bytes, "bytes of an idle connection")
			}
			require.LessOrEqual(t, during.goroutines, before.goroutines+kind.goroutines*idleConnections+leftCount)
			require.LessOrEqual(t, during.descriptors, before.descriptors+idleConnections+leftCount)

			// Others are served as ever.
			sameBytes(t, content, []byte(mustWW(t, system, "cat", "/file")), "/file")
			mustWW(t, system, "put", localFile(t, content), "/"+kind.name)

			for _, end := range closers {
				require.NoError(t, end())
			}
			requireBack(t, kind.process, admin[kind.process], before, leftCount)
		})
	}
}

// idleData opens a connection to a datanode and asks for a chunk that it does
// not have.
func idleData(ctx context.Context, port int) (func() error, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	request, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpStat},
		&wire.StatReplica{BodyVersion: wire.BodyVersion, ChunkID: make([]byte, 16)})
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	var reply wire.StatReply
	if _, err := wire.NewPacketReader(conn, 0).Expect(wire.OpStatReply, &reply); err != nil {
		return nil, err
	}
	return conn.Close, nil
}

// idleCall opens a gRPC connection of its own for one call.
func idleCall(port int, call func(*grpc.ClientConn) error) (func() error, error) {
	conn, err := rpc.Dial(fmt.Sprintf("127.0.0.1:%d", port), grpc.WithReadBufferSize(1<<10),
		grpc.WithWriteBufferSize(1<<10))
	if err != nil {
		return nil, err
	}
	if err := call(conn); err != nil {
		return nil, err
	}
	return conn.Close, nil
}
