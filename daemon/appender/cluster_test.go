package appender_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// woods is a cluster in this process whose parts can be stopped one by one.
type woods struct {
	t         *testing.T
	log       *daemon.Daemon
	namenode  *daemon.Daemon
	datanodes []*daemon.Daemon // nil while stopped
	name      config.Namenode
	data      []config.Datanode
}

func startWoods(t *testing.T, datanodes int) *woods {
	system := &woods{t: t}
	defaults := config.Default()
	l := defaults.Logserver
	l.Dir, l.Listen, l.RaftListen = t.TempDir(), "127.0.0.1:0", ""
	var err error
	system.log, err = daemon.StartLogServer(t.Context(), l, nil)
	require.NoError(t, err)
	t.Cleanup(func() { system.stop(system.log, patience) })
	system.name = defaults.Namenode
	system.name.Listen, system.name.LogServers, system.name.ChunkSize = "127.0.0.1:0",
		[]string{system.log.Address("grpc")}, 256<<10
	system.startNamenode()
	system.name.Listen = system.namenode.Address("grpc")
	t.Cleanup(func() { system.stop(system.namenode, patience) })
	for range datanodes {
		c := defaults.Datanode
		c.Listen, c.Disks, c.Reserve, c.Namenodes = "127.0.0.1:0", []string{t.TempDir()}, 0,
			[]string{system.name.Listen}
		system.data = append(system.data, c)
		system.datanodes = append(system.datanodes, nil)
		system.startDatanode(len(system.data) - 1)
	}
	t.Cleanup(func() {
		for _, d := range system.datanodes {
			if d != nil {
				system.stop(d, patience)
			}
		}
	})
	return system
}

const patience = 30 * time.Second

func (w *woods) stop(d *daemon.Daemon, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := d.Close(ctx); err != nil && within == patience {
		w.t.Errorf("stop %s: %v", d.Name, err)
	}
}

func (w *woods) wait(d *daemon.Daemon) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	require.NoError(w.t, d.WaitReady(ctx))
}

func (w *woods) startNamenode() {
	d, err := daemon.StartNamenode(w.t.Context(), w.name, nil)
	require.NoError(w.t, err)
	w.namenode = d
	w.wait(d)
}

func (w *woods) startDatanode(i int) {
	var running *daemon.Daemon
	require.Eventually(w.t, func() (started bool) {
		var err error
		running, err = daemon.StartDatanode(w.t.Context(), w.data[i], nil)
		if err != nil {
			require.ErrorIs(w.t, err, fault.Unavailable) // its port is not free yet
			w.t.Log(err)
		}
		return err == nil
	}, patience, 10*time.Millisecond)
	w.datanodes[i] = running
	w.data[i].Listen = running.Address("data")
	w.wait(running)
}

// drop stops a datanode without giving it time for anything.
func (w *woods) drop(i int) {
	w.stop(w.datanodes[i], time.Nanosecond)
	w.datanodes[i] = nil
}

func (w *woods) dial(o client.Options) *client.Client {
	o.Namenodes = []string{w.name.Listen}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	user, err := client.Dial(w.t.Context(), o)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, user.Close()) })
	return user
}

// appenderOf is the index of the datanode that appends to a file; -1: none.
func (w *woods) appenderOf(user *client.Client, path string) int {
	info, err := user.Stat(w.t.Context(), path)
	require.NoError(w.t, err)
	_, address, _ := record.ParseHolder(info.LeaseHolder)
	for i := range w.data {
		if w.data[i].Listen == address && w.datanodes[i] != nil {
			return i
		}
	}
	return -1
}

// payload of record n of a writer tells who it is and checks itself.
func payload(writer, number int, source *rand.Rand) []byte {
	size := 16 + source.IntN(200)
	if source.IntN(500) == 0 {
		size = 100_000 + source.IntN(300_000) // across chunks
	}
	b := make([]byte, size)
	binary.LittleEndian.PutUint64(b, uint64(writer))
	binary.LittleEndian.PutUint64(b[8:], uint64(number))
	for i := 16; i < size; i++ {
		b[i] = byte(i * (writer + number + 1))
	}
	return b
}

