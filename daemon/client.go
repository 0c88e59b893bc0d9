package daemon

import (
	"io"
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// firstContactMax bounds how long a program looks for any namenode at all.
const firstContactMax = 5 * time.Second

// ClientOptions are those of a program's client, as far as its section says.
func ClientOptions(c config.Client) (client.Options, error) {
	if err := c.Validate(); err != nil {
		return client.Options{}, err
	}
	timeout := time.Duration(c.Timeout)
	retry, err := client.RetryByName(client.RetryExponential, client.RetryLimits{Elapsed: timeout})
	return client.Options{
		Namenodes: c.Namenodes, Retry: retry, FirstContact: min(timeout, firstContactMax),
		ParallelChunks: c.ParallelChunks, PacketBytes: int(c.PacketSize), WindowBytes: int64(c.Window),
	}, err
}

// NewLogger makes the logger of a process, which writes to out; terminal says whether a person reads it there.
func NewLogger(l config.Log, out io.Writer, terminal bool) (*slog.Logger, error) {
	o, err := newLogOptions(l, terminal)
	if err != nil {
		return nil, err
	}
	if o.text {
		return slog.New(slog.NewTextHandler(out, &o.handler)), nil
	}
	return slog.New(slog.NewJSONHandler(out, &o.handler)), nil
}

// logOptions are those of a process's own log.
type logOptions struct {
	text    bool // else JSON
	handler slog.HandlerOptions
}

func newLogOptions(l config.Log, terminal bool) (logOptions, error) {
	if err := l.Validate(); err != nil {
		return logOptions{}, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return logOptions{}, fault.New(fault.Invalid, "config", "log.level: %v", err)
	}
	return logOptions{
		text:    l.Format == "text" || l.Format == "auto" && terminal,
		handler: slog.HandlerOptions{Level: level},
	}, nil
}
