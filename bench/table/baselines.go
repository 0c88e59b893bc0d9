package table

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/whispering-woods/ww/bench/report"
	"github.com/whispering-woods/ww/internal/fault"
)

// Baselines are tables of several machines. Ratios to floors of the same run still differ between machines: one
// wakes threads slowly, the disk of another is faster with more under way.
type Baselines struct {
	Schema int     `json:"schema"`
	Tables []Table `json:"tables"`
}

// ReadBaselines reads the file. Errors: fault.Invalid, fault.Version; the former wraps fs.ErrNotExist.
func ReadBaselines(path string) (*Baselines, error) {
	const op = "read baseline"
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: path, Reason: "the file cannot be read", Err: err}
	}
	var baselines Baselines
	if err := json.Unmarshal(text, &baselines); err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: path, Reason: "no tables", Err: err}
	}
	if baselines.Schema != Schema {
		return nil, &fault.Error{Kind: fault.Version, Op: op, Path: path,
			Reason: fmt.Sprintf("schema %d, this program reads %d", baselines.Schema, Schema)}
	}
	if len(baselines.Tables) == 0 {
		return nil, fault.New(fault.Invalid, op, "%s holds no table", path)
	}
	return &baselines, nil
}

// Save puts a table into the file: its parts replace those of the same machine; all other parts and the tables of
// other machines stay. To drop a machine that is gone, edit the file.
func Save(path string, table *Table) error {
	baselines, err := ReadBaselines(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		baselines = &Baselines{Schema: Schema}
	}
	if at := slices.IndexFunc(baselines.Tables, func(old Table) bool {
		return sameMachine(old.Machine, table.Machine)
	}); at >= 0 {
		merged := *table
		merged.Rows = Merge(baselines.Tables[at].Rows, table.Rows)
		baselines.Tables[at] = merged
	} else {
		baselines.Tables = append(baselines.Tables, *table)
	}
	text, err := json.MarshalIndent(baselines, "", " ")
	if err != nil {
		return &fault.Error{Kind: fault.Internal, Op: "save baseline", Path: path, Err: err}
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "save baseline", Path: path, Err: err}
	}
	return nil
}

// sameMachine reports whether two descriptions are of one kind of machine. Memory and Go may differ.
func sameMachine(a, b report.Machine) bool {
	return a.CPUs == b.CPUs && a.CPUModel == b.CPUModel && a.Kernel == b.Kernel && a.FileSystem == b.FileSystem
}

// Compare compares a table with the baseline of its machine, or, if there is none, with all of them: then a ratio has
// regressed only if it did so against each machine that it can be compared with. known: there is one of this machine.
func (b *Baselines) Compare(now *Table) (out []Regression, strangers, compared []string, known bool) {
	tables := b.Tables
	if at := slices.IndexFunc(tables, func(t Table) bool { return sameMachine(t.Machine, now.Machine) }); at >= 0 {
		tables, known = tables[at:at+1], true
	}
	behind := map[string][]Regression{}
	with := map[string]int{} // how many tables compare with a ratio
	for _, t := range tables {
		found, others, names := Regressions(t.Rows, now.Rows)
		for _, r := range found {
			behind[r.Name] = append(behind[r.Name], r)
		}
		for _, name := range names {
			with[name]++
		}
		strangers = append(strangers, others...)
	}
	for _, r := range now.Rows {
		if with[r.Name] == 0 {
			continue
		}
		compared = append(compared, r.Name)
		if all := behind[r.Name]; len(all) == with[r.Name] { // the mildest result counts
			out = append(out, slices.MaxFunc(all, func(a, b Regression) int {
				if a.Certain() != b.Certain() {
					if a.Certain() {
						return -1
					}
					return 1
				}
				return cmp.Compare(b.beyond, a.beyond)
			}))
		}
	}
	slices.Sort(strangers)
	strangers = slices.DeleteFunc(slices.Compact(strangers), func(name string) bool { return with[name] > 0 })
	return out, strangers, compared, known
}
