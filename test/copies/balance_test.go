package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/test/loopdisk"
)

const (
	// balancedFiles of stockBytes fill three of four small datanodes, the last of which joins empty.
	balancedFiles = 64
	// balanceThreshold in percentage points of loopBytes, balanceBandwidth: it takes about half a minute.
	balanceThreshold, balanceBandwidth = "2", "4MiB"
)

// TestCopiesUnderABalance evens out four small datanodes, one of which is empty, while files are stored, appended to
// and read, a datanode is killed and the namenode is, both in its middle. Every acknowledgement is on as many disks as
// it has to be, all bytes are right at every read, and in the end everything is healthy and even.
func TestCopiesUnderABalance(t *testing.T) {
	if setting(t, "COPIES_RUNS", 0) == 0 {
		t.Skip("it takes minutes: make copies")
	}
	loopdisk.Need(t)
	l := &losing{T: t}
	l.system, l.all = startOn(t, cluster.Options{ChunkSize: 256 << 10, RepairGrace: repairGrace,
		Settings: map[string]any{"datanode.record_idle": 2 * time.Second}}, func(system *cluster.Cluster) {
		for node := range losingNodes {
			loopdisk.New(t, system.Disks(node)[0], loopBytes)
		}
	})
	seed := setting(t, "COPIES_SEED", uint64(time.Now().UnixNano()))
	l.trouble = newChaos(l.system, seed)
	l.judge = newJudge(l.all, judgeClient(t, l.system), l.trouble.healthy)
	log, err := os.Create(l.system.Path("clients.log"))
	require.NoError(t, err)
	defer log.Close()
	l.work = newLoad(l.system.Address(), seed, l.judge, slog.New(slog.NewTextHandler(log, nil)))
	l.work.workers = slices.DeleteFunc(l.work.workers, func(w worker) bool {
		writer, is := w.(*storer)
		return is && writer.pace == 0 // the disks would be full of what these store
	})
	readers := &reader{content: map[string][]byte{}, random: rand.New(rand.NewPCG(seed, 1))}
	l.trouble.takeAway(3)
	require.NoError(t, l.system.Datanodes[3].Stop())
	for i := range balancedFiles {
		content, path := noise(readers.random, stockBytes), fmt.Sprintf("/stock/%d", i)
		_, err := l.system.Client().Store(t.Context(), path, bytes.NewReader(content), stockBytes,
			client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
		require.NoError(t, err)
		readers.content[path] = content
	}
	l.work.workers = append(l.work.workers, readers)
	l.trouble.during(&l.trouble.mu.datanodes[3], l.system.Datanodes[3].Start)
	ready, cancel := context.WithTimeout(t.Context(), cluster.StartTimeout)
	defer cancel()
	require.NoError(t, l.system.WaitReady(ready))

	l.under(func(ctx context.Context) {
		ended := make(chan error, 1)
		go func() { ended <- l.even(ctx) }()
		l.moved(ctx, 20)
		l.trouble.kill(0, 2*time.Second)
		l.moved(ctx, 60)
		l.trouble.killNamenode(time.Second)
		l.moved(ctx, 20) // of the balance that goes on
		if err := <-ended; err != nil {
			t.Logf("while others write: %v", err)
		}
	})
	require.NoError(t, l.even(t.Context()))
	status, err := l.system.Client().Balance(t.Context(), client.BalanceGet, client.BalanceWish{})
	require.NoError(t, err)
	require.True(t, status.Even, status.Ended)
	require.Len(t, status.Nodes, losingNodes)
	settle(t, l.system, l.all, l.work)
	require.NoError(t, l.fsck(t.Context()))
}

// even balances until that has ended; an error unless all datanodes are even then.
func (l *losing) even(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, program, "--namenode", l.system.Address(), "admin", "balance", "--wait",
		"--threshold", balanceThreshold, "--bandwidth", balanceBandwidth).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ww admin balance: %w\n%s", err, out)
	}
	return nil
}

// moved waits until a balance has moved so many chunks since the namenode's start.
func (l *losing) moved(ctx context.Context, chunks int64) {
	l.Helper()
	require.NoError(l, cluster.Poll(ctx, func() error {
		status, err := l.system.Client().Balance(ctx, client.BalanceGet, client.BalanceWish{})
		if err == nil && status.Ended != "" {
			l.Logf("a balance moved %d chunks and ended: %s", status.MovedChunks, status.Ended)
		}
		if err == nil && status.MovedChunks < chunks && (status.Running || status.Ended == "") {
			err = errors.New("no balance runs, or it has moved too little")
		}
		return err
	}))
}
