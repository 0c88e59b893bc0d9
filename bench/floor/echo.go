package floor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// echoBytes is the size of the message that goes through the chain.
const echoBytes = 100

// pipelineEcho sends 100 bytes through the chain of hops and waits for the ack, repeatedly: what one flushed append
// costs at least. The hops are goroutines: the few threads of this process take turns and hardly ever sleep.
func pipelineEcho(ctx context.Context, options Options) (Result, error) {
	r, err := echoThrough(ctx, options, func(_ context.Context, c net.Conn) (io.ReadWriteCloser, error) {
		return c, nil
	})
	r.How = fmt.Sprintf("100 bytes through %d hops and the ack back, one at a time, no disk", options.Hops)
	return r, err
}

// pipelineEchoThreads is pipelineEcho with a thread for each hop, which sleeps in the kernel until its bytes are
// there, as hops in processes of their own do. The difference is what waking threads costs here, with what Go's
// scheduler adds to a system call that sleeps; the datanodes' loops pay both as well.
func pipelineEchoThreads(ctx context.Context, options Options) (Result, error) {
	r, err := echoThrough(ctx, options, onThread)
	r.How = fmt.Sprintf("100 bytes through %d hops and the ack back, one at a time, a thread for each hop",
		options.Hops)
	return r, err
}

// wrapper makes of a connection what the goroutine of a hop reads and writes.
type wrapper func(context.Context, net.Conn) (io.ReadWriteCloser, error)

// echoThrough runs the chain.
func echoThrough(ctx context.Context, options Options, wrap wrapper) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also of the hops that stand when a later one cannot
	group, ctx := errgroup.WithContext(ctx)
	var next net.Conn
	for range options.Hops {
		downstream := next
		upstream, err := serveOne(ctx, group, func(c net.Conn) error {
			up, err := wrap(ctx, c)
			if err != nil {
				return err
			}
			defer up.Close()
			if downstream == nil {
				return passOn(up, nil)
			}
			down, err := wrap(ctx, downstream)
			if err != nil {
				return err
			}
			defer down.Close() // the end of one connection ends the chain
			return passOn(up, down)
		})
		if err != nil {
			return Result{}, err
		}
		next = upstream
	}
	message, ack := pattern(echoBytes), make([]byte, 1)
	count, duration := int64(0), time.Duration(0)
	group.Go(func() error {
		connection, err := wrap(ctx, next)
		if err != nil {
			return err
		}
		defer connection.Close()
		for start := time.Now(); duration < options.CountDuration; duration = time.Since(start) {
			if _, err := connection.Write(message); err != nil {
				return err
			}
			if _, err := io.ReadFull(connection, ack); err != nil {
				return err
			}
			count++
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	return Result{Count: count, Duration: duration}, nil
}

// passOn is one hop; it ends with its upstream connection. The last hop has no downstream.
func passOn(up, down io.ReadWriter) error {
	message := make([]byte, echoBytes)
	for {
		if _, err := io.ReadFull(up, message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if down != nil {
			if _, err := down.Write(message); err != nil {
				return err
			}
			if _, err := io.ReadFull(down, message[:1]); err != nil {
				return err
			}
		}
		if _, err := up.Write(message[:1]); err != nil {
			return err
		}
	}
}

// blocking is a socket that Go's poller does not know: reading waits in the kernel, with the thread.
type blocking struct {
	*os.File
	stop    func() bool   // the watch of the context
	stopped chan struct{} // closed when that has done its work
}

// onThread binds the calling goroutine to its thread, and takes c over from Go's
// poller. The end of ctx ends what waits on it.
func onThread(ctx context.Context, c net.Conn) (io.ReadWriteCloser, error) {
	defer c.Close()
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errors.New("not a TCP connection")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	own := 0
	var failed error
	if err := raw.Control(func(descriptor uintptr) {
		own, failed = unix.FcntlInt(descriptor, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	if err := unix.SetNonblock(own, false); err != nil {
		return nil, errors.Join(err, unix.Close(own))
	}
	chain := &blocking{stopped: make(chan struct{})}
	chain.File = os.NewFile(uintptr(own), "hop") // it blocks, and so does the file
	chain.stop = context.AfterFunc(ctx, func() {
		defer close(chain.stopped)
		_ = unix.Shutdown(own, unix.SHUT_RDWR) // fails only for a peer that is gone
	})
	runtime.LockOSThread() // until the goroutine ends
	return chain, nil
}

// Close waits for a shutdown by the context: later, the descriptor's number may be somebody else's.
func (b *blocking) Close() error {
	if !b.stop() {
		<-b.stopped
	}
	return b.File.Close()
}
