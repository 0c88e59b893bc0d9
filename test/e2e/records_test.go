package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/record"
)

// TestRecordsSurviveKills: 16 writers append records to one file while SIGKILL
// ends datanodes (the one that appends, first of all) and the namenode. Every
// acknowledged record is there, whole, once for a reader, and in the order of
// its writer. E2E_RECORDS=100000 makes it long.
func TestRecordsSurviveKills(t *testing.T) {
	t.Parallel()
	const writers = 16
	total := setting(t, "E2E_RECORDS", 4000)
	seed := setting(t, "E2E_SEED", uint64(time.Now().UnixNano()))
	t.Logf("repeat with E2E_RECORDS=%d E2E_SEED=%d", total, seed)
	each := int(total) / writers
	system := start(t, cluster.Options{ChunkSize: 256 << 10})
	ctx := patient(t, 10*time.Minute)
	const path = "/records"
	var acked atomic.Int64
	offsets := make([][]int64, writers)
	var load sync.WaitGroup
	for w := range writers {
		load.Go(func() {
			if err := appendRecords(ctx, system, path, w, each, rand.New(rand.NewPCG(seed, uint64(w))), &offsets[w],
				&acked); err != nil {
				t.Errorf("writer %d: %v", w, err)
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, writers))
	for kill := range 8 {
		require.NoError(t, cluster.Poll(ctx, func() error {
			if n := acked.Load(); n < int64(kill+1)*int64(total)/10 && !t.Failed() {
				return fmt.Errorf("%d records acknowledged", n)
			}
			return nil
		}))
		victim := system.Datanodes[random.IntN(len(system.Datanodes))]
		switch kill % 4 {
		case 0, 2:
			if info, err := system.Client().Stat(ctx, path); err == nil {
				if _, address, ok := record.ParseHolder(info.LeaseHolder); ok {
					victim = system.Datanodes[system.DatanodeAt(address)]
				}
			}
		case 3:
			victim = system.Namenode
		}
		t.Logf("kill %s after %d records", victim.Name, acked.Load())
		require.NoError(t, victim.Kill())
		pause(ctx, time.Duration(random.IntN(4000))*time.Millisecond) // back before, or after, it counts as lost
		require.NoError(t, victim.Start())
		require.NoError(t, system.WaitReady(ctx))
	}
	load.Wait()
	require.False(t, t.Failed())
	verifyRecords(t, ctx, system.Client(), path, offsets, each)
}

// recordPayload of record n of a writer says who it is and checks itself.
func recordPayload(writer, n, size int) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint64(b, uint64(writer))
	binary.LittleEndian.PutUint64(b[8:], uint64(n))
	for i := 16; i < size; i++ {
		b[i] = byte(i * (writer + n + 1))
	}
	return b
}

// appendRecords is one writer; it notes the offset of every record.
func appendRecords(ctx context.Context, system *cluster.Cluster, path string, writer, count int, random *rand.Rand,
	offsets *[]int64, acked *atomic.Int64) (err error) {
	own, err := client.Dial(ctx,
		client.Options{Namenodes: []string{system.Address()}, Name: fmt.Sprintf("writer %d", writer)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	appender, err := own.OpenRecords(ctx, path, client.RecordOptions{Create: true, Sync: writer%4 == 0})
	if err != nil {
		return err
	}
	var pending []*client.PendingRecord
	for next := 0; next < count || len(pending) > 0; next++ {
		if next < count {
			size := 16 + random.IntN(200)
			if random.IntN(500) == 0 {
				size = 100_000 + random.IntN(300_000) // across chunks
			}
			p, err := appender.AppendAsync(ctx, recordPayload(writer, next, size))
			if err != nil {
				return err
			}
			pending = append(pending, p)
		}
		for len(pending) > 0 && (next >= count || len(pending) > random.IntN(8)) {
			offset, err := pending[0].Wait(ctx)
			if err != nil {
				return fmt.Errorf("record %d: %w", len(*offsets), err)
			}
			*offsets = append(*offsets, offset)
			acked.Add(1)
			pending = pending[1:]
		}
	}
	return appender.Close()
}

// verifyRecords reads the file as users do, and every record at its offset.
func verifyRecords(t *testing.T, ctx context.Context, user *client.Client, path string, offsets [][]int64, each int) {
	t.Helper()
	whole := func(b []byte) (writer, n int) {
		require.GreaterOrEqual(t, len(b), 16)
		writer, n = int(binary.LittleEndian.Uint64(b)), int(binary.LittleEndian.Uint64(b[8:]))
		require.Equal(t, recordPayload(writer, n, len(b)), b)
		return writer, n
	}
	reader, err := user.ReadRecords(ctx, path, 0, client.RecordReadOptions{})
	require.NoError(t, err)
	next := make([]int, len(offsets))
	for {
		got, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		writer, n := whole(got.Payload)
		require.Equal(t, next[writer], n, "the order of writer %d, at offset %d", writer, got.Offset)
		next[writer]++
	}
	t.Logf("%d second copies, %d bytes of no record", reader.Duplicates(), reader.Skipped())
	require.NoError(t, reader.Close())
	for writer, all := range offsets {
		require.Equal(t, each, next[writer], "records of writer %d", writer)
		require.Len(t, all, each)
		for n := 0; n < each; n += max(1, each/100) {
			r, err := user.ReadRecords(ctx, path, all[n], client.RecordReadOptions{})
			require.NoError(t, err)
			got, err := r.Next(ctx)
			require.NoError(t, err)
			require.Equal(t, all[n], got.Offset)
			gotWriter, gotN := whole(got.Payload)
			require.Equal(t, [2]int{writer, n}, [2]int{gotWriter, gotN})
			require.NoError(t, r.Close())
		}
	}
}
