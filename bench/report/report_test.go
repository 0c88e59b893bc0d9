package report

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/internal/fault"
)

// outcome is what a run of known latencies gives.
func outcome(t *testing.T, operations int64, bytes int64) load.Outcome {
	t.Helper()
	out, err := load.Run(t.Context(), load.Plan{Workers: 1, Count: operations}, []string{"create"},
		func(context.Context, int, int64) (load.Done, error) {
			return load.Done{Bytes: bytes}, nil
		})
	require.NoError(t, err)
	// Real times differ from run to run.
	s := &out.Series[0]
	s.Latency.Reset()
	for i := range operations {
		require.NoError(t, s.Latency.RecordValue(100+i))
	}
	s.Timeline = load.Timeline{Interval: time.Second, Operations: []int64{operations / 2, operations - operations/2},
		Bytes: []int64{0, operations * bytes}}
	out.Elapsed = 2 * time.Second
	return out
}

// document is one with two rounds.
func document(t *testing.T, scale float64) *Document {
	t.Helper()
	measured := &Document{
		Schema: Schema, Tool: "wwbench", Workload: "small", Started: time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC),
		Machine: Machine{CPUs: 2, CPUModel: "some CPU", MemoryBytes: 24 << 30, Kernel: "Linux 6.18",
			FileSystem: "ext4", Go: "go1.26"},
		Settings: Settings{Workers: 16, Clients: 4, WarmupNs: 1e9, DurationNs: 10e9, Seed: 1, Verify: true,
			Target: "mini", SizeBytes: 4096},
	}
	for i := range 6 {
		floors := []Floor{FloorOf(floor.Result{Name: floor.SmallSynced, Count: 2000,
			Duration: 2 * time.Second, How: "files"}),
			FloorOf(floor.Result{Name: floor.Sendfile, Bytes: 3e9, Duration: time.Second,
				ServerCPU: time.Second, How: "sendfile"}),
			FloorOf(floor.Result{Name: floor.DiskDirect, How: "no O_DIRECT"})}
		out := outcome(t, int64(float64(1000+10*i)*scale), 4096)
		if i == 1 {
			out.Failures = load.Failures{Count: 2, ByKind: map[string]int64{"busy": 2}, First: "write: full"}
			out.Missed = 3
		}
		phase := workload.Phase{Name: "create", Kinds: []string{"create"},
			Floors: []string{floor.SmallSynced, floor.DiskDirect, floor.Sendfile}}
		results, err := Results("small", workload.Result{Phase: phase, Outcome: out, Verified: 1 << 20}, floors)
		require.NoError(t, err)
		measured.Rounds = append(measured.Rounds, Round{Floors: floors, Results: results})
	}
	measured.Summarize()
	return measured
}

// The schema is what other programs rely on: a change of it shows here.
func TestTheDocumentIsTheGoldenOne(t *testing.T) {
	measured := document(t, 1)
	measured.Rounds = measured.Rounds[:2]
	measured.Summarize()
	var out bytes.Buffer
	require.NoError(t, WriteJSON(&out, measured))
	golden := filepath.Join("testdata", "document.json")
	if os.Getenv("WW_REWRITE") != "" {
		require.NoError(t, os.WriteFile(golden, out.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	// The compressed histogram may change with the compressor.
	hdr := regexp.MustCompile(`"hdr": "[^"]+"`)
	require.Equal(t, hdr.ReplaceAllString(string(want), ""), hdr.ReplaceAllString(out.String(), ""))

	path := filepath.Join(t.TempDir(), "d.json")
	require.NoError(t, os.WriteFile(path, want, 0o600))
	again, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, measured.Summary, again.Summary)
	_, err = latencyLine("golden", again.Rounds[0].Results[0].Latency)
	require.NoError(t, err, "histograms of this schema stay readable")
}

func TestDocumentsOfOneFileCountTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "turns.json")
	write := func(documents ...*Document) {
		var out bytes.Buffer
		for _, measured := range documents {
			require.NoError(t, WriteJSON(&out, measured))
		}
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	}
	first, second := document(t, 1), document(t, 2)
	write(first, second)
	joined, err := Read(path)
	require.NoError(t, err)
	require.Len(t, joined.Rounds, 12)
	require.Equal(t, 12, joined.Summary[0].Samples)
	require.Equal(t, append(first.Summary[0].Ratios, second.Summary[0].Ratios...), joined.Summary[0].Ratios)

	second.Settings.Workers++
	write(first, second)
	_, err = Read(path)
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "other settings")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = Read(path)
	require.ErrorIs(t, err, fault.Invalid, "an empty file holds no document")
}

func TestResultsAreRatiosToTheFloorsOfTheirRound(t *testing.T) {
	measured := document(t, 1)
	r := measured.Rounds[0].Results[0]
	require.Equal(t, "small/create", r.Name)
	require.Equal(t, "ops/s", r.Unit)
	require.InDelta(t, 500, r.Rate, 1e-9)
	require.Len(t, r.Limits, 2, "a floor that could not be measured is no limit")
	require.InDelta(t, 0.5, r.Limits[0].Ratio, 1e-9)            // 500/s of 1000/s
	require.InDelta(t, 500*4096/3e9, r.Limits[1].Ratio, 1e-9)   // bytes to bytes
	require.InDelta(t, 599_500, float64(r.Latency.P50Ns), 2000) // 100..1099 µs
	require.InDelta(t, 0.51, measured.Summary[0].Ratio, 1e-9)   // the lower middle of six
	require.Equal(t, 6, measured.Summary[0].Samples)
	require.InDelta(t, 0.5, measured.Summary[0].Ratios[0], 1e-9)
	all, wrong, first := measured.Failures()
	require.Equal(t, []any{int64(2), int64(0), "write: full"}, []any{all, wrong, first})

	big, err := Results("write", workload.Result{Phase: workload.Phase{Kinds: []string{"create"}},
		Outcome: outcome(t, 10, 64<<20)}, nil)
	require.NoError(t, err)
	require.Equal(t, "bytes/s", big[0].Unit)
	require.InDelta(t, 320<<20, big[0].Rate, 1)
}

