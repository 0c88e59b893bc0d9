// Package report holds what measurements gave: one versioned JSON document per run of wwbench, its text for people,
// the comparison of two documents, and an HTML page with plots. It measures nothing.
package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/bench/load"
	"github.com/whispering-woods/ww/bench/workload"
	"github.com/whispering-woods/ww/internal/fault"
)

// Schema is the version of the documents that this package writes. Fields may be
// added under the same number; a changed meaning raises it.
const Schema = 2

// documentBytesMax bounds a document that is read, in bytes.
const documentBytesMax = 256 << 20

// Document is everything that one run of wwbench measured.
type Document struct {
	Schema   int       `json:"schema"`
	Tool     string    `json:"tool"`
	Workload string    `json:"workload"`
	Started  time.Time `json:"started"`
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Rounds   []Round   `json:"rounds"`
	// Summary has the results of all rounds, by name, for those who want one
	// number: the round in the middle by ratio (the worse one of two).
	Summary []Summary `json:"summary"`
}

// Settings are those that shape the numbers.
type Settings struct {
	Workers     int     `json:"workers"`
	Clients     int     `json:"clients"`
	Rate        float64 `json:"rate_per_second,omitempty"` // 0: closed loop
	WarmupNs    int64   `json:"warmup_ns"`
	DurationNs  int64   `json:"duration_ns,omitempty"`
	Count       int64   `json:"count,omitempty"`
	Bytes       int64   `json:"bytes,omitempty"`
	Seed        uint64  `json:"seed"`
	Verify      bool    `json:"verify"`
	Target      string  `json:"target"` // "mini", "actor", "namenode", or addresses
	SizeBytes   int64   `json:"size_bytes,omitempty"`
	SizeMost    int64   `json:"size_most_bytes,omitempty"`
	RangeBytes  int64   `json:"range_bytes,omitempty"`
	Replication int     `json:"replication,omitempty"` // 0: the cluster's default
	Sync        bool    `json:"sync,omitempty"`
	Cold        bool    `json:"cold,omitempty"`
	Mix         string  `json:"mix,omitempty"`
}

// Round is one time through the floors and all phases.
type Round struct {
	Floors  []Floor  `json:"floors"`
	Results []Result `json:"results"`
}

// Floor is a limit of the machine, measured in the same round.
type Floor struct {
	floor.Result
	Rate float64 `json:"rate"` // bytes per second, or operations per second
}

// Result is what the operations of one kind gave.
type Result struct {
	Name       string   `json:"name"` // "small/create"
	Unit       string   `json:"unit"` // of Rate: "bytes/s" or "ops/s"
	Operations int64    `json:"operations"`
	Bytes      int64    `json:"bytes,omitempty"`
	ElapsedNs  int64    `json:"elapsed_ns"`
	Rate       float64  `json:"rate"`
	OpsRate    float64  `json:"ops_rate"`
	Limits     []Limit  `json:"limits"` // the first is the one that counts
	Latency    Latency  `json:"latency"`
	Timeline   Timeline `json:"timeline"`
	// Those below are of the whole phase, in the phase's first result only.
	Missed        int64            `json:"missed,omitempty"` // open loop: never began
	Failures      int64            `json:"failures,omitempty"`
	FailuresBy    map[string]int64 `json:"failures_by_kind,omitempty"`
	FirstFailure  string           `json:"first_failure,omitempty"`
	WrongBytes    int64            `json:"failed_verifications,omitempty"`
	VerifiedBytes int64            `json:"verified_bytes,omitempty"` // read back after the phase
	Stopped       string           `json:"stopped,omitempty"`
}

// Limit is a floor beside a result.
type Limit struct {
	Floor string  `json:"floor"`
	Rate  float64 `json:"rate"`
	Ratio float64 `json:"ratio"` // the result's rate through the floor's
}

// Latency is a distribution, in nanoseconds.
type Latency struct {
	MeanNs float64 `json:"mean_ns"`
	P50Ns  int64   `json:"p50_ns"`
	P90Ns  int64   `json:"p90_ns"`
	P99Ns  int64   `json:"p99_ns"`
	P999Ns int64   `json:"p999_ns"`
	MaxNs  int64   `json:"max_ns"`
	// HDR is the whole histogram in microseconds, in HdrHistogram's own V2
	// encoding (compressed, base64), which its tools read.
	HDR string `json:"hdr"`
}