func check(t *testing.T, b []byte) (writer, number int) {
	t.Helper()
	require.GreaterOrEqual(t, len(b), 16)
	writer, number = int(binary.LittleEndian.Uint64(b)), int(binary.LittleEndian.Uint64(b[8:]))
	for i := 16; i < len(b); i++ {
		if b[i] != byte(i*(writer+number+1)) {
			require.FailNow(t, "torn", "record %d of writer %d at byte %d", number, writer, i)
		}
	}
	return writer, number
}

// TestRecordAppendSurvivesKills: 16 writers append records while datanodes, the
// appender's among them, and the namenode go and come back. Every acknowledged
// record is there, whole, in the order of its writer, where its offset says.
// RECORDS=100000 makes it long.
func TestRecordAppendSurvivesKills(t *testing.T) {
	const writers = 16
	total := 4000
	if text := os.Getenv("RECORDS"); text != "" {
		var err error
		total, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	each := total / writers
	system := startWoods(t, 4)
	user := system.dial(client.Options{})
	const path = "/logs/all"
	var acked atomic.Int64
	offsets := make([][]int64, writers)
	var load sync.WaitGroup
	for i := range writers {
		own := system.dial(client.Options{})
		load.Go(func() {
			source := rand.New(rand.NewPCG(seed, uint64(i)))
			appender, err := own.OpenRecords(t.Context(), path,
				client.RecordOptions{Create: true, New: client.CreateOptions{Parents: true}, Sync: i%4 == 0,
					BufferBytes: 64 << 10})
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
				return
			}
			var pending []*client.PendingRecord
			settle := func(keep int) bool {
				for len(pending) > keep {
					offset, err := pending[0].Wait(t.Context())
					if err != nil {
						t.Errorf("writer %d, record %d: %v", i, len(offsets[i]), err)
						return false
					}
					offsets[i] = append(offsets[i], offset)
					acked.Add(1)
					pending = pending[1:]
				}
				return true
			}
			for n := range each {
				p, err := appender.AppendAsync(t.Context(), payload(i, n, source))
				if err != nil {
					t.Errorf("writer %d, record %d: %v", i, n, err)
					return
				}
				pending = append(pending, p)
				if !settle(source.IntN(8)) {
					return
				}
			}
			if settle(0) {
				if err := appender.Close(); err != nil {
					t.Errorf("writer %d: close: %v", i, err)
				}
			}
		})
	}
	progress := func(share int64) {
		require.Eventually(t, func() bool {
			return acked.Load() >= share*int64(total)/100 || t.Failed()
		}, 5*time.Minute, time.Millisecond)
	}
	source := rand.New(rand.NewPCG(seed, writers))
	kills := 0
	for share := int64(10); share < 90; share += 10 {
		progress(share)
		victim := source.IntN(len(system.data))
		switch kills % 4 {
		case 0, 2:
			if at := system.appenderOf(user, path); at >= 0 {
				victim = at
			}
		case 3:
			system.stop(system.namenode, time.Nanosecond)
			system.startNamenode()
			victim = -1
		}
		if victim >= 0 {
			system.drop(victim)
			system.startDatanode(victim)
		}
		kills++
	}
	load.Wait()
	if t.Failed() {
		return
	}
	verify(t, user, path, offsets, each)
}

