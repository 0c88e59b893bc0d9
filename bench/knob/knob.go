// Package knob measures what one setting does: it starts a cluster of real processes for each value, loads them in
// turn, round by round, and sets what each reached beside the first. Two runs after each other compare two minutes
// of a machine; runs in turn compare settings.
package knob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options say what is measured.
type Options struct {
	Program   string   // ww
	Bench     string   // wwbench
	Directory string   // on the disk to measure
	Key       string   // "datanode.window"; one of a client applies to the load
	Values    []string // at least one, each valid for Key
	Datanodes int
	Rounds    int
	Workload  []string // a verb of wwbench and its flags
	Progress  io.Writer
}

const valuesMax = 8

// Sections are those whose settings can be compared.
func Sections() []string { return []string{"client", "datanode", "namenode", "logserver"} }

// fixed are the settings that the cluster's own configuration needs.
func fixed() []string {
	return []string{
		"logserver.id", "logserver.dir", "logserver.listen", "logserver.raft_listen",
		"namenode.listen", "namenode.log_servers", "namenode.replication", "namenode.chunk_size",
		"namenode.lease_soft_limit", "namenode.lease_hard_limit",
		"datanode.listen", "datanode.disks", "datanode.namenodes", "datanode.trash_delay", "datanode.reserve",
	}
}

// Result is what one value gave for one kind of operation.
type Result struct {
	Value string
	Name  string    // "write/store"
	Unit  string    // of Rates
	Rates []float64 // of the rounds
	P99   []time.Duration
	// CPU seconds of all processes, the load included, for 10^9 bytes, or for 1,000 operations where those are
	// counted. It is that of the whole load, also of its other kinds, its warm-up, what it stores first and what it
	// verifies: for comparing the values with each other.
	CPU []float64
}

