package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon"
	"github.com/whispering-woods/ww/daemon/config"
)

// app is one run of ww, or one session of its prompt. It is used by one goroutine.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	// interrupt returns a context that ends at the first signal to stop.
	interrupt func(context.Context) (context.Context, context.CancelFunc)

	shell     bool        // inside the prompt: remote paths may be relative
	directory string      // the prompt's remote directory
	base      globalFlags // those that the prompt was started with
	release   func()      // restores the default handling of signals early; may be called twice

	client *client.Client // nil until a verb needs it
	global globalFlags    // of the command that runs
}

// globalFlags are those that every verb takes.
type globalFlags struct {
	config string
	values map[string]string // configuration key → text of a flag that was given
	json   bool
	quiet  bool
}

// run executes one command line and returns the exit code. Errors are already on stderr.
func (a *app) run(args []string) int {
	ctx, stop := a.interrupt(context.Background())
	a.release = sync.OnceFunc(stop)
	defer a.release()
	return a.execute(ctx, args)
}

// execute is run below an existing context.
func (a *app) execute(ctx context.Context, args []string) int {
	a.global = a.base
	a.global.values = maps.Clone(a.base.values)
	if a.global.values == nil {
		a.global.values = map[string]string{}
	}
	a.global.json = a.global.json || slices.Contains(args, "--json") // also for an error in the flags
	if a.client != nil {
		_ = a.client.SetBandwidth(0) // a limit holds for one verb of the prompt
	}
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %w", context.Canceled, err) // whatever broke, it broke because of the signal
	}
	return a.report(verbName(cmd), err)
}

// verbName is the command without the program: "put", "admin report".
func verbName(cmd *cobra.Command) string {
	_, verb, _ := strings.Cut(cmd.CommandPath(), " ")
	return verb
}

// close closes the client. Call it once, at the end.
func (a *app) close() {
	if a.client != nil {
		_ = a.client.Close() // nothing was left to be written
		a.client = nil
	}
}

// load reads the configuration under the flags of the running command.
func (a *app) load() (config.Loaded, error) {
	return config.Load(config.Source{File: cmp.Or(a.global.config, a.getenv("WW_CONFIG")), Environ: a.environ,
		Flags: a.global.values})
}

func (a *app) getenv(name string) string {
	value := ""
	for _, entry := range a.environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}

// connect returns the run's client.
func (a *app) connect(ctx context.Context) (*client.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	loaded, err := a.load()
	if err != nil {
		return nil, err
	}
	options, err := daemon.ClientOptions(loaded.Client)
	if err != nil {
		return nil, err
	}
	if loaded.Origin["log.level"] == "" {
		loaded.Log.Level = "warn" // a verb speaks up only when something is wrong
		if a.global.quiet {
			loaded.Log.Level = "error"
		}
	}
	if loaded.Log.Format == "auto" && !a.global.json {
		loaded.Log.Format = "text" // it stands among messages for people
	}
	if options.Logger, err = a.logger(loaded.Log); err != nil {
		return nil, err
	}
	a.client, err = client.Dial(ctx, options)
	return a.client, err
}

// asking makes a verb whose results out takes: body has a connection, and what it wrote is shown also after an error.
func (a *app) asking(body func(ctx context.Context, woods *client.Client, out *printer, args []string) error) func(
	*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		woods, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		out := a.printer()
		return out.done(body(cmd.Context(), woods, out, args))
	}
}

// askingOf is asking for a verb of one path of the cluster.
func (a *app) askingOf(body pathBody) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		path, err := a.remote(args[0])
		if err != nil {
			return err
		}
		return a.asking(func(ctx context.Context, woods *client.Client, out *printer, _ []string) error {
			return body(ctx, woods, out, path)
		})(cmd, args)
	}
}

// clusterStatus connects and asks for the state of the cluster.
func (a *app) clusterStatus(ctx context.Context) (client.ClusterStatus, error) {
	woods, err := a.connect(ctx)
	if err != nil {
		return client.ClusterStatus{}, err
	}
	return woods.ClusterStatus(ctx)
}

// logger writes to stderr: text for a person, JSON for a collector.
func (a *app) logger(l config.Log) (*slog.Logger, error) {
	return daemon.NewLogger(l, a.stderr, isTerminal(a.stderr) && !a.global.json)
}

// isTerminal reports whether a stream is a person's screen or keyboard.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
