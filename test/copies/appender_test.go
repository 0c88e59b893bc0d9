package copies

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// appender writes one file after the other: it appends, flushes, syncs, closes, cuts, and leaves some open for a
// lease recovery.
type appender struct {
	judge     *judge
	random    *rand.Rand
	directory string
	idle      time.Duration // most time between two steps; with it, files stay open for long
	serial    int
	contents  map[string][]byte // acknowledged bytes of all files

	path    string // of the present file; "" for none
	writer  *client.FileWriter
	content []byte // everything ever passed to Write that may be in the file
	acked   int    // bytes of it that are acknowledged
	closed  bool
}

func (a *appender) step(ctx context.Context, user *client.Client) error {
	if a.idle > 0 {
		pause(ctx, time.Duration(a.random.Int64N(int64(a.idle))))
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	switch {
	case a.path == "" || a.closed && len(a.content) > fileBytesMax:
		return a.create(user)
	case a.writer == nil && !a.closed:
		return a.recover(ctx, user)
	case a.writer == nil:
		if a.random.IntN(3) == 0 && a.acked > 0 {
			return a.truncate(ctx, user)
		}
		return a.reopen(user)
	}
	choice := a.random.IntN(20)
	if a.idle > 0 && a.random.IntN(4) > 0 {
		choice = 20
	}
	switch {
	case choice < 5 || len(a.content) > fileBytesMax:
		return a.close(ctx)
	case choice < 6: // the writer's process ends
		_ = a.writer.Abort()
		a.writer = nil
		return nil
	case choice < 7:
		return a.pipelined(ctx)
	}
	if err := a.write(); err != nil {
		return err
	}
	begun := time.Now()
	if a.random.IntN(2) == 0 {
		return a.wrote(ctx, "flush", begun, a.writer.Flush(ctx))
	}
	return a.wrote(ctx, "sync", begun, a.writer.Sync(ctx))
}

// The writers live longer than one step: their context is that of no call.

func (a *appender) create(user *client.Client) error {
	a.serial++
	path := fmt.Sprintf("%s/%d", a.directory, a.serial)
	writer, err := user.Create(context.Background(), path, client.CreateOptions{Parents: true,
		ChunkSize: chunkSize(a.random)})
	if err != nil {
		return err
	}
	a.path, a.writer, a.content, a.acked, a.closed = path, writer, nil, 0, false
	return nil
}

func (a *appender) reopen(user *client.Client) error {
	a.closed = false // also if it fails: somebody holds the lease, or nobody
	writer, err := user.Append(context.Background(), a.path, client.AppendOptions{})
	if err == nil {
		a.writer = writer
	}
	return err
}

func (a *appender) write() error {
	size := 1 + a.random.IntN(24<<10)
	if a.random.IntN(6) == 0 {
		size = 1 + a.random.IntN(200<<10)
	}
	data := noise(a.random, size)
	a.content = append(a.content, data...)
	_, err := a.writer.Write(data)
	return a.failed(err)
}

// failed leaves a writer that can do nothing more.
func (a *appender) failed(err error) error {
	if err != nil && a.writer != nil {
		_ = a.writer.Abort()
		a.writer = nil
	}
	return err
}

// wrote has the acknowledgement of everything written judged, unless the call failed.
func (a *appender) wrote(ctx context.Context, what string, begun time.Time, err error) error {
	if err != nil {
		return a.failed(err)
	}
	return a.acknowledge(ctx, what, begun, len(a.content))
}

// acknowledge has the judge look at the first bytes of the file.
func (a *appender) acknowledge(ctx context.Context, what string, begun time.Time, length int) error {
	given := acknowledgement{what: what, path: a.path, pieces: []piece{{0, a.content[:length]}}, from: int64(a.acked),
		length: -1, begun: begun}
	if a.closed {
		given.length = int64(length)
	}
	if what == "truncate" {
		given.from = int64(length) - 1 // its chunk is what was cut
	}
	a.acked = length
	a.contents[a.path] = a.content[:length:length]
	err := a.judge.accept(ctx, given)
	if err != nil { // what else is wrong with this file follows from it
		if a.writer != nil {
			_ = a.writer.Abort()
		}
		a.path, a.writer = "", nil
	}
	return err
}

func (a *appender) close(ctx context.Context) error {
	begun := time.Now()
	err := a.writer.Close()
	a.writer, a.closed = nil, err == nil
	if err != nil {
		return err
	}
	return a.acknowledge(ctx, "close", begun, len(a.content))
}

// pipelined has several syncs under way.
func (a *appender) pipelined(ctx context.Context) error {
	var pending []client.Pending
	var lengths []int
	begun := time.Now()
	for range 4 {
		if err := a.write(); err != nil {
			return err
		}
		begin := a.writer.BeginFlush
		if a.random.IntN(2) == 0 {
			begin = a.writer.BeginSync
		}
		p, err := begin(ctx)
		if err != nil {
			return a.failed(err)
		}
		pending, lengths = append(pending, p), append(lengths, len(a.content))
	}
	for i, p := range pending {
		if err := p.Wait(ctx); err != nil {
			return a.failed(err)
		}
		if err := a.acknowledge(ctx, "begun flush or sync", begun, lengths[i]); err != nil {
			return err
		}
	}
	return nil
}

// recover has the namenode close the file: what was acknowledged is there, and perhaps more of what was written.
func (a *appender) recover(ctx context.Context, user *client.Client) error {
	begun := time.Now()
	err := cluster.Poll(ctx, func() error {
		closed, err := user.RecoverLease(ctx, a.path)
		if err == nil && !closed {
			err = errors.New("the lease is still being recovered")
		}
		return err
	})
	if err != nil {
		return err
	}
	info, err := user.Stat(ctx, a.path)
	if errors.Is(err, fault.NotFound) {
		path := a.path
		a.path = ""
		return lost(path, "the file is gone, %d bytes were acknowledged", a.acked)
	}
	if err != nil {
		return err
	}
	length := int(info.Length)
	if length < a.acked || length > len(a.content) {
		path := a.path
		a.path = ""
		return lost(path, "closed by recovery at %d bytes; %d were acknowledged, %d written", length, a.acked,
			len(a.content))
	}
	a.content, a.closed = a.content[:length], true
	return a.acknowledge(ctx, "recovery", begun, length)
}

func (a *appender) truncate(ctx context.Context, user *client.Client) error {
	length := a.random.IntN(a.acked + 1)
	begun := time.Now()
	path := a.path
	// Until it is acknowledged the file has one length or the other. Nothing else is done to it if that stays so.
	a.path, a.contents[path] = "", a.content[:length:length]
	if _, err := user.Truncate(ctx, path, int64(length)); err != nil {
		return err
	}
	// What is written next is other than what was cut off.
	a.path, a.content = path, append([]byte(nil), a.content[:length]...)
	return a.acknowledge(ctx, "truncate", begun, length)
}

func (a *appender) leave(ctx context.Context) error {
	if a.writer == nil {
		return nil
	}
	return a.close(ctx)
}

func (a *appender) verify(ctx context.Context, user *client.Client) error {
	return verifyAll(ctx, user, a.contents)
}
