package lint

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/daemon/config"
)

// settingRow is a row of the tables of all settings: key, default, meaning.
var settingRow = regexp.MustCompile("^\\| `(\\w+\\.\\w+)` \\| (`[^`]*`|none) \\| (.+) \\|$")

// TestSettingsAreDocumented holds the list of all settings in docs/operations.md
// and daemon/config together: every key with its default, and no other.
func TestSettingsAreDocumented(t *testing.T) {
	tree := load(t, "../..")
	_, list, found := strings.Cut(tree.read("docs/operations.md"), "\n## All settings\n")
	require.True(t, found)
	defaults := map[string]string{}
	for line := range strings.Lines(list) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		row := settingRow.FindStringSubmatch(line)
		require.NotNil(t, row, "not a row of key, default and meaning: %s", line)
		require.NotContains(t, defaults, row[1], "twice")
		defaults[row[1]] = strings.TrimPrefix(strings.Trim(row[2], "`"), "none")
	}
	for _, f := range config.Fields("") {
		documented, ok := defaults[f.Key]
		require.True(t, ok, "%s is not among all settings", f.Key)
		require.Equal(t, f.Default, documented, "default of %s", f.Key)
		delete(defaults, f.Key)
	}
	require.Empty(t, defaults, "these settings do not exist")
}

// TestSettingsInDocumentsExist: a key that a document names is one.
func TestSettingsInDocumentsExist(t *testing.T) {
	keys, sections := map[string]bool{}, map[string]bool{}
	for _, f := range config.Fields("") {
		keys[f.Key], sections[f.Section] = true, true
	}
	tree := load(t, "../..")
	key := regexp.MustCompile("`(\\w+)\\.([a-z_]+)`")
	named := 0
	for _, text := range tree.texts {
		if !strings.HasSuffix(text, ".md") || within(text, "test/lint") {
			continue
		}
		for _, m := range key.FindAllStringSubmatch(tree.read(text), -1) {
			if sections[m[1]] && m[2] != "yaml" && m[2] != "go" {
				named++
				require.True(t, keys[m[1]+"."+m[2]], "%s names %s: there is no such setting", text, m[0])
			}
		}
	}
	require.Greater(t, named, len(keys))
}
