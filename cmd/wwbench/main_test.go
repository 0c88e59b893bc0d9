package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/bench/table"
	"github.com/whispering-woods/ww/daemon/profiling"
)

// wwbench runs one command line.
func wwbench(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, remarks bytes.Buffer
	code = run(t.Context(), args, &out, &remarks)
	return code, out.String(), remarks.String()
}

// A measurement in a cluster of its own, its document, the comparison with
// itself and the page: the way a person goes.
func TestSmallInAMiniToAReport(t *testing.T) {
	directory, files := t.TempDir(), t.TempDir()
	code, out, remarks := wwbench(t, "small", "--mini", "--dir", directory, "--count", "10", "--warmup",
		"0s", "--workers", "2",
		"--floor-size", "1MiB", "--json", "--rounds", "2", "--floors=false", "--profile", "mem", "--profile-dir", files)
	require.Zero(t, code, remarks)
	var d report.Document
	require.NoError(t, json.Unmarshal([]byte(out), &d), "one document, nothing else")
	require.Equal(t, report.Schema, d.Schema)
	require.Equal(t, "mini", d.Settings.Target)
	require.Len(t, d.Rounds, 2)
	require.Len(t, d.Summary, 3)
	left, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")
	require.FileExists(t, filepath.Join(files, "mem.pprof"))

	path, page := filepath.Join(files, "d.json"), filepath.Join(files, "d.html")
	require.NoError(t, os.WriteFile(path, []byte(out), 0o600))
	code, out, remarks = wwbench(t, "compare", path, path)
	require.Zero(t, code, remarks)
	require.Contains(t, out, "small/create")
	code, _, remarks = wwbench(t, "report", path, "-o", page)
	require.Zero(t, code, remarks)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "<svg")
}

func TestMetaAgainstEachTarget(t *testing.T) {
	for _, against := range []string{"actor", "namenode"} {
		code, out, remarks := wwbench(t, "meta", "--against", against, "--dir", t.TempDir(), "--count", "20",
			"--warmup", "0s", "--files", "30", "--floors=false")
		require.Zero(t, code, remarks)
		require.Contains(t, out, "/rename")
		require.Contains(t, out, "against "+against)
	}
}

func TestFloorsByName(t *testing.T) {
	code, out, remarks := wwbench(t, "floor", "--dir", t.TempDir(), "--size", "1MiB", "--time", "1ms", "--only",
		"loopback-tcp,map-insert")
	require.Zero(t, code, remarks)
	require.Equal(t, 2, strings.Count(out, "\n"))
	code, out, _ = wwbench(t, "floor", "--dir", t.TempDir(), "--size", "1MiB", "--time", "1ms", "--only",
		"loopback-tcp", "--json")
	require.Zero(t, code)
	require.True(t, json.Valid([]byte(out)))
}

