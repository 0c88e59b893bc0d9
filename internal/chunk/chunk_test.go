package chunk

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIDInLogLinesIsText(t *testing.T) {
	id, err := ParseID("01a20a39-168a-7eb1-bb93-01f0dca57103")
	require.NoError(t, err)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("m", "chunk", id)
		require.Contains(t, b.String(), id.String(), name)
	}
}
