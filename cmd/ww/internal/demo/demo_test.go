package demo

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGeneratedFilesDependOnTheirSeed(t *testing.T) {
	directory := t.TempDir()
	path := func(name string) string { return filepath.Join(directory, name) }
	require.NoError(t, generate(path("a"), 1, 3<<20+5))
	require.NoError(t, generate(path("b"), 1, 3<<20+5))
	require.NoError(t, generate(path("c"), 2, 3<<20+5))
	require.NoError(t, same(path("a"), path("b")))
	require.ErrorIs(t, same(path("a"), path("c")), fault.CorruptData)
}

// TestADifferenceIsSeen plants the smallest differences that there are.
func TestADifferenceIsSeen(t *testing.T) {
	directory := t.TempDir()
	path := func(name string) string { return filepath.Join(directory, name) }
	content := bytes.Repeat([]byte{7}, 2<<20)
	require.NoError(t, os.WriteFile(path("want"), content, 0o644))
	for name, change := range map[string]func([]byte) []byte{
		"the last byte":        func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"a byte in the middle": func(b []byte) []byte { b[1<<20] ^= 1; return b },
		"one byte less":        func(b []byte) []byte { return b[:len(b)-1] },
		"one byte more":        func(b []byte) []byte { return append(b, 7) },
		"nothing":              func([]byte) []byte { return nil },
	} {
		require.NoError(t, os.WriteFile(path("got"), change(bytes.Clone(content)), 0o644))
		require.ErrorIs(t, same(path("want"), path("got")), fault.CorruptData, name)
	}
	require.NoError(t, os.WriteFile(path("got"), content, 0o644))
	require.NoError(t, same(path("want"), path("got")))
}

func TestTreesThatDiffer(t *testing.T) {
	tree := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(tree, "d", "empty"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(tree, "d", "f"), []byte("12345"), 0o644))
	want, err := entries(tree)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"": -1, "d": -1, "d/empty": -1, "d/f": 5}, want)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(tree, link))
	linked, err := entries(link)
	require.NoError(t, err)
	require.Equal(t, want, linked)
	require.NoError(t, sameEntries(want, linked))
	for name, got := range map[string]map[string]int64{
		"missing": {"": -1, "d": -1, "d/f": 5},
		"added":   {"": -1, "d": -1, "d/empty": -1, "d/f": 5, "x": 0},
		"size":    {"": -1, "d": -1, "d/empty": -1, "d/f": 4},
		"kind":    {"": -1, "d": -1, "d/empty": 0, "d/f": 5},
	} {
		require.ErrorIs(t, sameEntries(want, got), fault.CorruptData, name)
	}
	total, err := measure(tree)
	require.NoError(t, err)
	require.Equal(t, amount{files: 1, bytes: 5}, total)
	_, err = measure(filepath.Join(tree, "none"))
	require.Error(t, err)
}
