package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/daemon/config"
)

// TestSampleConfiguration: what deploy/ offers is accepted.
func TestSampleConfiguration(t *testing.T) {
	loaded, err := config.Load(config.Source{File: "../../deploy/ww.yaml"})
	require.NoError(t, err)
	require.Len(t, loaded.Datanode.Disks, 2)
}

// TestReadmeExitCodes: the table of the README and that of --help are the same.
func TestReadmeExitCodes(t *testing.T) {
	help, err := exec.Command(program, "--help").Output()
	require.NoError(t, err)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "## Exit codes of ww")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var documented, told []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(section, -1) {
		documented = append(documented, m[1])
	}
	_, table, found := strings.Cut(string(help), "Exit codes:")
	require.True(t, found)
	for _, m := range regexp.MustCompile(`(?m)^  (\d+) `).FindAllStringSubmatch(table, -1) {
		told = append(told, m[1])
	}
	require.NotEmpty(t, told)
	require.Equal(t, told, documented)
}

// TestReadmeVerbs: every verb that the README's shell blocks use exists.
func TestReadmeVerbs(t *testing.T) {
	skipUnderRace(t)
	seen := map[string]bool{}
	for _, document := range []string{"../../README.md", "../../docs/operations.md"} {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			for _, m := range regexp.MustCompile(`(?m)(?:^|\| )(?:bin/)?ww ([a-z]+)`).FindAllStringSubmatch(block[1],
				-1) {
				if !seen[m[1]] {
					out, err := exec.Command(program, m[1], "--help").CombinedOutput()
					require.NoError(t, err, "%s uses ww %s: %s", document, m[1], out)
				}
				seen[m[1]] = true
			}
		}
	}
}
