package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/whispering-woods/ww/internal/fault"
)

// fileBytesMax bounds a configuration file, in bytes.
const fileBytesMax = 1 << 20

// Source is where settings come from, weakest first.
type Source struct {
	File    string            // YAML; empty: none
	Environ []string          // "KEY=value", as os.Environ gives it; only WW_* is read
	Flags   map[string]string // setting key → text, for the flags that were given
}

// Loaded is a configuration and where each setting came from.
type Loaded struct {
	Config
	// Origin maps the key of a setting that is not a default to its source:
	// "file ww.yaml:3", "WW_LOG_LEVEL" or "flag --listen".
	Origin map[string]string
}

// Load reads the sources. It refuses unknown keys, values of a wrong kind and a file that is missing with
// fault.Invalid; it does not validate sections, because a process reads only its own.
func Load(source Source) (Loaded, error) {
	loaded := Loaded{Config: Default(), Origin: map[string]string{}}
	fields := map[string]Field{}
	for _, f := range Fields("") {
		fields[f.Key] = f
	}
	values := map[string]any{} // by key: what YAML made of it, or text
	if source.File != "" {
		text, err := readBounded(source.File)
		if err != nil {
			return loaded, err
		}
		if err := loadText(source.File, text, values, loaded.Origin); err != nil {
			return loaded, err
		}
	}
	if err := loadEnviron(source.Environ, values, loaded.Origin); err != nil {
		return loaded, err
	}
	for key, text := range source.Flags {
		values[key], loaded.Origin[key] = text, "flag --"+fields[key].Flag
	}

	root := reflect.ValueOf(&loaded.Config).Elem()
	for key, f := range fields {
		value, given := values[key]
		if !given {
			continue
		}
		if err := set(root.FieldByIndex(f.index), value); err != nil {
			return loaded, fault.New(fault.Invalid, "config", "%s (%s): %v", key, loaded.Origin[key], err)
		}
	}
	return loaded, nil
}

// loadText parses the text of a YAML file and refuses what no setting is called.
func loadText(path string, text []byte, values map[string]any, origin map[string]string) error {
	bad := func(format string, args ...any) error {
		return fault.WithPath(fault.New(fault.Invalid, "config", format, args...), path)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return bad("is not valid YAML: %v", err)
	}
	if len(root.Content) == 0 {
		return nil // empty, or nothing but comments
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return bad("line %d: wants sections like \"client:\"", top.Line)
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		section, body := top.Content[i], top.Content[i+1]
		known := Fields(section.Value)
		if section.Value == "" || len(known) == 0 {
			return bad("line %d: unknown section %q%s", section.Line, section.Value, nearest(section.Value, sections()))
		}
		if body.Kind == yaml.ScalarNode && body.Tag == "!!null" {
			continue
		}
		if body.Kind != yaml.MappingNode {
			return bad("line %d: section %q wants keys below it", body.Line, section.Value)
		}
		for j := 0; j+1 < len(body.Content); j += 2 {
			name := body.Content[j]
			key := section.Value + "." + name.Value
			if !slices.Contains(keysOf(known), key) {
				return bad("line %d: unknown key %q%s", name.Line, key, nearest(key, keysOf(known)))
			}
			origin[key] = fmt.Sprintf("file %s:%d", path, name.Line)
		}
	}
	var read map[string]map[string]any
	if err := top.Decode(&read); err != nil {
		return bad("is not valid YAML: %v", err)
	}
	for section, settings := range read {
		for name, value := range settings {
			values[section+"."+name] = value
		}
	}
	return nil
}

// loadEnviron refuses WW_<SECTION>_* variables that no setting has; other WW_* names are not ours to judge.
func loadEnviron(environ []string, values map[string]any, origin map[string]string) error {
	byEnv, names := map[string]Field{}, map[string][]string{}
	for _, f := range Fields("") {
		byEnv[f.Env] = f
		names[f.Section] = append(names[f.Section], f.Env)
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if f, known := byEnv[name]; known {
			values[f.Key], origin[f.Key] = value, name
			continue
		}
		for section, known := range names {
			if strings.HasPrefix(name, "WW_"+strings.ToUpper(section)+"_") {
				return fault.New(fault.Invalid, "config", "unknown variable %s%s", name, nearest(name, known))
			}
		}
	}
	return nil
}

func sections() []string {
	var names []string
	for _, f := range Fields("") {
		if len(names) == 0 || names[len(names)-1] != f.Section {
			names = append(names, f.Section)
		}
	}
	return names
}

func keysOf(fields []Field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.Key
	}
	return keys
}

// nearest is " — did you mean …" with the known name that needs the fewest
// edits, or the list of names if none is near.
func nearest(name string, known []string) string {
	best, bestDistance := "", 1+len(name)/2
	for _, candidate := range known {
		if d := editDistance(name, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best == "" || bestDistance > 4 {
		return " — known: " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
	}
	return fmt.Sprintf(" — did you mean %q?", best)
}

// editDistance is Levenshtein's, over bytes.
func editDistance(from, to string) int {
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(from) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(to) {
			cost := diagonal
			if from[i] != to[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}