func TestAPhaseWithoutASuccessStillTellsItsFailures(t *testing.T) {
	out, err := load.Run(t.Context(), load.Plan{Workers: 1, Count: 5}, []string{"a", "b"},
		func(context.Context, int, int64) (load.Done, error) {
			return load.Done{}, errors.New("down")
		})
	require.NoError(t, err)
	results, err := Results("mixed", workload.Result{Outcome: out}, nil)
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.EqualValues(t, 5, results[0].Failures)
	require.Equal(t, "down", results[0].FirstFailure)
}

func TestTextTellsRatiosFirstAndFailures(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, document(t, 1).WriteText(&out))
	text := out.String()
	lines := strings.Split(text, "\n")
	require.Contains(t, lines[0], "closed loop, 16 workers, every byte verified")
	require.Contains(t, lines[1], "51 % of small-files-synced")
	require.Contains(t, lines[1], "6 rounds")
	require.Contains(t, text, "FAILED 2 (busy 2); the first: write: full")
	require.Contains(t, text, "3 operations never began")
	require.Contains(t, text, "0.33 s of the sender's CPU per GB")
	require.Error(t, document(t, 1).WriteText(broken{}))
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestCompareSeesADifferenceAndNoise(t *testing.T) {
	changes, err := Compare(document(t, 1), document(t, 0.7))
	require.NoError(t, err)
	require.Len(t, changes, 1)
	c := changes[0]
	require.Equal(t, "ratio", c.Of)
	require.InDelta(t, 0.7, c.Factor, 0.01)
	require.True(t, c.Significant)
	require.Less(t, c.P, 0.01)
	var out bytes.Buffer
	require.NoError(t, WriteChanges(&out, changes))
	require.Contains(t, out.String(), "-30.")
	require.Contains(t, out.String(), "n=6+6")

	changes, err = Compare(document(t, 1), document(t, 1.001))
	require.NoError(t, err)
	require.False(t, changes[0].Significant)
	out.Reset()
	require.NoError(t, WriteChanges(&out, changes))
	require.Contains(t, out.String(), " ~ ")

	// Few rounds prove nothing, and the text says so.
	one, two := document(t, 1), document(t, 0.5)
	one.Rounds, two.Rounds = one.Rounds[:2], two.Rounds[:2]
	one.Summarize()
	two.Summarize()
	changes, err = Compare(one, two)
	require.NoError(t, err)
	require.False(t, changes[0].Significant)
	require.NotEmpty(t, changes[0].Warnings)
}

func TestCompareFallsBackToRatesAndRefusesStrangers(t *testing.T) {
	one, two := document(t, 1), document(t, 1)
	two.Summary[0].Floor = "another"
	changes, err := Compare(one, two)
	require.NoError(t, err)
	require.Equal(t, "rate", changes[0].Of)
	two.Summary[0].Name = "other"
	_, err = Compare(one, two)
	require.ErrorIs(t, err, fault.Invalid)
}

func TestReadRefusesWhatIsNoDocument(t *testing.T) {
	directory := t.TempDir()
	_, err := Read(filepath.Join(directory, "missing"))
	require.ErrorIs(t, err, fault.Invalid)
	for text, kind := range map[string]fault.Kind{"": fault.Invalid, "[1]": fault.Invalid,
		`{"schema":1}`: fault.Version, `{}`: fault.Version} {
		path := filepath.Join(directory, "d.json")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := Read(path)
		require.ErrorIs(t, err, kind, text)
	}
}

func TestTheReportIsOnePageOfItsOwn(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteHTML(&out, []string{"old.json", "dir/new<.json"},
		[]*Document{document(t, 1), document(t, 0.7)}))
	page := out.String()
	require.Equal(t, 2, strings.Count(page, "<svg"))
	require.Contains(t, page, "small/create: latency")
	require.Contains(t, page, "new&lt;.json")
	require.NotContains(t, page, "<script")
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		require.True(t, strings.HasPrefix(m[1], "#"), "a reference to something outside: %s", m[0])
	}

	measured := document(t, 1)
	measured.Rounds[0].Results[0].Latency.HDR = "nonsense"
	require.ErrorIs(t, WriteHTML(&out, []string{"x"}, []*Document{measured}), fault.Invalid)
}

func TestPlotsStandSmallAndStrangeData(t *testing.T) {
	svg, err := throughputPlot("x", "ops/s",
		[]line{throughputLine("one", Result{Timeline: Timeline{IntervalNs: 1, Operations: []int64{0}}})})
	require.NoError(t, err)
	require.Contains(t, svg, "<svg")
	_, err = latencyPlot("x", nil)
	require.NoError(t, err)
	ticks := nines{}.Ticks(1, 10000)
	require.Len(t, ticks, 5)
	require.Equal(t, "99.99", ticks[4].Label)
}

func TestThisMachineKnowsItself(t *testing.T) {
	m := ThisMachine(t.TempDir())
	require.Positive(t, m.CPUs)
	require.Positive(t, m.MemoryBytes)
	require.NotEmpty(t, m.Kernel)
	require.NotEmpty(t, m.FileSystem)
}
