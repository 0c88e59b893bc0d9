package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// mini starts a cluster for one test and returns two clients of it, and its
// directory.
func mini(t *testing.T) ([]*client.Client, string) {
	goleakOptions := goleak.IgnoreCurrent()
	settings := config.Default().Mini
	settings.Dir, settings.Listen, settings.TrashDelay, settings.Reserve = t.TempDir(), "127.0.0.1:0",
		config.Duration(time.Second), 1<<20
	cluster, err := daemon.StartMini(t.Context(), settings, nil)
	require.NoError(t, err)
	var clients []*client.Client
	t.Cleanup(func() {
		for _, woods := range clients {
			require.NoError(t, woods.Close())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, cluster.Close(ctx))
		goleak.VerifyNone(t, goleakOptions,
			// A worker of gnet's own pool, which ends when it has been idle for a while.
			goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
	})
	require.NoError(t, cluster.WaitReady(t.Context()))
	for range 2 {
		woods, err := client.Dial(t.Context(),
			client.Options{Namenodes: []string{cluster.Address("grpc")}, Name: "bench"})
		require.NoError(t, err)
		clients = append(clients, woods)
	}
	return clients, settings.Dir
}

// Every workload, short: all operations succeed, everything is verified, and
// nothing is left behind.
func TestEveryWorkloadRunsAndVerifies(t *testing.T) {
	clients, directory := mini(t)
	for _, test := range []struct {
		name    string
		options Options
		plan    load.Plan
		kinds   string
	}{
		{"write", Options{SizeBytes: 300_000, KeepBytes: 1 << 20}, load.Plan{Count: 9}, "store"},
		{"read", Options{SizeBytes: 300_000, Files: 3}, load.Plan{Count: 6}, "fetch"},
		{"read", Options{SizeBytes: 300_000, Files: 3, Cold: []string{directory}}, load.Plan{Count: 6}, "fetch-cold"},
		{"read", Options{SizeBytes: 300_000, Files: 3, RangeBytes: 10_000}, load.Plan{Count: 20}, "read-range"},
		{"append", Options{SizeBytes: 100}, load.Plan{Count: 50}, "append-flush"},
		{"append", Options{SizeBytes: 5000, Sync: true}, load.Plan{Count: 20}, "append-sync"},
		{"append", Options{SizeBytes: 5000, Sync: true, Files: 1}, load.Plan{Count: 60}, "append-sync"},
		{"append", Options{SizeBytes: 100, Files: 2}, load.Plan{Count: 60}, "append-flush"},
		{"append", Options{SizeBytes: 100, Ahead: 7}, load.Plan{Count: 60}, "append-flush"},
		{"records", Options{SizeBytes: 100}, load.Plan{Count: 50}, "record-flush"},
		{"records", Options{SizeBytes: 5000, Sync: true}, load.Plan{Count: 20}, "record-sync"},
		{"small", Options{}, load.Plan{Count: 30}, "create read delete"},
		{"small", Options{SizeBytesMost: 70_000}, load.Plan{Count: 30}, "create read delete"},
		{"meta", Options{Files: 20}, load.Plan{Count: 30}, "mkdir create stat list rename delete"},
		{"meta", Options{Files: 20, Operations: []string{"delete", "rename"}}, load.Plan{Count: 30}, "delete rename"},
		{"meta", Options{Files: 20, FoldersOnly: true}, load.Plan{Count: 30}, "mkdir stat list rename delete"},
		{"mixed", Options{Files: 20}, load.Plan{Count: 100}, "read create stat list delete"},
		{"mixed", Options{Files: 5, Mix: Mix{Delete: 1, Read: 1}}, load.Plan{Count: 40, Rate: 2000},
			"read create stat list delete"},
	} {
		t.Run(fmt.Sprintf("%s %+v", test.name, test.kinds), func(t *testing.T) {
			options := test.options
			options.Clients, options.Directory, options.Workers, options.Seed, options.Verify = clients, "/load/"+
				test.name, 3, 7, true
			test.plan.Workers = options.Workers
			workload, err := New(t.Context(), test.name, options)
			require.NoError(t, err)
			var kinds []string
			for _, phase := range workload.Phases {
				result, err := workload.Run(t.Context(), phase, test.plan)
				require.NoError(t, err, phase.Name)
				require.Zero(t, result.Outcome.Failures.Count, result.Outcome.Failures.First)
				require.NoError(t, result.Outcome.Stopped)
				operations := int64(0)
				for _, s := range result.Outcome.Series {
					operations += s.Operations
				}
				require.Positive(t, operations, phase.Name)
				kinds = append(kinds, phase.Kinds...)
				if phase.verify != nil && test.options.Mix.Delete == 0 { // else all may be deleted at the end
					require.Positive(t, result.Verified)
				}
			}
			require.Equal(t, test.kinds, strings.Join(kinds, " "))
			require.NoError(t, workload.Close(t.Context()))
			_, err = clients[0].Stat(t.Context(), options.Directory)
			require.ErrorIs(t, err, fault.NotFound)
		})
	}
	require.Zero(t, clients[0].Stats().Buffers)
}

// A planted wrong byte has to be found, during the measurement and after it.
func TestWrongBytesAreFound(t *testing.T) {
	clients, _ := mini(t)
	options := Options{Clients: clients, Directory: "/load", Workers: 1, Seed: 7, Verify: true, SizeBytes: 5000}
	workload, err := New(t.Context(), "small", options)
	require.NoError(t, err)
	_, err = workload.Run(t.Context(), workload.Phases[0], load.Plan{Workers: 1, Count: 3})
	require.NoError(t, err)
	f, err := clients[0].Create(t.Context(), "/load/01/000000001",
		client.CreateOptions{Overwrite: true, VisibleOnComplete: true})
	require.NoError(t, err)
	_, err = f.Write(make([]byte, 5000))
	require.NoError(t, err)
	require.NoError(t, f.Close())

	result, err := workload.Run(t.Context(), workload.Phases[1], load.Plan{Workers: 1, Count: 50})
	require.NoError(t, err)
	require.Positive(t, result.Outcome.Failures.WrongBytes)
	require.Contains(t, result.Outcome.Failures.First, "file 1, byte 0")

	_, err = workload.Phases[0].verify(t.Context())
	require.ErrorIs(t, err, load.ErrWrongBytes)
	again := workload.Phases[0]
	again.prepare = nil
	result, err = workload.Run(t.Context(), again, load.Plan{Workers: 1, Duration: time.Millisecond, Warmup: 0})
	require.NoError(t, err, "a failed verification is a result, not the end")
	require.NoError(t, workload.Close(t.Context()))
	_ = result
}

func TestContentDiffersFromPageToPageAndIsChecked(t *testing.T) {
	pattern := newContent(1)
	seen := map[string]bool{}
	for file := range uint64(3) {
		text := make([]byte, 10*pageBytes+777)
		pattern.fill(text, file, 0)
		require.NoError(t, pattern.check(text, file, 0))
		for at := 0; at+pageBytes <= len(text); at += pageBytes {
			page := string(text[at : at+pageBytes])
			require.False(t, seen[page])
			seen[page] = true
		}
		// Any piece of it, from any offset, is the same.
		for _, from := range []int{1, 15, 16, 17, 4095, 4096, 5000} {
			piece := make([]byte, 9000)
			pattern.fill(piece, file, int64(from))
			require.Equal(t, text[from:from+9000], piece)
			require.NoError(t, pattern.check(piece, file, int64(from)))
		}
		text[20_001] ^= 1
		require.ErrorContains(t, pattern.check(text, file, 0), "byte 20001")
		require.ErrorIs(t, pattern.check(text, file, 0), load.ErrWrongBytes)
		require.Error(t, pattern.check(text[:5000], file+1, 0))
		require.Error(t, pattern.check(text[:5000], file, pageBytes))
	}
	require.Error(t, newContent(2).check(seenAny(seen), 0, 0))
}

func seenAny(seen map[string]bool) []byte {
	for page := range seen {
		return []byte(page)
	}
	return nil
}

func TestSourceIsAReaderOfAnyLength(t *testing.T) {
	b, err := io.ReadAll(io.NewSectionReader(source{newContent(3), 9}, 0, 100_001))
	require.NoError(t, err)
	require.Len(t, b, 100_001)
	_, err = checker{content: newContent(3), file: 9}.WriteAt(b, 0)
	require.NoError(t, err)
	b[0]++
	_, err = checker{content: newContent(3), file: 9}.WriteAt(b, 0)
	require.ErrorIs(t, err, load.ErrWrongBytes)
	_, err = checker{content: newContent(3), file: 9, off: true}.WriteAt(b, 0)
	require.NoError(t, err)
}

func TestMixesAreParsed(t *testing.T) {
	m, err := ParseMix("read=3, delete=1")
	require.NoError(t, err)
	require.Equal(t, Mix{Read: 3, Delete: 1}, m)
	counts := map[int]int{}
	for n := range m.total() {
		counts[m.draw(n)]++
	}
	require.Equal(t, map[int]int{mixRead: 3, mixDelete: 1}, counts)
	again, err := ParseMix(DefaultMix().String())
	require.NoError(t, err)
	require.Equal(t, DefaultMix(), again)
	for _, bad := range []string{"", "read", "read=x", "read=-1", "write=3", "read=0"} {
		_, err := ParseMix(bad)
		require.ErrorIs(t, err, fault.Invalid, bad)
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	woods, err := client.Dial(t.Context(), client.Options{Namenodes: []string{"127.0.0.1:1"}})
	require.NoError(t, err)
	defer woods.Close()
	good := Options{Clients: []*client.Client{woods}, Directory: "/x", Workers: 1}
	for name, change := range map[string]func(*Options){
		"write":   func(options *Options) { options.Workers = 0 },
		"small":   func(options *Options) { options.SizeBytes, options.SizeBytesMost = 5, 4 },
		"read":    func(options *Options) { options.SizeBytes, options.RangeBytes = 10, 11 },
		"meta":    func(options *Options) { options.Operations = []string{"chmod"} },
		"mixed":   func(options *Options) { options.Files = -1 },
		"records": func(options *Options) { options.Workers = load.WorkersMax + 1 },
		"speed":   func(*Options) {},
		"append": func(options *Options) {
			options.Clients = nil
		},
	} {
		options := good
		change(&options)
		_, err := New(t.Context(), name, options)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	for _, ahead := range []int{-1, aheadMax + 1} {
		options := good
		options.Ahead = ahead
		_, err := New(t.Context(), "append", options)
		require.ErrorIs(t, err, fault.Invalid, "%d records ahead", ahead)
	}
}

func TestDropPagesOfWhatIsNotThere(t *testing.T) {
	require.NoError(t, DropPages([]string{filepath.Join(t.TempDir(), "missing")}))
	directory := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(directory, "file"), []byte("x"), 0o600))
	require.NoError(t, DropPages([]string{directory}))
}

// waited counts how often it was waited for.
type waited struct {
	times int
	err   error
}

func (w *waited) Wait(context.Context) error { w.times++; return w.err }

func TestAWorkerWaitsForTheOldestRecordOnly(t *testing.T) {
	broken := errors.New("broken")
	records := []*waited{{}, {err: broken}, {}, {}}
	var counted underWay
	times := func() (all []int) {
		for _, r := range records {
			all = append(all, r.times)
		}
		return all
	}
	require.NoError(t, counted.add(t.Context(), records[0], 2))
	require.NoError(t, counted.add(t.Context(), records[1], 2))
	require.Equal(t, []int{0, 0, 0, 0}, times())
	require.NoError(t, counted.add(t.Context(), records[2], 2))
	require.Equal(t, []int{1, 0, 0, 0}, times())
	require.ErrorIs(t, counted.add(t.Context(), records[3], 2), broken)
	require.Equal(t, []int{1, 1, 0, 0}, times())
	require.Len(t, counted, 2)
	var alone underWay
	require.ErrorIs(t, alone.add(t.Context(), records[1], 0), broken)
	require.Empty(t, alone)
}
