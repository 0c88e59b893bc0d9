package logserver

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hclogTo makes a logger for the raft libraries that writes to ours. Their messages about elections and snapshots
// become debug messages, because this package logs what an operator needs to know of them. Their warnings get the
// level warnAs: a server without peers times out and elects itself at every start, which needs no warning.
func hclogTo(logger *slog.Logger, name string, warnAs slog.Level) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: name, Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(hclogSink{logger: logger, warnAs: warnAs})
	return l
}

// hclogSink implements hclog.SinkAdapter.
type hclogSink struct {
	logger *slog.Logger
	warnAs slog.Level
}

// Accept implements hclog.SinkAdapter.
func (s hclogSink) Accept(name string, level hclog.Level, message string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn:
		to = s.warnAs
	case hclog.Error:
		to = slog.LevelError
	}
	ctx := context.Background()
	if !s.logger.Enabled(ctx, to) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	attrs = append(attrs, "part", name)
	for i := 0; i+1 < len(args); i += 2 {
		value := args[i+1]
		if f, ok := value.(hclog.Format); ok && len(f) > 0 {
			value = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		attrs = append(attrs, fmt.Sprint(args[i]), value)
	}
	s.logger.Log(ctx, to, message, attrs...)
}
