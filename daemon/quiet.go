package daemon

import (
	"context"
	"log/slog"
)

// quietAtEnd is a log handler that passes only errors once closing is closed: while a whole cluster stops, its
// parts miss each other, which is no news.
type quietAtEnd struct {
	slog.Handler
	closing <-chan struct{}
}

// Enabled reports whether a record of this level is wanted now.
func (h quietAtEnd) Enabled(ctx context.Context, level slog.Level) bool {
	select {
	case <-h.closing:
		return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
	default:
		return h.Handler.Enabled(ctx, level)
	}
}

// WithAttrs keeps the gate.
func (h quietAtEnd) WithAttrs(attributes []slog.Attr) slog.Handler {
	return quietAtEnd{h.Handler.WithAttrs(attributes), h.closing}
}

// WithGroup keeps the gate.
func (h quietAtEnd) WithGroup(name string) slog.Handler {
	return quietAtEnd{h.Handler.WithGroup(name), h.closing}
}
