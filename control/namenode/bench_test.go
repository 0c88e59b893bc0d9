package namenode

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/control/rpc"
)

// BenchmarkDurableMkdir is 64 callers per CPU, each waiting until its record is
// fsynced by a real log server in this process, over real gRPC.
func BenchmarkDurableMkdir(b *testing.B) {
	log, err := logserver.Start(logserver.Options{Directory: filepath.Join(b.TempDir(), "log"), ListenGRPC: "127.0.0.1:0"})
	require.NoError(b, err)
	defer func() { require.NoError(b, log.Close(b.Context())) }()
	s, err := Start(Options{Listen: "127.0.0.1:0", LogServers: []string{log.Addr()}, Actor: testConfig()})
	require.NoError(b, err)
	defer func() { require.NoError(b, s.Close(b.Context())) }()
	<-s.Ready()
	connection, err := rpc.Dial(s.Addr())
	require.NoError(b, err)
	defer connection.Close()
	client := controlpb.NewNamenodeClient(connection)
	var clients atomic.Uint32
	b.SetParallelism(64)
	before := s.Stats()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		n := clients.Add(1)
		id := make([]byte, 16)
		id[0], id[1] = byte(n), byte(n>>8)+1
		for sequence := uint64(1); p.Next(); sequence++ {
			_, err := client.Mkdir(b.Context(), &controlpb.MkdirRequest{Path: fmt.Sprintf("/%d-%d", n, sequence),
				Header: &controlpb.MutationHeader{ClientId: id, Sequence: sequence, OldestPending: sequence}})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	after := s.Stats()
	b.ReportMetric(float64(after.Records-before.Records)/float64(after.Batches-before.Batches), "records/batch")
}
