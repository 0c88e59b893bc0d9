package knob

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestBadOptionsAreRefused(t *testing.T) {
	good := Options{Key: "datanode.window", Values: []string{"1MiB"}, Datanodes: 1, Rounds: 1,
		Workload: []string{"write"}, Progress: io.Discard}
	for name, spoil := range map[string]func(*Options){
		"no section":  func(options *Options) { options.Key = "window" },
		"no daemon":   func(options *Options) { options.Key = "mini.replication" },
		"a fixed one": func(options *Options) { options.Key = "datanode.trash_delay" },
		"no value":    func(options *Options) { options.Values = nil },
		"many values": func(options *Options) { options.Values = make([]string, valuesMax+1) },
		"no workload": func(options *Options) { options.Workload = nil },
	} {
		options := good
		spoil(&options)
		_, err := Run(t.Context(), options)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	good.Directory = filepath.Join(t.TempDir(), "missing")
	_, err := Run(t.Context(), good)
	require.ErrorIs(t, err, fault.Disk)
}

func TestWhatIsPrinted(t *testing.T) {
	load := func(value string, rates ...float64) *side {
		one := &side{value: value}
		for _, rate := range rates {
			one.add([]report.Round{{Results: []report.Result{
				{Name: "write/store", Unit: "bytes/s", Operations: 2, Bytes: 2e9, Rate: rate,
					Latency: report.Latency{P99Ns: 3e6}},
			}}}, 5*time.Second)
		}
		return one
	}
	a, b := load("8MiB", 300e6, 400e6, 350e6), load("1MiB", 700e6)
	var out bytes.Buffer
	require.NoError(t, Write(&out, "datanode.window", collect([]*side{a, b})))
	require.Equal(t, `write/store, medians of 3 rounds in turn
  datanode.window                  rate                                              p99  CPU s per GB
  8MiB                         350 MB/s  (300 MB/s to 400 MB/s)         1.00×        3ms  2.50
  1MiB                         700 MB/s  (700 MB/s to 700 MB/s)         2.00×        3ms  2.50
`, out.String())
}