// Timeline is throughput over time.
type Timeline struct {
	IntervalNs int64   `json:"interval_ns"`
	Operations []int64 `json:"operations"`
	Bytes      []int64 `json:"bytes,omitempty"`
}

// Summary is one result over all rounds.
type Summary struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Floor   string    `json:"floor,omitempty"`
	Ratio   float64   `json:"ratio,omitempty"`
	Rate    float64   `json:"rate"`
	P50Ns   int64     `json:"p50_ns"`
	P99Ns   int64     `json:"p99_ns"`
	Ratios  []float64 `json:"ratios,omitempty"` // per round
	Rates   []float64 `json:"rates"`            // per round
	Samples int       `json:"rounds"`
}

// FloorOf turns a measured floor into the document's form.
func FloorOf(r floor.Result) Floor { return Floor{r, r.Rate()} }

// Results turns one phase of a workload into the document's form, beside the
// floors of the round. Kinds without an operation are left out, unless all are.
func Results(workloadName string, measured workload.Result, floors []Floor) ([]Result, error) {
	var out []Result
	for i, s := range measured.Outcome.Series {
		if s.Operations == 0 && (i > 0 || len(measured.Outcome.Series) > 1) {
			continue
		}
		result, err := resultOf(workloadName+"/"+s.Kind, s, measured.Outcome.Elapsed)
		if err != nil {
			return nil, err
		}
		for _, name := range measured.Phase.Floors {
			at := slices.IndexFunc(floors, func(f Floor) bool { return f.Name == name })
			if at < 0 || floors[at].Rate == 0 {
				continue
			}
			limit := Limit{Floor: name, Rate: floors[at].Rate}
			if floors[at].Count > 0 {
				limit.Ratio = result.OpsRate / limit.Rate
			} else {
				limit.Ratio = float64(result.Bytes) / time.Duration(result.ElapsedNs).Seconds() / limit.Rate
			}
			if result.ElapsedNs == 0 {
				limit.Ratio = 0
			}
			result.Limits = append(result.Limits, limit)
		}
		out = append(out, result)
	}
	if len(out) == 0 { // nothing succeeded: the failures have to be somewhere
		result, err := resultOf(workloadName+"/"+measured.Outcome.Series[0].Kind, measured.Outcome.Series[0],
			measured.Outcome.Elapsed)
		if err != nil {
			return nil, err
		}
		out = append(out, result)
	}
	f := measured.Outcome.Failures
	first := &out[0]
	first.Missed, first.Failures, first.FirstFailure, first.WrongBytes = measured.Outcome.Missed, f.Count,
		f.First, f.WrongBytes
	first.VerifiedBytes = measured.Verified
	if f.Count > 0 {
		first.FailuresBy = f.ByKind
	}
	if measured.Outcome.Stopped != nil {
		first.Stopped = measured.Outcome.Stopped.Error()
	}
	return out, nil
}

func resultOf(name string, series load.Series, elapsed time.Duration) (Result, error) {
	result := Result{
		Name: name, Unit: "ops/s", Operations: series.Operations, Bytes: series.Bytes,
		ElapsedNs: int64(elapsed), Limits: []Limit{},
		Timeline: Timeline{IntervalNs: int64(series.Timeline.Interval), Operations: series.Timeline.Operations,
			Bytes: series.Timeline.Bytes},
	}
	if result.Timeline.Operations == nil {
		result.Timeline.Operations = []int64{}
	}
	if elapsed > 0 {
		result.OpsRate = float64(series.Operations) / elapsed.Seconds()
	}
	result.Rate = result.OpsRate
	if series.Bytes >= bulkBytes*max(series.Operations, 1) {
		result.Unit, result.Rate = "bytes/s", float64(series.Bytes)/elapsed.Seconds()
	}
	var err error
	result.Latency, err = latencyOf(series)
	return result, err
}