// Run measures; results are by name, then value. Errors: fault.Invalid, and what broke.
func Run(ctx context.Context, options Options) (_ []Result, err error) {
	const op = "measure a setting"
	section, setting, ok := strings.Cut(options.Key, ".")
	switch {
	case !ok || !slices.Contains(Sections(), section):
		return nil, fault.New(fault.Invalid, op,
			"%q is no setting of a client, datanode, namenode or logserver, such as datanode.window", options.Key)
	case slices.Contains(fixed(), options.Key):
		return nil, fault.New(fault.Invalid, op, "%s is fixed for the clusters that are compared", options.Key)
	case len(options.Values) == 0 || len(options.Values) > valuesMax:
		return nil, fault.New(fault.Invalid, op, "%d values of %s: want 1 to %d", len(options.Values),
			options.Key, valuesMax)
	case len(options.Workload) == 0:
		return nil, fault.New(fault.Invalid, op, "no workload is named")
	}
	directory, err := os.MkdirTemp(options.Directory, "wwbench-knob-")
	if err != nil {
		return nil, &fault.Error{Kind: fault.Disk, Op: op, Path: options.Directory,
			Reason: "no folder can be made", Err: err}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	var sides []*side
	defer func() {
		for _, one := range sides {
			err = errors.Join(err, one.cluster.Close())
		}
	}()
	for i, value := range options.Values {
		one := &side{value: value}
		settings := cluster.Options{Program: options.Program, Directory: filepath.Join(directory, fmt.Sprint(i)),
			Datanodes: options.Datanodes, ChunkSize: 64 << 20, LogLevel: "warn",
			Replication: min(3, options.Datanodes), LeaseSoftLimit: time.Minute, LeaseHardLimit: 5 * time.Minute}
		if section == "client" {
			one.environment = []string{"WW_CLIENT_" + strings.ToUpper(setting) + "=" + value}
		} else {
			settings.Settings = map[string]any{options.Key: value}
		}
		if err := os.Mkdir(settings.Directory, 0o755); err != nil {
			return nil, &fault.Error{Kind: fault.Disk, Op: op, Path: settings.Directory, Err: err}
		}
		if one.cluster, err = cluster.New(settings); err != nil {
			return nil, err
		}
		sides = append(sides, one)
		if err := one.cluster.Start(ctx); err != nil {
			one.cluster.LogTail(options.Progress, 3)
			return nil, fmt.Errorf("with %s = %s: %w", options.Key, value, err)
		}
	}
	for round := range options.Rounds {
		order := slices.Clone(sides)
		if round%2 == 1 { // so that no value is always the one after another
			slices.Reverse(order)
		}
		for _, one := range order {
			fmt.Fprintf(options.Progress, "round %d of %d, %s = %s\n", round+1, options.Rounds, options.Key, one.value)
			if err := one.load(ctx, &options); err != nil {
				return nil, fmt.Errorf("with %s = %s: %w", options.Key, one.value, err)
			}
		}
	}
	return collect(sides), nil
}

// collect puts the results of the sides by name; a load with few operations may have none of some kind on some side.
func collect(sides []*side) []Result {
	var out []Result
	var names []string
	for _, one := range sides {
		for _, r := range one.results {
			if !slices.Contains(names, r.Name) {
				names = append(names, r.Name)
			}
		}
	}
	for _, name := range names {
		for _, one := range sides {
			if at := slices.IndexFunc(one.results, func(r *Result) bool { return r.Name == name }); at >= 0 {
				out = append(out, *one.results[at])
			}
		}
	}
	return out
}

// side is the cluster of one value.
type side struct {
	value       string
	environment []string
	cluster     *cluster.Cluster
	results     []*Result
}

// load runs the workload once.
func (s *side) load(ctx context.Context, options *Options) error {
	before, err := cluster.CPU(s.cluster.Processes())
	if err != nil {
		return err
	}
	args := append(slices.Clone(options.Workload), "--namenode", s.cluster.Address(), "--floors=false", "--dir",
		options.Directory, "--json")
	command := exec.CommandContext(ctx, options.Bench, args...)
	command.Env = append(os.Environ(), s.environment...)
	var out, remarks bytes.Buffer
	command.Stdout, command.Stderr = &out, &remarks
	if err := command.Run(); err != nil {
		return fmt.Errorf("wwbench %s: %w\n%s", strings.Join(args, " "), err, remarks.Bytes())
	}
	after, err := cluster.CPU(s.cluster.Processes())
	if err != nil {
		return err
	}
	var d report.Document
	if err := json.Unmarshal(out.Bytes(), &d); err != nil || len(d.Rounds) == 0 || len(d.Rounds[0].Results) == 0 {
		return fault.New(fault.Internal, "measure a setting", "wwbench %s printed no result: %v",
			strings.Join(args, " "), err)
	}
	used := after - before + command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	s.add(d.Rounds, used)
	return nil
}

// add adds the rounds of one load.
func (s *side) add(rounds []report.Round, used time.Duration) {
	operations, bytes := int64(0), int64(0)
	for _, round := range rounds {
		for _, r := range round.Results {
			operations += r.Operations
			bytes += r.Bytes
		}
	}
	for _, round := range rounds {
		for _, measured := range round.Results {
			at := slices.IndexFunc(s.results, func(known *Result) bool { return known.Name == measured.Name })
			if at < 0 {
				at = len(s.results)
				s.results = append(s.results, &Result{Value: s.value, Name: measured.Name, Unit: measured.Unit})
			}
			result := s.results[at]
			result.Rates = append(result.Rates, measured.Rate)
			result.P99 = append(result.P99, time.Duration(measured.Latency.P99Ns))
			cost := used.Seconds() * 1e3 / float64(max(operations, 1))
			if measured.Unit == "bytes/s" {
				cost = used.Seconds() * 1e9 / float64(max(bytes, 1))
			}
			result.CPU = append(result.CPU, cost)
		}
	}
}

// Write prints the results, each value beside the first one of its name.
func Write(out io.Writer, key string, results []Result) error {
	var text strings.Builder
	name, first := "", 0.0
	for _, result := range results {
		if result.Name != name {
			name, first = result.Name, report.Median(result.Rates)
			per := "1,000 operations"
			if result.Unit == "bytes/s" {
				per = "GB"
			}
			fmt.Fprintf(&text, "%s, medians of %d rounds in turn\n  %-24s %12s  %-26s %9s %10s  CPU s per %s\n", name,
				len(result.Rates), key, "rate", "", "", "p99", per)
		}
		fmt.Fprintf(&text, "  %-24s %12s  %-26s %8.2f× %10s  %.2f\n", result.Value,
			report.Rate(report.Median(result.Rates), result.Unit),
			"("+report.Rate(slices.Min(result.Rates), result.Unit)+" to "+
				report.Rate(slices.Max(result.Rates), result.Unit)+")", report.Median(result.Rates)/first,
			report.Median(result.P99).Round(10*time.Microsecond), report.Median(result.CPU))
	}
	_, err := io.WriteString(out, text.String())
	return err
}
