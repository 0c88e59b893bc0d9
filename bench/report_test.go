package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/floor"
)

func run(storeSeconds, pipelineSeconds int) []Comparison {
	results := []floor.Result{
		{Name: Store, Bytes: 1e9, Duration: time.Duration(storeSeconds) * time.Second},
		{Name: "unheard of", Bytes: 1, Duration: 1},
	}
	floors := []floor.Result{
		{Name: floor.Loopback, Bytes: 1e9, Duration: time.Second},
		{Name: floor.Pipeline, Bytes: 1e9, Duration: time.Duration(pipelineSeconds) * time.Second},
	}
	return Compare(results, floors)
}

func TestRatiosComeFromOneRun(t *testing.T) {
	r := Report{Runs: [][]Comparison{run(4, 1), run(2, 1), run(10, 9)}}
	median := r.median()
	require.Len(t, median, 1)
	require.Equal(t, Store, median[0].Name)
	require.InDelta(t, 0.5, median[0].Ratio(), 1e-9)
	require.Equal(t, 2*time.Second, median[0].Result.Duration)

	var text bytes.Buffer
	require.NoError(t, r.WriteText(&text))
	require.Contains(t, text.String(), "50 % of pipeline")

	var document struct {
		Version int
		Median  []struct {
			Name  string
			Ratio float64
			Limit struct {
				Name string
				Rate float64
			}
		}
		Runs [][]json.RawMessage
	}
	text.Reset()
	require.NoError(t, r.WriteJSON(&text))
	require.NoError(t, json.Unmarshal(text.Bytes(), &document))
	require.Equal(t, 1, document.Version)
	require.Len(t, document.Runs, 3)
	require.InDelta(t, 0.5, document.Median[0].Ratio, 1e-9)
	require.InDelta(t, 1e9, document.Median[0].Limit.Rate, 1)
}

func TestEmptyReport(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, Report{}.WriteText(&text))
	require.NoError(t, Report{}.WriteJSON(&text))
}

func TestReportSaysWhenItCannotBeWritten(t *testing.T) {
	r := Report{Runs: [][]Comparison{run(4, 1)}}
	reader, writer := io.Pipe()
	require.NoError(t, reader.Close())
	require.Error(t, r.WriteText(writer))
}

func TestSourceIsAReaderAt(t *testing.T) {
	source := newRepeated(3<<20 + 5)
	all, err := io.ReadAll(io.NewSectionReader(source, 0, 1<<40))
	require.NoError(t, err)
	require.Len(t, all, 3<<20+5)
	require.NoError(t, iotest.TestReader(io.NewSectionReader(source, 0, source.size), all))
	c := comparer{source}
	_, err = c.WriteAt(all[1000:2000], 1000)
	require.NoError(t, err)
	_, err = c.WriteAt(all[1000:2000], 1001)
	require.ErrorContains(t, err, "differ")
}