// bulkBytes: the rate of operations that move at least this many bytes on average
// is given in bytes per second, that of smaller ones in operations per second.
const bulkBytes = 1 << 20

func latencyOf(s load.Series) (Latency, error) {
	h := s.Latency
	ns := func(q float64) int64 { return h.ValueAtPercentile(q) * int64(time.Microsecond) }
	encoded, err := h.EncodeV2()
	if err != nil {
		return Latency{}, fmt.Errorf("encode a histogram: %w", err)
	}
	return Latency{
		MeanNs: h.Mean() * float64(time.Microsecond), P50Ns: ns(50), P90Ns: ns(90), P99Ns: ns(99), P999Ns: ns(99.9),
		MaxNs: h.Max() * int64(time.Microsecond), HDR: string(encoded),
	}, nil
}

// Summarize fills Summary from Rounds.
func (d *Document) Summarize() {
	d.Summary = []Summary{}
	var names []string
	byName := map[string][]Result{}
	for _, round := range d.Rounds {
		for _, r := range round.Results {
			if byName[r.Name] == nil {
				names = append(names, r.Name)
			}
			byName[r.Name] = append(byName[r.Name], r)
		}
	}
	for _, name := range names {
		all := byName[name]
		summary := Summary{Name: name, Samples: len(all)}
		for _, r := range all {
			summary.Rates = append(summary.Rates, r.Rate)
			if len(r.Limits) > 0 {
				summary.Ratios = append(summary.Ratios, r.Limits[0].Ratio)
			}
		}
		key := func(r Result) float64 {
			if len(r.Limits) > 0 {
				return r.Limits[0].Ratio
			}
			return r.Rate
		}
		slices.SortStableFunc(all, func(a, b Result) int { return cmp.Compare(key(a), key(b)) })
		middle := all[(len(all)-1)/2]
		summary.Unit, summary.Rate, summary.P50Ns, summary.P99Ns = middle.Unit, middle.Rate, middle.Latency.P50Ns,
			middle.Latency.P99Ns
		if len(middle.Limits) > 0 {
			summary.Floor, summary.Ratio = middle.Limits[0].Floor, middle.Limits[0].Ratio
		}
		d.Summary = append(d.Summary, summary)
	}
}

// Failures counts failed operations, and how many of them were verifications.
func (d *Document) Failures() (all, wrongBytes int64, first string) {
	for _, round := range d.Rounds {
		for _, r := range round.Results {
			all += r.Failures
			wrongBytes += r.WrongBytes
			first = cmp.Or(first, r.FirstFailure)
		}
	}
	return all, wrongBytes, first
}

// WriteJSON writes a document, of this package or another.
func WriteJSON(w io.Writer, document any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(document)
}

// Read reads a document. A file may hold several, one after the other, of the same workload with the same settings:
// their rounds count together, so that two programs can be measured in turn, a round at a time. Errors: fault.Invalid
// for what is no document or does not belong to the first one, fault.Version for one of another schema.
func Read(path string) (*Document, error) {
	refuse := func(kind fault.Kind, cause error, format string, args ...any) error {
		return &fault.Error{Kind: kind, Op: "read report", Path: path, Reason: fmt.Sprintf(format, args...), Err: cause}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, refuse(fault.Invalid, err, "the file cannot be read")
	}
	defer file.Close()
	decoder := json.NewDecoder(io.LimitReader(file, documentBytesMax))
	var joined *Document
	for {
		var document Document
		err := decoder.Decode(&document)
		switch {
		case errors.Is(err, io.EOF) && joined != nil:
			return joined, nil
		case err != nil:
			return nil, refuse(fault.Invalid, err, "no document of wwbench; make one with --json")
		case document.Schema != Schema:
			return nil, refuse(fault.Version, nil, "schema %d, this program reads %d", document.Schema, Schema)
		case joined == nil:
			joined = &document
		case document.Workload != joined.Workload || document.Settings != joined.Settings:
			return nil, refuse(fault.Invalid, nil,
				"a document of %q does not belong to those of %q before it: another workload or other settings",
				document.Workload, joined.Workload)
		default:
			joined.Rounds = append(joined.Rounds, document.Rounds...)
			joined.Summarize()
		}
	}
}
