package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The state diagrams of docs/ARCHITECTURE.md write every state as [name]: all
// states of the code, and no others.
func TestDiagramsNameTheStatesOfTheCode(t *testing.T) {
	root := filepath.Join("..", "..")
	document, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	require.NoError(t, err)
	bracketed := regexp.MustCompile(`\[([a-z]+)\]`)
	names := func(pattern *regexp.Regexp, text string) (all []string) {
		for _, match := range pattern.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(all, match[1]) {
				all = append(all, match[1])
			}
		}
		slices.Sort(all)
		return all
	}
	for _, side := range []struct{ heading, source, pattern string }{
		{"### The writer's side", "client/internal/pipeline/streamstate.go", `stream\w+: +"(\w+)"`},
		{"### The namenode's side", "actor/leases/state.go", `lease\w+: +"(\w+)"`},
		{"### The datanode's side", "internal/chunk/chunk.go", `case \w+:\s+return "(\w+)"`},
	} {
		_, section, found := strings.Cut(string(document), side.heading)
		require.True(t, found, "docs/ARCHITECTURE.md has no %q", side.heading)
		_, diagram, found := strings.Cut(section, "```\n")
		require.True(t, found, "%s has no diagram", side.heading)
		diagram, _, _ = strings.Cut(diagram, "```")
		code, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(side.source)))
		require.NoError(t, err)
		want := names(regexp.MustCompile(side.pattern), string(code))
		require.NotEmpty(t, want, "%s: its states are not found", side.source)
		require.Equal(t, want, names(bracketed, diagram),
			"the diagram under %q in docs/ARCHITECTURE.md, and the states in %s", side.heading, side.source)
	}
}
