package actor

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/fault"
)

// modelEntry is what the model knows of a path: a directory, or a file with a
// number that marks its content.
type modelEntry struct {
	directory bool
	content   uint64
}

// model is the namespace as a map of full paths.
type model map[string]modelEntry

func (m model) below(path string) (paths []string) {
	for p := range m {
		if p != path && namespace.Within(p, path) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// parent reports whether a path's parent is there, or why not.
func (m model) parent(path string) fault.Kind {
	for at := 1; ; {
		i := strings.IndexByte(path[at:], '/')
		if i < 0 {
			return 0
		}
		at += i
		e, there := m[path[:at]]
		if !there {
			return fault.NotFound
		}
		if !e.directory {
			return fault.NotDirectory
		}
		at++
	}
}

func (m model) makeParents(path string) fault.Kind {
	for at := 1; ; at++ {
		i := strings.IndexByte(path[at:], '/')
		if i < 0 {
			return 0
		}
		at += i
		if e, there := m[path[:at]]; there && !e.directory {
			return fault.NotDirectory
		}
	}
}

func (m model) addParents(path string) {
	for at := 1; ; at++ {
		i := strings.IndexByte(path[at:], '/')
		if i < 0 {
			return
		}
		at += i
		m[path[:at]] = modelEntry{directory: true}
	}
}

// TestNamespaceAgainstModel runs random operations against the State and a map;
// answers and the final trees must agree.
func TestNamespaceAgainstModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		h := newHarness(t, Config{DefaultReplication: 1})
		h.start(1)
		m := model{}
		name := rapid.SampledFrom([]string{"a", "b", "c", "aa"})
		path := rapid.Custom(func(r *rapid.T) string {
			return "/" + strings.Join(rapid.SliceOfN(name, 1, 3).Draw(r, "names"), "/")
		})
		want := func(request Request, kind fault.Kind) any {
			e := h.as(1, request)
			if kind == 0 {
				if e.Reply.Err != nil {
					r.Fatalf("%T %+v: %v; the model allows it", request, request, e.Reply.Err)
				}
				return e.Reply.Result
			}
			if e.Reply.Err == nil || e.Reply.Err.Kind != kind {
				r.Fatalf("%T %+v: %v; the model wants %v", request, request, e.Reply.Err, kind)
			}
			return nil
		}
		r.Repeat(map[string]func(*rapid.T){
			"mkdir": func(r *rapid.T) {
				p, parents := path.Draw(r, "path"), rapid.Bool().Draw(r, "parents")
				kind := m.parent(p)
				if parents {
					kind = m.makeParents(p)
				}
				if e, there := m[p]; kind == 0 && there && !(parents && e.directory) {
					kind = fault.Exists
				}
				want(&Mkdir{Path: p, Parents: parents}, kind)
				if kind == 0 {
					m.addParents(p)
					m[p] = modelEntry{directory: true}
				}
			},
			"create": func(r *rapid.T) {
				p, parents, overwrite, hidden := path.Draw(r, "path"), rapid.Bool().Draw(r, "parents"),
					rapid.Bool().Draw(r, "overwrite"), rapid.Bool().Draw(r, "hidden")
				kind := m.parent(p)
				if parents {
					kind = m.makeParents(p)
				}
				if e, there := m[p]; kind == 0 && there {
					if e.directory {
						kind = fault.IsDirectory
					} else if !overwrite {
						kind = fault.Exists
					}
				}
				result := want(&Create{Path: p, Parents: parents, Overwrite: overwrite, VisibleOnComplete: hidden},
					kind)
				if kind == 0 {
					id := result.(*CreateResult).Info.FileID
					want(&Complete{FileID: id}, 0)
					m.addParents(p)
					m[p] = modelEntry{content: id}
				}
			},
			"remove": func(r *rapid.T) {
				p, recursive := path.Draw(r, "path"), rapid.Bool().Draw(r, "recursive")
				kind := m.parent(p)
				if _, there := m[p]; kind == 0 && !there {
					kind = fault.NotFound
				}
				below := m.below(p)
				if kind == 0 && len(below) > 0 && !recursive {
					kind = fault.NotEmpty
				}
				want(&Remove{Path: p, Recursive: recursive}, kind)
				if kind == 0 {
					for _, b := range below {
						delete(m, b)
					}
					delete(m, p)
				}
			},
			"rename": func(r *rapid.T) {
				from, to, overwrite := path.Draw(r, "from"), path.Draw(r, "to"), rapid.Bool().Draw(r, "overwrite")
				e, there := m[from]
				kind := m.parent(from)
				switch {
				case kind != 0:
				case !there:
					kind = fault.NotFound
				case from == to:
				case e.directory && namespace.Within(to, from):
					kind = fault.Invalid
				default:
					if kind = m.parent(to); kind != 0 {
						break
					}
					if target, exists := m[to]; exists {
						switch {
						case e.directory:
							kind = fault.Exists
						case target.directory:
							kind = fault.IsDirectory
						case !overwrite:
							kind = fault.Exists
						}
					}
				}
				want(&Rename{Source: from, Target: to, Overwrite: overwrite}, kind)
				if kind == 0 && from != to {
					for _, b := range m.below(from) {
						m[to+b[len(from):]] = m[b]
						delete(m, b)
					}
					m[to] = e
					delete(m, from)
				}
			},
			"list": func(r *rapid.T) {
				p := "/"
				if rapid.Bool().Draw(r, "deep") {
					p = path.Draw(r, "path")
				}
				if e, there := m[p]; p != "/" && (!there || !e.directory) {
					require.NotNil(t, h.own(&List{Path: p}).Reply.Err)
					return
				}
				var names []string
				for _, b := range m.below(p) {
					if rest := strings.TrimPrefix(b[len(p):], "/"); !strings.Contains(rest, "/") {
						names = append(names, rest)
					}
				}
				slices.Sort(names)
				var got []string
				limit := rapid.Uint32Range(1, 3).Draw(r, "limit")
				for after, more := "", true; more; {
					page := read[ListResult](h, &List{Path: p, After: after, Limit: limit})
					for _, f := range page.Entries {
						got = append(got, f.Name)
						after = f.Name
					}
					more = page.More
				}
				require.Equal(t, names, got)
			},
			"": func(r *rapid.T) {
				files, directories := uint64(0), uint64(1)
				for p, e := range m {
					stat := read[StatResult](h, &Stat{Path: p})
					require.Equal(t, e.directory, stat.Info.Directory)
					if e.directory {
						directories++
						continue
					}
					files++
					require.Equal(t, e.content, stat.Info.FileID)
				}
				sum := read[SummaryResult](h, &Summary{Path: "/"})
				require.Equal(t, files, sum.Files)
				require.Equal(t, directories, sum.Directories)
			},
		})
		h.same()
	})
}
