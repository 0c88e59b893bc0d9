package config

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

// FuzzFile: no text of a file makes Load panic, or accept a key that no
// setting has.
func FuzzFile(f *testing.F) {
	for _, text := range []string{
		"", "# nothing\n", "mini:\n  dir: /x\n  chunk_size: 64KiB\n", "datanode: {disks: [a, b]}", "client:\n",
		"log: {level: [}",
		"a: &x {b: *x}", "mini: !!binary aGVsbG8=\n", "? [a]\n: b\n", "mini: {<<: {dir: x}}",
		"---\nmini: {}\n---\nlog: {}\n", "1: 2",
	} {
		f.Add([]byte(text))
	}
	fields := map[string]Field{}
	for _, field := range Fields("") {
		fields[field.Key] = field
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		values, origin := map[string]any{}, map[string]string{}
		if err := loadText("f", text, values, origin); err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		for key := range values {
			require.Contains(t, fields, key)
			require.Contains(t, origin, key)
		}
	})
}

// FuzzValues: sizes and durations that parse come back from their text.
func FuzzValues(f *testing.F) {
	for _, text := range []string{"64MiB", "0", "1.5GiB", "1e3", "-1", "10s", "1m30s", "99999999999TiB", ".",
		"1.0000000000000001KiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if size, err := ParseSize(text); err == nil {
			again, err := ParseSize(size.String())
			require.NoError(t, err)
			require.Equal(t, size, again)
			require.GreaterOrEqual(t, size, Size(0))
		}
		if d, err := ParseDuration(text); err == nil {
			again, err := ParseDuration(d.String())
			require.NoError(t, err)
			require.Equal(t, d, again)
		}
	})
}
