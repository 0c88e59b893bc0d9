package logserver

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/fault"
)

const scrubWait = 20 * time.Second

func TestTheScrubFindsDamageInALogThatNobodyReads(t *testing.T) {
	o := options(t, t.TempDir())
	o.ScrubPeriod = time.Millisecond
	server, _ := start(t, o)
	log := dial(t, server.Addr())
	fill(t, log, 12_000)
	files, err := filepath.Glob(filepath.Join(o.Directory, walcheck.Directory, "*.wal"))
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	flip(t, files[0], 200_000)
	service := &service{server: server}
	require.Eventually(t, func() bool {
		status, err := service.LogStatus(t.Context(), &controlpb.LogStatusRequest{})
		require.NoError(t, err)
		require.True(t, status.Ready, "it goes on")
		return strings.Contains(status.Error, files[0])
	}, scrubWait, time.Millisecond)
	require.ErrorIs(t, server.health.rot(), fault.CorruptData)
	fill(t, log, 12_010)
	flip(t, files[0], 200_000) // twice: as it was
	require.Eventually(t, func() bool { return server.health.rot() == nil }, scrubWait, time.Millisecond)
}

// TestTheScrubOfALogThatGrowsFindsNothing reads the files while they are written, over several of them.
func TestTheScrubOfALogThatGrowsFindsNothing(t *testing.T) {
	o := options(t, t.TempDir())
	server, _ := start(t, o)
	log := dial(t, server.Addr())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for last := uint64(500); last <= 15_000; last += 500 {
			fill(t, log, last)
		}
	}()
	scrubs := 0
	for running := true; running; scrubs++ {
		select {
		case <-done:
			running = false
		default:
		}
		_, err := walcheck.Scrub(o.Directory, func() uint64 { return server.fsm.view().applied },
			func(int64) error { return nil })
		require.NoError(t, err)
	}
	require.Greater(t, scrubs, 3)
}

func TestTheScrubFindsADamagedCheckpoint(t *testing.T) {
	dir, _ := withCheckpoints(t)
	o := options(t, dir)
	server, stop := start(t, o)
	good := server.keeper.files.All()
	require.Len(t, good, 2)
	stop()
	path := filepath.Join(dir, "checkpoints", good[0].Name)
	stat, err := os.Stat(path)
	require.NoError(t, err)
	flip(t, path, stat.Size()/2)
	o.ScrubPeriod, o.Logger = time.Millisecond, slog.New(slog.DiscardHandler)
	server, _ = start(t, o)
	require.Eventually(t, func() bool { return server.keeper.files.All()[0].Damage != nil }, scrubWait,
		time.Millisecond)
	require.NoError(t, server.keeper.files.All()[1].Damage)
}
