package floor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestRunMeasuresEveryLimitAndLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t)
	directory := t.TempDir()
	var names []string
	err := Run(t.Context(), Options{Directory: directory, SizeBytes: 5<<20 + 17*checksumBlockBytes,
		CountDuration: 20 * time.Millisecond}, func(result Result) error {
		names = append(names, result.Name)
		if result.Bytes == 0 && result.Count == 0 {
			require.Contains(t, []string{DiskDirect, DiskReadDirect}, result.Name, "only O_DIRECT may be missing")
			return nil
		}
		require.Positive(t, result.Rate(), result.Name)
		require.NotEmpty(t, result.How, result.Name)
		if result.Name == Sendfile || result.Name == Copying {
			require.Positive(t, result.CPUPerGB(), result.Name)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, Names(), names)
	left, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestRunTakesOnlyWhatIsAskedFor(t *testing.T) {
	var names []string
	err := Run(t.Context(), Options{Directory: t.TempDir(), SizeBytes: 1 << 20, CountDuration: time.Millisecond,
		Only: []string{Loopback, DiskSync}}, func(r Result) error {
		names = append(names, r.Name)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{DiskSync, Loopback}, names)
}

// A chain that waits for its next message ends with the context.
func TestEchoesEndWithTheirContext(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, name := range []string{PipelineEcho, ThreadsEcho} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := Run(ctx, Options{Directory: t.TempDir(), SizeBytes: 1, CountDuration: time.Hour, Only: []string{name}},
			func(Result) error { return nil })
		cancel()
		require.Error(t, err, name)
	}
}

func TestRunRefusesWhatMakesNoSense(t *testing.T) {
	for _, options := range []Options{{}, {SizeBytes: 1, Hops: 99}, {SizeBytes: 1, Writers: -1},
		{SizeBytes: 1, Only: []string{"speed"}}} {
		options.Directory = t.TempDir()
		require.ErrorIs(t, Run(t.Context(), options, func(Result) error { return nil }), fault.Invalid)
	}
	err := Run(t.Context(), Options{SizeBytes: 1, Directory: filepath.Join(t.TempDir(), "missing")},
		func(Result) error { return nil })
	require.ErrorIs(t, err, fault.Disk)
}

func TestAJournalRecordIsDurableWhenAppendReturns(t *testing.T) {
	j, err := newJournal(filepath.Join(t.TempDir(), "journal"))
	require.NoError(t, err)
	defer j.close()
	var g errgroup.Group
	for range 32 {
		g.Go(func() error { return j.append() })
	}
	require.NoError(t, g.Wait())
	j.syncs.Wait()
	require.False(t, j.mu.syncing)
	require.Zero(t, j.mu.waiting.records)
}

func TestCopiesAreWhole(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	var sources []string
	for i := range 5 {
		path := filepath.Join(from, fmt.Sprint(i))
		require.NoError(t, os.WriteFile(path, pattern(300_000*i+i), 0o600))
		sources = append(sources, path)
	}
	got, err := Copies(t.Context(), to, sources, 3)
	require.NoError(t, err)
	require.EqualValues(t, 300_000*10+10, got.Bytes)
	for i, path := range sources {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		made, err := os.ReadFile(filepath.Join(to, fmt.Sprint("copy-", i)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, made), path)
	}
	_, err = Copies(t.Context(), to, []string{filepath.Join(from, "none")}, 1)
	require.ErrorIs(t, err, os.ErrNotExist)
}
