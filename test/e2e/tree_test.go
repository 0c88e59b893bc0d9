package e2e

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
)

// TestTree moves a tree of 10,000 small files up and down. With -short it has
// 500.
func TestTree(t *testing.T) {
	count := 10_000
	if testing.Short() || underRace() {
		count = 500
	}
	system := start(t, cluster.Options{})
	source := filepath.Join(t.TempDir(), "tree")
	makeTree(t, source, count)
	mustWW(t, system, "put", "-r", source, "/tree")
	summary, err := system.Client().Summary(t.Context(), "/tree")
	require.NoError(t, err)
	require.EqualValues(t, count, summary.Files)

	target := filepath.Join(t.TempDir(), "tree")
	mustWW(t, system, "get", "-r", "/tree", target)
	sameTree(t, source, target)

	listed := strings.Count(mustWW(t, system, "ls", "-R", "/tree"), "file-")
	require.Equal(t, count, listed)

	// What was stored is there after a restart of the processes that keep only
	// memory, or rebuild from disk.
	require.NoError(t, system.Kill(system.Processes()...))
	require.NoError(t, system.Start(patient(t, cluster.StartTimeout)))
	again := filepath.Join(t.TempDir(), "again")
	mustWW(t, system, "get", "-r", "/tree", again)
	sameTree(t, source, again)

	mustWW(t, system, "rm", "-r", "/tree")
	refused(t, system, call{arguments: []string{"stat", "/tree"}}, exitNotFound, "/tree")
}

// makeTree fills a directory: empty files, files of a few bytes, a few of
// several chunks, and directories that are empty, deep and wide.
func makeTree(t *testing.T, root string, count int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(count)))
	directories := []string{root, filepath.Join(root, "empty"), filepath.Join(root, strings.Repeat("deep/", 30))}
	for i := range 100 {
		directories = append(directories, filepath.Join(root, fmt.Sprintf("d%d", i%10), fmt.Sprintf("e%d", i)))
	}
	for _, d := range directories {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	for i := range count {
		size := random.IntN(4096)
		if i%1000 == 7 {
			size = 2_500_000 + i
		}
		directory := directories[random.IntN(len(directories))]
		if filepath.Base(directory) == "empty" {
			directory = root
		}
		name := filepath.Join(directory, fmt.Sprintf("file-%d", i))
		require.NoError(t, os.WriteFile(name, bytesOf(uint64(i), size), 0o644))
	}
}

// sameTree compares names, kinds and bytes.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	names := func(root string) map[string]bool {
		out := map[string]bool{}
		require.NoError(t, filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, name)
			out[relative] = entry.IsDir()
			return err
		}))
		return out
	}
	wanted := names(want)
	require.Equal(t, wanted, names(got))
	for name, directory := range wanted {
		if directory {
			continue
		}
		a, err := os.ReadFile(filepath.Join(want, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(got, name))
		require.NoError(t, err)
		sameBytes(t, a, b, name)
	}
}
