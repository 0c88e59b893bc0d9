package walcheck

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGoldenMark(t *testing.T) {
	golden := mark{counter: 9, index: 1234, clean: true}
	requireGolden(t, "mark_v1", golden.encode())
	back, ok := decodeMark(golden.encode())
	require.True(t, ok)
	require.Equal(t, golden, back)
}

// requireGolden compares bytes with the golden ones of a format.
func requireGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "golden", name+".hex"))
	require.NoError(t, err)
	raw, err := hex.DecodeString(string(bytes.Join(bytes.Fields(want), nil)))
	require.NoError(t, err)
	require.Equal(t, raw, got, "%s: the format on disk has changed; got %x", name, got)
}

func FuzzDecodeMark(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := decodeMark(b); ok {
			require.Equal(t, b[:markUsedBytes], m.encode()[:markUsedBytes])
		}
	})
}
