package table

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/built"
)

func TestRegressions(t *testing.T) {
	row := func(less bool, values ...float64) Row {
		return Row{Part: "p", Name: "n", Unit: "ratio", Less: less, Guarded: true, Values: values}
	}
	for name, test := range map[string]struct {
		before, now   Row
		want, certain bool
	}{
		"as before":                     {row(false, 0.8, 0.82, 0.78), row(false, 0.79, 0.81, 0.8), false, false},
		"21 % worse, few rounds, apart": {row(false, 1, 1.01, 1.02), row(false, 0.79, 0.78, 0.77), true, true},
		"few rounds, not apart":         {row(false, 1, 0.85, 1.02), row(false, 0.79, 0.78, 0.86), true, false},
		"one round, a tenth":            {row(false, 1), row(false, 0.1), true, true},
		"21 % worse, six rounds": {row(false, 1, 1, 1), row(false, 0.79, 0.78, 0.79, 0.79, 0.78, 0.79), true,
			true},
		"19 % worse": {row(false, 1, 1, 1), row(false, 0.81, 0.81, 0.81, 0.81, 0.81, 0.81), false,
			false},
		"one good round of six": {row(false, 1, 1, 1, 1, 1), row(false, 0.5, 0.5, 0.85, 0.5, 0.5, 0.5), true,
			true},
		"spread, and 25 % worse": {row(false, 0.57, 0.63, 0.78, 0.85, 0.97),
			row(false, 0.43, 0.47, 0.55, 0.56, 0.58, 0.62), true, true},
		"spread, and a bad half": {row(false, 0.57, 0.63, 0.78, 0.85, 0.97),
			row(false, 0.55, 0.58, 0.6, 0.9, 0.95, 1), true, false},
		"better":                          {row(false, 1, 1, 1), row(false, 2, 2, 2), false, false},
		"less is better, more":            {row(true, 1, 1, 1), row(true, 1.21, 1.3, 1.25, 1.3, 1.3, 1.3), true, true},
		"less is better, same":            {row(true, 1, 1, 1), row(true, 1.19, 1.3, 1.15), false, false},
		"less is better, and it is less":  {row(true, 1, 1, 1), row(true, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5), false, false},
		"nothing before":                  {row(false), row(false, 0.1), false, false},
		"nothing now":                     {row(false, 1), row(false), false, false},
		"nothing moved but one in rounds": {row(false, 1, 1, 1), row(false, 1, 1, 0.1), false, false},
	} {
		found, strangers, _ := Regressions([]Row{test.before}, []Row{test.now})
		require.Equal(t, test.want, len(found) == 1, name)
		require.Empty(t, strangers)
		if test.want {
			require.Equal(t, test.certain, found[0].Certain(), "%s: %s", name, found[0])
		}
	}
	unguarded := row(false, 0.1)
	unguarded.Guarded = false
	found, _, _ := Regressions([]Row{row(false, 1)}, []Row{unguarded})
	require.Empty(t, found)
	other := row(false, 0.1)
	other.Name = "new"
	found, _, compared := Regressions([]Row{row(false, 1)}, []Row{other})
	require.Empty(t, compared)
	require.Empty(t, found)
	found, _, _ = Regressions([]Row{row(false, 1)}, []Row{row(false, 0.5, 0.6)})
	require.Contains(t, found[0].String(),
		"n: 0.500 in the median of 2 rounds, the baseline is 1.000, the limit 0.800 (p=")
}

func TestLeastP(t *testing.T) {
	require.InDelta(t, 1.0, leastP(1, 1), 1e-9)
	require.InDelta(t, 2.0/20, leastP(3, 3), 1e-9)
	require.InDelta(t, 2.0/56, leastP(3, 5), 1e-9)
	require.InDelta(t, 2.0/252, leastP(5, 5), 1e-9)
}