// verify reads a file as users do.
func verify(t *testing.T, user *client.Client, path string, offsets [][]int64, each int) {
	reader, err := user.ReadRecords(t.Context(), path, 0, client.RecordReadOptions{})
	require.NoError(t, err)
	next := make([]int, len(offsets))
	firsts := map[[2]int]int64{}
	for {
		got, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		writer, n := check(t, got.Payload)
		require.Equal(t, next[writer], n, "the order of writer %d, at offset %d", writer, got.Offset)
		next[writer]++
		firsts[[2]int{writer, n}] = got.Offset
	}
	for writer, n := range next {
		require.Equal(t, each, n, "all records of writer %d", writer)
	}
	t.Logf("%d duplicates dropped, %d bytes skipped", reader.Duplicates(), reader.Skipped())
	require.NoError(t, reader.Close())
	// An offset may be that of a second copy: it has the record all the same.
	file, err := user.Open(t.Context(), path)
	require.NoError(t, err)
	for writer, all := range offsets {
		for number, offset := range all {
			if firsts[[2]int{writer, number}] == offset {
				continue
			}
			header := make([]byte, record.HeaderBytes)
			_, err := file.ReadAt(header, offset)
			require.NoError(t, err)
			h, err := record.ParseHeader(header, offset)
			require.NoError(t, err)
			body := make([]byte, h.Length)
			_, err = file.ReadAt(body, offset+record.HeaderBytes)
			require.NoError(t, err)
			gotWriter, gotN := check(t, body)
			require.Equal(t, [2]int{writer, number}, [2]int{gotWriter, gotN})
			require.Greater(t, offset, firsts[[2]int{writer, number}])
		}
	}
	require.NoError(t, file.Close())
}

func TestRecordsOfOneWriter(t *testing.T) {
	system := startWoods(t, 3)
	user := system.dial(client.Options{})
	_, err := user.OpenRecords(t.Context(), "/none", client.RecordOptions{})
	require.ErrorIs(t, err, fault.NotFound)
	appender, err := user.OpenRecords(t.Context(), "/f", client.RecordOptions{Create: true})
	require.NoError(t, err)
	follower, err := system.dial(client.Options{}).ReadRecords(t.Context(), "/f", 0,
		client.RecordReadOptions{Follow: true, Every: 5 * time.Millisecond})
	require.NoError(t, err)
	large := make([]byte, client.RecordBytesMax)
	large[len(large)-1] = 7
	for i, b := range [][]byte{[]byte("one"), nil, large, []byte("two")} {
		offset, err := appender.Append(t.Context(), b)
		require.NoError(t, err)
		got, err := follower.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, offset, got.Offset)
		require.Equal(t, len(b), len(got.Payload), "record %d", i)
	}
	_, err = appender.Append(t.Context(), make([]byte, client.RecordBytesMax+1))
	require.ErrorIs(t, err, fault.Invalid)
	offset, err := appender.Append(t.Context(), []byte("three"))
	require.NoError(t, err, "a record that is too long harms nothing")

	// An ordinary writer is told who appends, and the other way round.
	_, err = user.Append(t.Context(), "/f", client.AppendOptions{})
	require.ErrorIs(t, err, fault.LeaseHeld)
	require.ErrorContains(t, err, "appender:")
	require.NoError(t, appender.Close())
	_, err = appender.Append(t.Context(), nil)
	require.ErrorIs(t, err, fault.Closed)
	writer, err := user.Create(t.Context(), "/written", client.CreateOptions{})
	require.NoError(t, err)
	_, err = user.OpenRecords(t.Context(), "/written", client.RecordOptions{})
	require.ErrorIs(t, err, fault.LeaseHeld)
	require.NoError(t, writer.Close())

	r, err := user.ReadRecords(t.Context(), "/f", offset, client.RecordReadOptions{})
	require.NoError(t, err)
	got, err := r.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "three", string(got.Payload))
	_, err = r.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, r.Skipped())
	require.NoError(t, r.Close())
	require.NoError(t, follower.Close())
}

// TestAllAppendersOfAFileMeet: clients that begin at different datanodes are
// sent to the one that appends.
func TestAllAppendersOfAFileMeet(t *testing.T) {
	system := startWoods(t, 3)
	var wait sync.WaitGroup
	for i := range 6 {
		user := system.dial(client.Options{})
		wait.Go(func() {
			appender, err := user.OpenRecords(t.Context(), "/f", client.RecordOptions{Create: true})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			for n := range 50 {
				if _, err := appender.Append(t.Context(), fmt.Append(nil, i, n)); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
			if err := appender.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	wait.Wait()
	reader, err := system.dial(client.Options{}).ReadRecords(t.Context(), "/f", 0, client.RecordReadOptions{})
	require.NoError(t, err)
	count := 0
	for ; ; count++ {
		if _, err := reader.Next(t.Context()); errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.Equal(t, 300, count)
	require.NoError(t, reader.Close())
}
