// Package appender appends records to files for clients that do not want to be the one writer of a file (GFS §3.3,
// "record append"). It runs inside a datanode, as the dataplane.RecordSink of its data server.
//
// For each file that it appends to it holds the file's lease, as a client of the cluster named by
// record.HolderName, and writes through one client.FileWriter: pipeline recovery, the change from chunk to chunk
// and fencing are those of every other writer. Records of all clients are put one after the other, framed
// (internal/record), and flushed in groups: one Flush, or one Sync, for all records that wait.
//
// Goroutines: one per file, from the first client's Open until no client has the file open and its lease is given
// up; and those of the client. Close waits for all of them.
//
// Promise to a client: a record is acknowledged when its frame is flushed (synced, if it asked) on every datanode
// of the pipeline, and its offset is that of the frame. A record that fails may still be in the file, whole: its
// client appends it again, and readers drop the second one. After one record of a session failed no later one of
// that session is written, so the first appearances of a client's records are always in order.
//
// The package does not create files, and knows nothing of sockets.
package appender

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// Options configures an Appender.
type Options struct {
	Namenodes []string // lists host:port of every namenode
	// NodeID and Address are the datanode's, as others know them: a client that asks the wrong datanode is sent here.
	NodeID  string
	Address string
	Limits  Limits
	Logger  *slog.Logger // nil: nothing is logged
	Clock   clock.Clock  // nil: the system's
}

// Appender appends to the files of one datanode's clients. Safe for concurrent use.
type Appender struct {
	cluster cluster
	nodeID  string
	limits  Limits
	logger  *slog.Logger
	clock   clock.Clock

	life     context.Context // ends the writers; it outlasts stopping, so that files can be sealed
	kill     context.CancelFunc
	stopping chan struct{}
	running  sync.WaitGroup // the files' goroutines
	close    sync.Once
	closed   error

	mu struct {
		sync.Mutex
		stopped     bool
		files       map[string]*file // by path; at most limits.FilesMax
		queuedBytes int64            // payload of all records not yet answered; at most limits.QueueBytesMax
		// clean remembers where files that this appender sealed end, at most
		// cleanEndsMax: behind such an end no gap is needed.
		clean map[string]cleanEnd
	}
}

var _ dataplane.RecordSink = (*Appender)(nil)

// Start makes an appender. It connects when the first client opens a file. Error: fault.Invalid.
func Start(options Options) (*Appender, error) {
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	if options.Clock == nil {
		options.Clock = clock.Real{}
	}
	limits, err := options.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	if options.NodeID == "" || options.Address == "" {
		return nil, fault.New(fault.Invalid, "start appender", "node id %q at address %q",
			options.NodeID, options.Address)
	}
	user, err := client.Dial(context.Background(), client.Options{
		Namenodes: options.Namenodes, Name: record.HolderName(options.NodeID, options.Address), Logger: options.Logger,
		Clock: options.Clock,
	})
	if err != nil {
		return nil, err
	}
	return newAppender(realCluster{user}, options, limits), nil
}

func newAppender(c cluster, options Options, limits Limits) *Appender {
	appender := &Appender{cluster: c, nodeID: options.NodeID, limits: limits, logger: options.Logger,
		clock: options.Clock, stopping: make(chan struct{})}
	appender.life, appender.kill = context.WithCancel(context.Background())
	appender.mu.files = make(map[string]*file)
	appender.mu.clean = make(map[string]cleanEnd)
	return appender
}

// Open joins a client to a file and returns once this node holds the file's lease. Errors: *dataplane.RedirectError
// when another datanode appends to it, fault.LeaseHeld when an ordinary writer does, fault.NotFound,
// fault.IsDirectory, fault.Busy, and what the namenode says.
func (a *Appender) Open(ctx context.Context, open dataplane.RecordsOpen) (dataplane.RecordStream, error) {
	// The path may mean another file than the one that is being appended to.
	info, err := a.cluster.stat(ctx, open.Path)
	if err != nil {
		return nil, err
	}
	if info.Directory {
		return nil, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: open.Path}
	}
	f, answer, err := a.join(info)
	if err != nil {
		return nil, err
	}
	joined := &stream{file: f, writer: open.Writer}
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = &fault.Error{Kind: fault.Unavailable, Op: op, Path: open.Path,
			Reason: "the file's lease is not there yet", Err: ctx.Err()}
	}
	if err != nil {
		joined.Close()
		return nil, err
	}
	return joined, nil
}

// join finds or makes the file, counts one more stream, and asks for its lease.
func (a *Appender) join(info client.FileInfo) (*file, <-chan error, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.stopped {
		return nil, nil, a.stoppingError(info.Path)
	}
	target := a.mu.files[info.Path]
	if target == nil {
		if len(a.mu.files) >= a.limits.FilesMax {
			return nil, nil, &fault.Error{Kind: fault.Busy, Op: op, Path: info.Path,
				Reason: "this datanode appends to too many files"}
		}
		target = &file{appender: a, path: info.Path, wake: make(chan struct{}, 1)}
		a.mu.files[info.Path] = target
		a.running.Go(target.run)
	}
	target.streams++
	answer := make(chan error, 1)
	target.joining = append(target.joining, join{info.FileID, answer})
	target.wakeUp()
	return target, answer, nil
}

func (a *Appender) stoppingError(path string) error {
	return &fault.Error{Kind: fault.Unavailable, Op: op, Path: path,
		Reason: "this datanode is stopping", Node: a.nodeID}
}

// Close refuses new records, ends those under way, seals the files and gives their leases up. When ctx ends first
// it lets the files go as they are: what was acknowledged is safe, and another appender takes over.
func (a *Appender) Close(ctx context.Context) error {
	a.close.Do(func() {
		a.mu.Lock()
		a.mu.stopped = true
		a.mu.Unlock()
		close(a.stopping)
		stop := context.AfterFunc(ctx, a.kill)
		a.running.Wait()
		stop()
		a.kill()
		a.closed = errors.Join(a.closed, a.cluster.close())
	})
	return a.closed
}

// op is the operation in errors.
const op = "append record"