// A disk that is three times as fast today makes another bottleneck: the ratio to
// it is no regression, and is named.
func TestAnotherMachineIsNotARegression(t *testing.T) {
	slow := Row{Name: "store", Guarded: true, Values: []float64{0.9}, Floors: []float64{150e6}}
	fast := Row{Name: "store", Guarded: true, Values: []float64{0.6}, Floors: []float64{450e6}}
	found, strangers, compared := Regressions([]Row{slow}, []Row{fast})
	require.Empty(t, found)
	require.Equal(t, []string{"store"}, strangers)
	require.Empty(t, compared)
	fast.Floors[0] = 250e6
	found, strangers, compared = Regressions([]Row{slow}, []Row{fast})
	require.Len(t, found, 1)
	require.Empty(t, strangers)
	require.Len(t, compared, 1)
}

func TestRowsKnowWhetherTheyAreMet(t *testing.T) {
	require.True(t, Row{Goal: 2, Values: []float64{1, 2, 3}}.Met())
	require.False(t, Row{Goal: 2, Values: []float64{1, 1, 3}}.Met())
	require.True(t, Row{Goal: 2, Less: true, Values: []float64{1, 2, 3}}.Met())
	require.False(t, Row{Goal: 2, Less: true}.Met())
	require.InDelta(t, 2, Row{Values: []float64{3, 2, 9, 1}}.Median(), 0, "the lower of the two in the middle")
}

func TestTheTableShowsRatiosFirst(t *testing.T) {
	table := &Table{Schema: Schema, Rows: []Row{
		{Part: "a", Name: "absolute", Unit: "/s", Goal: 20_000, Values: []float64{25_000}, Detail: "p99 3 ms"},
		{Part: "a", Name: "guarded", Unit: "ratio", Goal: 0.85, Guarded: true, Values: []float64{0.5, 0.6, 0.7},
			Detail: "x against y"},
		{Part: "a", Name: "less", Unit: "ms", Goal: 30, Less: true, Values: []float64{12.34}},
		{Part: "b", Name: "future", Unit: "s", Goal: 3, Less: true, Missing: "not built"},
		{Part: "b", Name: "read only", Unit: "factor", Values: []float64{1.5}},
	}}
	var out bytes.Buffer
	require.NoError(t, table.WriteText(&out))
	lines := strings.Split(out.String(), "\n")
	require.Regexp(t, `NO +guarded +60 % +≥ 85 % +x against y \(50 % to 70 %\)`, lines[1])
	require.Regexp(t, `yes +absolute +25000 /s +≥ 20000 /s +p99 3 ms`, out.String())
	require.Regexp(t, `yes +less +12.3 ms +≤ 30 ms`, out.String())
	require.Regexp(t, `-- +future +≤ 3 s +not built`, out.String())
	out.Reset()
	require.NoError(t, table.WriteMarkdown(&out))
	require.Contains(t, out.String(), "| guarded | ≥ 85 % | 60 % | NO | 50 % to 70 % | x against y |")
}

func TestAPartIsMeasuredAnewWithoutTheOthers(t *testing.T) {
	row := func(part, name string) Row { return Row{Part: part, Name: name} }
	merged := Merge([]Row{row("idle", "i"), row("data", "a"), row("data", "b"), row("gone", "g")},
		[]Row{row("meta", "m"), row("data", "c")})
	require.Equal(t, []Row{row("data", "c"), row("meta", "m"), row("idle", "i")}, merged)
}

func TestBaselinesAreReadAndSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.json")
	_, err := ReadBaselines(path)
	require.ErrorIs(t, err, fault.Invalid)
	machine := func(kernel string) report.Machine { return report.Machine{CPUs: 2, Kernel: kernel} }
	row := func(part string, value float64) Row { return Row{Part: part, Name: part, Values: []float64{value}} }
	require.NoError(t, Save(path, &Table{Machine: machine("a"), Rows: []Row{row("data", 1), row("idle", 2)}}))
	require.NoError(t, Save(path, &Table{Machine: machine("b"), Rows: []Row{row("data", 3)}}))
	require.NoError(t, Save(path, &Table{Machine: machine("a"), Rows: []Row{row("data", 4)}}))
	b, err := ReadBaselines(path)
	require.NoError(t, err)
	require.Equal(t, []Row{row("data", 4), row("idle", 2)}, b.Tables[0].Rows)
	require.Equal(t, []Row{row("data", 3)}, b.Tables[1].Rows)
	for text, kind := range map[string]fault.Kind{"x": fault.Invalid, `{"schema":99}`: fault.Version,
		`{"schema":2}`: fault.Invalid} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err = ReadBaselines(path)
		require.ErrorIs(t, err, kind)
		require.ErrorIs(t, Save(path, &Table{}), kind, "what cannot be read is not overwritten")
	}
	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o600))
	_, err = ReadBaselines("../baseline.json")
	require.NoError(t, err, "the committed one")
}

