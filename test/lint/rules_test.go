package lint

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// findings are the places where a rule is broken.
type findings []string

func (f *findings) add(format string, arguments ...any) {
	*f = append(*f, fmt.Sprintf(format, arguments...))
}

// rules lists all of them; each is described where it is defined.
func rules() map[string]func(*tree, *findings) {
	return map[string]func(*tree, *findings){
		"import arrows":          importArrows,
		"pure code":              pureCode,
		"package docs":           packageDocs,
		"package names":          packageNames,
		"top level":              topLevel,
		"fuzz corpus":            fuzzCorpus,
		"goroutines are watched": goroutinesAreWatched,
		"generated code":         generatedCode,
		"no hidden state":        noHiddenState,
		"no sleep in tests":      noSleepInTests,
		"room bounds":            roomBounds,
		"own fields":             fieldsStayInTheirRoom,
		"document links":         documentLinks,
		"document names":         documentNames,
		"nothing of one machine": nothingOfOneMachine,
		"nothing large":          nothingLarge,
		"no shadowed builtin":    noShadowedBuiltin,
		"no long-lived letter":   noLongLivedLetter,
		"line length":            lineLength,
		"layer order":            layerOrder,
	}
}

// TestRules holds every rule against the repository.
func TestRules(t *testing.T) {
	tree := load(t, "../..")
	require.FileExists(t, filepath.Join(tree.root, "go.mod"))
	for name, rule := range rules() {
		t.Run(name, func(t *testing.T) {
			var found findings
			rule(tree, &found)
			for _, f := range found {
				t.Error(f)
			}
		})
	}
}

// TestRulesSeeViolations holds the rules against a tree in which each is
// broken: a rule that finds nothing there finds nothing anywhere.
func TestRulesSeeViolations(t *testing.T) {
	planted := map[string][]string{
		"import arrows": {"new arrow actor → disk", "new arrow disk → control/rpc", "imports cmd/ww",
			"unheard has no place"},
		"pure code": {"actor imports os", "actor imports math/rand", "actor calls time.Now", "actor starts a goroutine",
			"dataplane/machine imports net", "dataplane/machine calls time.Now"},
		"package docs": {"package disk has no package comment",
			"begins with \"Not the usual words", "only tests"},
		"package names":          {"disk/util"},
		"top level":              {"unheard"},
		"fuzz corpus":            {"FuzzNothing has no corpus"},
		"goroutines are watched": {"actor: starts goroutines"},
		"generated code":         {"control/controlpb/changed.proto changed", "control/controlpb/new.proto is not in"},
		"no hidden state": {
			"init()", "counter is of type sync.Mutex", "cache is made empty", "later has no value",
			"number should be a constant",
			"assigns to package-level variable table",
		},
		"no sleep in tests": {"time.Sleep", "<-time.After"},
		"room bounds":       {"State has 2 fields", "State has 1 methods"},
		"own fields":        {"selects the field list of Nodes"},
		"document links":    {"missing.md", "#no-such-heading"},
		"document names": {
			"has no section \"## To add a …\"", "the code has no disk.Store.Vanish", "there is no file nowhere/file.go",
			"there is no test TestNobodyWrote",
		},
		"nothing of one machine": {"a path of one machine", "a package registry"},
		"nothing large":          {"too large"},
		"no shadowed builtin":    {"close hides", "len hides", "any hides", "max hides"},
		"no long-lived letter":   {"x lives for 17 lines", "i lives for 11 lines", "k lives for 11 lines"},
		"line length":            {"names/names.go:8: 123 columns", "guide.md:5: 135 columns"},
		"layer order":            {"disk → control/rpc does not lead down", "internal/helper is no leaf"},
	}
	tree := load(t, "testdata/planted")
	tree.fileBytesMax, tree.stateFieldsMax, tree.roomMethodsMax = 100, 1, 0
	for name, rule := range rules() {
		t.Run(name, func(t *testing.T) {
			var found findings
			rule(tree, &found)
			require.NotEmpty(t, planted[name])
			for _, words := range planted[name] {
				require.Contains(t, strings.Join(found, "\n"), words)
			}
		})
	}
}
