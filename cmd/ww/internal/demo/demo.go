// Package demo shows Whispering Woods to a newcomer: it runs ww as a person
// would, in processes of its own, and checks every byte that comes back.
//
// Run starts one child process for the cluster and one for each verb, all of them from the ww that is given, works
// below a temporary directory that it removes, and ends its children. The package keeps nothing.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	// Datanodes of the demo's cluster.
	datanodes = 3
	// appendBytes is what is added to the big file.
	appendBytes = 10<<20 + 17
	// seed of the big file; the appended bytes use the next one.
	seed = 20261123
	// StepTimeout bounds one verb.
	stepTimeout = 3 * time.Minute
	// startTimeout bounds a start of the cluster.
	startTimeout = 30 * time.Second
)

// Options of a demo.
type Options struct {
	Program   string    // the ww to show
	Tree      string    // a local directory tree to store
	FileBytes int64     // size of the generated file
	Directory string    // where the temporary directory is made; "": the system's
	Output    io.Writer // gets at most 25 lines
}

// show is one running demo.
type show struct {
	o         Options
	directory string
	cluster   *cluster.Process // nil before its first start
}

// Run runs the demo. Any difference between what went in and what came out is an error of kind fault.CorruptData.
func Run(ctx context.Context, options Options) (err error) {
	directory, err := os.MkdirTemp(options.Directory, "ww-demo-")
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Err: err}
	}
	scene := &show{o: options, directory: directory}
	defer func() {
		if scene.cluster != nil {
			_ = scene.cluster.Kill() // it may be gone already
		}
		if e := os.RemoveAll(directory); err == nil && e != nil {
			err = &fault.Error{Kind: fault.Disk, Op: "demo", Path: directory, Err: e}
		}
	}()
	if err := scene.checkSpace(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		scene.start, scene.storeTree, scene.storeFile, scene.list, scene.fetchBack, scene.append, scene.restart,
		scene.fetchAgain, scene.remove, scene.stop,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	scene.say("")
	scene.say("Everything came back as it went in. To go on:")
	scene.say("  bin/ww mini --dir /tmp/woods                  a cluster of your own, until Ctrl-C")
	scene.say("  export WW_CONFIG=/tmp/woods/client.yaml       in another terminal")
	scene.say("  bin/ww put -r docs /docs && bin/ww ls -l /docs && bin/ww shell")
	scene.say("  bin/ww --help                                 all verbs; README.md tells more")
	return nil
}

func (s *show) say(format string, args ...any) { fmt.Fprintf(s.o.Output, format+"\n", args...) }

// report prints one line with a time and, for bytes, a speed.
func (s *show) report(took time.Duration, bytes int64, format string, args ...any) {
	speed := ""
	if bytes > 0 {
		speed = fmt.Sprintf("  %s/s", humanize.IBytes(uint64(float64(bytes)/took.Seconds())))
	}
	s.say("%6.2fs  %s%s", took.Seconds(), fmt.Sprintf(format, args...), speed)
}

// path names something in the temporary directory.
func (s *show) path(name string) string { return filepath.Join(s.directory, name) }

// checkSpace refuses a disk that three copies and the fetched ones do not fit on.
func (s *show) checkSpace() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.directory, &fs); err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Path: s.directory, Err: err}
	}
	tree, err := measure(s.o.Tree)
	if err != nil {
		return err
	}
	need := (datanodes+2)*(tree.bytes+s.o.FileBytes+appendBytes) + tree.files*datanodes*8192 + 512<<20
	if free := int64(fs.Bavail) * fs.Bsize; free < need {
		e := fault.New(fault.NoSpace, "demo", "needs %s, %s are free", humanize.IBytes(uint64(need)),
			humanize.IBytes(uint64(free)))
		e.Path, e.Hint = s.directory, "set TMPDIR to a larger disk"
		return e
	}
	return nil
}

// timed runs ww and says how long it took.
func (s *show) timed(ctx context.Context, args ...string) (string, time.Duration, error) {
	begin := time.Now()
	output, err := s.ww(ctx, args...)
	return output, time.Since(begin), err
}