// A machine with a baseline is compared with it, another one with all of them: a
// ratio is good if it is good against any.
func TestEachMachineHasItsBaseline(t *testing.T) {
	table := func(kernel string, values ...float64) Table {
		return Table{Machine: report.Machine{Kernel: kernel},
			Rows: []Row{{Part: "p", Name: "n", Guarded: true, Values: values, Floors: []float64{100}}}}
	}
	baselines := &Baselines{Tables: []Table{table("a", 1, 1.01, 1.02, 1.03, 1.04),
		table("b", 2, 2.01, 2.02, 2.03, 2.04)}}
	held := func(now Table) (count int, certain, known bool) {
		found, strangers, compared, known := baselines.Compare(&now)
		require.Empty(t, strangers)
		require.Equal(t, []string{"n"}, compared)
		return len(found), len(found) > 0 && found[0].Certain(), known
	}
	for _, test := range []struct {
		now            Table
		count          int
		certain, known bool
	}{
		{table("a", 1, 1.1, 1.2, 1.3, 1.4), 0, false, true},
		{table("b", 1, 1.1, 1.2, 1.3, 1.4), 1, true, true},
		{table("c", 1, 1.1, 1.2, 1.3, 1.4), 0, false, false},
		{table("c", 0.5, 0.51, 0.52, 0.53, 0.54), 1, true, false},
		{table("c", 0.5, 0.51, 0.52, 1.53, 1.54), 1, false, false},
	} {
		count, certain, known := held(test.now)
		require.Equal(t, test.count, count, test.now)
		require.Equal(t, test.certain, certain, test.now)
		require.Equal(t, test.known, known, test.now)
	}
	far := table("c", 0.1)
	far.Rows[0].Floors[0] = 1000
	_, strangers, compared, _ := baselines.Compare(&far)
	require.Equal(t, []string{"n"}, strangers)
	require.Empty(t, compared)
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, options := range []Options{{}, {Rounds: 99, Files: 1}, {Rounds: 1},
		{Rounds: 1, Files: 1, Only: []string{"speed"}}} {
		_, err := Run(t.Context(), options)
		require.ErrorIs(t, err, fault.Invalid)
	}
	_, err := Run(t.Context(), Options{Rounds: 1, Files: 1, Directory: filepath.Join(t.TempDir(), "missing")})
	require.ErrorIs(t, err, fault.Disk)
}

// The whole table, short, on real processes: every part measures its rows and
// nothing is left behind.
func TestAShortTable(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts programs")
	}
	defer goleak.VerifyNone(t)
	directory := t.TempDir()
	program, err := built.Program(built.Options{Module: "../..", Directory: t.TempDir()})
	require.NoError(t, err)
	var progress bytes.Buffer
	rows, err := Run(t.Context(), Options{Program: program, Directory: directory, Rounds: 1, Files: 1000, Short: true,
		Progress: io.MultiWriter(&progress)})
	require.NoError(t, err, progress.String())
	have := map[string]int{}
	for _, r := range rows {
		have[r.Part]++
		if r.Missing == "" {
			require.NotEmpty(t, r.Values, r.Name)
			require.NotEmpty(t, r.Detail, r.Name)
			if r.Part != "idle" && r.Name != "datanodes' CPU per GB fetched" { // few clock ticks
				require.Positive(t, r.Median(), r.Name)
			}
		}
	}
	for _, name := range Parts() {
		require.Positive(t, have[name], name)
	}
	left, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Empty(t, left)
}
