package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
	yamlv3 "go.yaml.in/yaml/v3"

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
	byEnv := map[string]Field{}
	for _, f := range Fields("") {
		fields[f.Key], byEnv[f.Env] = f, f
	}

	merged := koanf.New(".")
	if source.File != "" {
		if err := loadFile(merged, source.File, fields, loaded.Origin); err != nil {
			return loaded, err
		}
	}
	if err := checkEnviron(source.Environ, byEnv); err != nil {
		return loaded, err
	}
	err := merged.Load(env.Provider(".", env.Opt{
		Prefix:      "WW_",
		EnvironFunc: func() []string { return source.Environ },
		TransformFunc: func(name, value string) (string, any) {
			f, known := byEnv[name]
			if !known {
				return "", nil
			}
			loaded.Origin[f.Key] = name
			return f.Key, value
		},
	}), nil)
	if err != nil {
		return loaded, fault.New(fault.Invalid, "config", "the environment cannot be read: %v", err)
	}
	for key, text := range source.Flags {
		if err := merged.Set(key, text); err != nil {
			return loaded, fault.New(fault.Invalid, "config", "%s: %v", key, err)
		}
		loaded.Origin[key] = "flag --" + fields[key].Flag
	}

	root := reflect.ValueOf(&loaded.Config).Elem()
	for key, f := range fields {
		if !merged.Exists(key) {
			continue
		}
		if err := set(root.FieldByIndex(f.index), merged.Get(key)); err != nil {
			return loaded, fault.New(fault.Invalid, "config", "%s (%s): %v", key, loaded.Origin[key], err)
		}
	}
	return loaded, nil
}

// loadFile parses the YAML file and refuses what no setting is called.
func loadFile(k *koanf.Koanf, path string, fields map[string]Field, origin map[string]string) error {
	text, err := readBounded(path)
	if err != nil {
		return err
	}
	return loadText(k, path, text, fields, origin)
}

// content is a file's text as koanf takes it.
type content []byte

// ReadBytes is the text.
func (c content) ReadBytes() ([]byte, error) { return c, nil }

// Read is not asked for: the text needs a parser.
func (c content) Read() (map[string]any, error) {
	return nil, fault.New(fault.Internal, "config", "a text has no keys")
}

func loadText(merged *koanf.Koanf, path string, text []byte, fields map[string]Field, origin map[string]string) error {
	bad := func(kind fault.Kind, format string, args ...any) error {
		return fault.WithPath(fault.New(kind, "config", format, args...), path)
	}
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(text, &root); err != nil {
		return bad(fault.Invalid, "is not valid YAML: %v", err)
	}
	if len(root.Content) == 0 {
		return nil // empty, or nothing but comments
	}
	top := root.Content[0]
	if top.Kind != yamlv3.MappingNode {
		return bad(fault.Invalid, "line %d: wants sections like \"client:\"", top.Line)
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		section, body := top.Content[i], top.Content[i+1]
		known := Fields(section.Value)
		if section.Value == "" || len(known) == 0 {
			return bad(fault.Invalid, "line %d: unknown section %q%s", section.Line, section.Value,
				nearest(section.Value, sections()))
		}
		if body.Kind == yamlv3.ScalarNode && body.Tag == "!!null" {
			continue
		}
		if body.Kind != yamlv3.MappingNode {
			return bad(fault.Invalid, "line %d: section %q wants keys below it", body.Line, section.Value)
		}
		for j := 0; j+1 < len(body.Content); j += 2 {
			name := body.Content[j]
			key := section.Value + "." + name.Value
			if _, ok := fields[key]; !ok {
				return bad(fault.Invalid, "line %d: unknown key %q%s", name.Line, key, nearest(key, keysOf(known)))
			}
			origin[key] = fmt.Sprintf("file %s:%d", path, name.Line)
		}
	}
	if err := merged.Load(content(text), yaml.Parser()); err != nil {
		return bad(fault.Invalid, "is not valid YAML: %v", err)
	}
	return nil
}

// checkEnviron refuses WW_<SECTION>_* variables that no setting has; other WW_* names are not ours to judge.
func checkEnviron(environ []string, byEnv map[string]Field) error {
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if _, known := byEnv[name]; known {
			continue
		}
		for _, section := range sections() {
			if strings.HasPrefix(name, "WW_"+strings.ToUpper(section)+"_") {
				var names []string
				for _, f := range Fields(section) {
					names = append(names, f.Env)
				}
				return fault.New(fault.Invalid, "config", "unknown variable %s%s", name, nearest(name, names))
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