func (s *show) start(ctx context.Context) error {
	begin := time.Now()
	if err := s.run(ctx); err != nil {
		return err
	}
	s.report(time.Since(begin), 0, "started a cluster: 1 log server, 1 namenode, %d datanodes in one process",
		datanodes)
	return nil
}

func (s *show) storeTree(ctx context.Context) error {
	tree, err := measure(s.o.Tree)
	if err != nil {
		return err
	}
	_, took, err := s.timed(ctx, "put", "-r", s.o.Tree, "/tree")
	if err != nil {
		return err
	}
	s.report(took, tree.bytes, "stored %s: %s files, %s, %d copies each", s.o.Tree, humanize.Comma(tree.files),
		humanize.IBytes(uint64(tree.bytes)), datanodes)
	return nil
}

func (s *show) storeFile(ctx context.Context) error {
	if err := generate(s.path("big"), seed, s.o.FileBytes); err != nil {
		return err
	}
	_, took, err := s.timed(ctx, "put", s.path("big"), "/big")
	if err != nil {
		return err
	}
	s.report(took, s.o.FileBytes, "stored a file of %s, %d copies, synced to disk",
		humanize.IBytes(uint64(s.o.FileBytes)), datanodes)
	return nil
}

func (s *show) list(ctx context.Context) error {
	begin := time.Now()
	if err := s.sameNames(ctx, "/tree"); err != nil {
		return err
	}
	s.report(time.Since(begin), 0, "listed the tree: the same names, kinds and sizes")
	return nil
}

// fetchBack fetches tree and file and compares them with their sources.
func (s *show) fetchBack(ctx context.Context) error {
	tree, err := s.fetchTree(ctx)
	if err != nil {
		return err
	}
	s.report(tree.took, tree.bytes, "fetched the tree back: every byte of its %s files is the same",
		humanize.Comma(tree.files))
	took, err := s.fetchFile(ctx)
	if err != nil {
		return err
	}
	s.report(took, s.o.FileBytes, "fetched the file back: the same bytes")
	return nil
}

func (s *show) append(ctx context.Context) error {
	more := s.path("more")
	if err := generate(more, seed+1, appendBytes); err != nil {
		return err
	}
	_, took, err := s.timed(ctx, "append", more, "/big")
	if err != nil {
		return err
	}
	s.report(took, 0, "appended %s to it", humanize.IBytes(appendBytes))
	return join(s.path("big"), more)
}

func (s *show) restart(ctx context.Context) error {
	begin := time.Now()
	if err := s.failed(s.cluster.Stop()); err != nil {
		return err
	}
	stopped := time.Since(begin)
	begin = time.Now()
	if err := s.run(ctx); err != nil {
		return err
	}
	s.report(stopped+time.Since(begin), 0, "stopped the cluster (%.2fs) and started it again (%.2fs)",
		stopped.Seconds(), time.Since(begin).Seconds())
	return nil
}

func (s *show) fetchAgain(ctx context.Context) error {
	tree, err := s.fetchTree(ctx)
	if err != nil {
		return err
	}
	took, err := s.fetchFile(ctx)
	if err != nil {
		return err
	}
	s.report(tree.took+took, tree.bytes+s.o.FileBytes+appendBytes,
		"fetched all again: the same bytes, appended ones included")
	return nil
}

func (s *show) remove(ctx context.Context) error {
	_, took, err := s.timed(ctx, "rm", "-r", "/tree", "/big")
	if err != nil {
		return err
	}
	left, err := s.ww(ctx, "ls", "/")
	if err != nil {
		return err
	}
	if left != "" {
		return fault.New(fault.CorruptData, "demo", "after deleting everything ls still shows %q", left)
	}
	s.report(took, 0, "deleted all of it")
	return nil
}

func (s *show) stop(context.Context) error {
	begin := time.Now()
	if err := s.failed(s.cluster.Stop()); err != nil {
		return err
	}
	s.report(time.Since(begin), 0, "stopped the cluster")
	return nil
}