func TestWrongUsageIsTold(t *testing.T) {
	directory := t.TempDir()
	for line, want := range map[string]string{
		"speed":                                         `no command or argument "speed"`,
		"small --sise 4KiB":                             "--sise",
		"small --mini --config x":                       "leave --config and --namenode out",
		"small --mini --workers 0":                      "workers",
		"small --mini --rounds 0":                       "--rounds",
		"small --mini --size 5-4":                       "LEAST-MOST",
		"small --mini --size many":                      "many",
		"small --mini --clients 0":                      "--clients",
		"small --mini --datanodes 99":                   "--datanodes",
		"small --mini --rate -1":                        "rate",
		"small --mini --parallel 99":                    "99 parallel chunks",
		"small --mini --packet-size 5":                  "packets of 5 bytes",
		"small extra":                                   `"extra"`,
		"write --size 4-5":                              "one size",
		"read --cold":                                   "--cold needs --mini",
		"read --drop x":                                 "without --cold",
		"meta --against speed":                          "--against",
		"meta --against actor --mini":                   "starts what it measures",
		"meta --against actor --workers 3":              "one caller",
		"meta --against namenode --ops create":          "without datanodes",
		"meta --against actor --ops chmod":              "chmod",
		"mixed --mix write=1":                           "--mix",
		"compare one.json":                              "two documents",
		"compare missing.json missing.json":             "missing.json",
		"report":                                        "at least one",
		"floor --size 0":                                "size of 0 bytes",
		"floor --only speed":                            "speed",
		"table --short --save x":                        "mean nothing",
		"table --baseline x --save y":                   "not both",
		"table --json --markdown":                       "not both",
		"table --baseline missing.json":                 "missing.json",
		"table --only speed --ww x":                     "speed",
		"small --profile speed":                         "speed",
		"knob client.timeout=1s -- write":               "no effect",
		"knob datanode.window=1MiB":                     "then -- and a workload",
		"knob datanode.window -- write":                 "then -- and a workload",
		"knob datanode.windw=1MiB -- write":             "windw",
		"knob datanode.window=much -- write":            "much",
		"knob datanode.window=1MiB --rounds 0 -- write": "--rounds 0",
		"small --config " + directory + "/missing":      "missing",
	} {
		code, _, stderr := wwbench(t, strings.Fields(line)...)
		require.Equal(t, exitUsage, code, "%s: %s", line, stderr)
		require.Contains(t, stderr, want, line)
	}
}

// Two real clusters that differ in one setting.
func TestAKnobIsMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts programs")
	}
	programs := t.TempDir()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", programs, "../ww", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	command := exec.Command(filepath.Join(programs, "wwbench"), "knob", "datanode.window=8MiB,1MiB", "--dir",
		t.TempDir(), "--datanodes", "1", "--rounds", "2",
		"--", "append", "--count", "20", "--warmup", "0s")
	out, err = command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `append/append-flush, medians of 2 rounds in turn\n  datanode.window .*\n`+
		`  8MiB .* 1.00×.*\n  1MiB .*×`, string(out))
}

func TestNobodyThereIsNoUsageError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out, remarks bytes.Buffer
	cancel()
	require.Equal(t, exitFailed, run(ctx, []string{"small", "--namenode", "127.0.0.1:1"}, &out, &remarks))
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	stop := func() {}
	for _, cmd := range newRoot(&stop).Commands() {
		require.NotEmpty(t, cmd.Short, cmd.Name())
		require.NotEmpty(t, cmd.Long, cmd.Name())
		require.NotEmpty(t, cmd.Example, cmd.Name())
		code, out, _ := wwbench(t, cmd.Name(), "--help")
		require.Zero(t, code)
		require.Contains(t, out, "Examples:")
	}
	_, out, _ := wwbench(t)
	require.Contains(t, out, profiling.Modes())
}

// A planted regression fails the run, with an exit code of its own.
func TestAPlantedRegressionFails(t *testing.T) {
	before := &table.Table{Rows: []table.Row{{Part: "p", Name: "n", Guarded: true, Values: []float64{1, 1.01, 1.02}}}}
	now := &table.Table{Schema: table.Schema,
		Rows: []table.Row{{Part: "p", Name: "n", Guarded: true, Values: []float64{0.7, 0.75, 0.7, 0.7, 0.7, 0.7}}}}
	var remarks bytes.Buffer
	all := &table.Baselines{Tables: []table.Table{*before}}
	err := compare(&remarks, all, now, []string{"n"})
	require.ErrorIs(t, err, errRegressed)
	require.Contains(t, remarks.String(), "REGRESSION n")
	require.NoError(t, compare(&remarks, all, now, nil), "it had no second look")
	require.NoError(t, compare(&remarks, all, before, []string{"n"}))
	require.ErrorIs(t, compare(&remarks, all, &table.Table{}, nil), errRegressed, "nothing to compare")
	now.Machine.CPUs = 3
	now.Rows[0].Values = []float64{0.7, 1.005}
	require.NoError(t, compare(&remarks, all, now, []string{"n"}))
	require.Contains(t, remarks.String(), "no baseline of this machine")
	require.Contains(t, remarks.String(), "not certain n")
}
