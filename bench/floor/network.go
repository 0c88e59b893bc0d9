package floor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const checksumBlockBytes = 64 << 10

// serveOne listens on loopback and passes the first connection to serve. The group ends when both ends have ended.
func serveOne(ctx context.Context, group *errgroup.Group, serve func(net.Conn) error) (net.Conn, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	group.Go(func() error {
		defer listener.Close()
		c, err := listener.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
		return serve(c)
	})
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		listener.Close()
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	return c, nil
}

// loopback sends the bytes over one TCP connection to a reader that drops them.
func loopback(ctx context.Context, options Options) (Result, error) {
	group, ctx := errgroup.WithContext(ctx)
	connection, err := serveOne(ctx, group, func(connection net.Conn) error {
		buffer := make([]byte, packetBytes)
		for got := int64(0); got < options.SizeBytes; {
			n, err := connection.Read(buffer)
			if err != nil {
				return err
			}
			got += int64(n)
		}
		_, err := connection.Write([]byte{1})
		return err
	})
	if err != nil {
		return Result{}, err
	}
	defer connection.Close()
	start := time.Now()
	group.Go(func() error {
		buffer := pattern(packetBytes)
		for sent := int64(0); sent < options.SizeBytes; sent += int64(len(buffer)) {
			if _, err := connection.Write(buffer[:min(int64(len(buffer)), options.SizeBytes-sent)]); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(connection, make([]byte, 1))
		return err
	})
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	return Result{Bytes: options.SizeBytes, Duration: time.Since(start), How: "one connection, 256 KiB writes"}, nil
}

// sendfile serves a warm file straight from the page cache and verifies a checksum per 64 KiB at the reader.
func sendfile(ctx context.Context, options Options) (Result, error) {
	r, err := serveFile(ctx, options, func(c *net.TCPConn, file *os.File) error {
		_, err := c.ReadFrom(&io.LimitedReader{R: file, N: options.SizeBytes})
		return err
	})
	r.How = "warm file, sendfile over one connection, xxh3 per 64 KiB at the reader"
	return r, err
}

// copying is sendfile by read and write through a user's buffer.
func copying(ctx context.Context, options Options) (Result, error) {
	result, err := serveFile(ctx, options, func(c *net.TCPConn, file *os.File) error {
		buffer := make([]byte, packetBytes)
		for sent := int64(0); sent < options.SizeBytes; {
			n, err := file.Read(buffer[:min(int64(len(buffer)), options.SizeBytes-sent)])
			if err != nil {
				return err
			}
			if _, err := c.Write(buffer[:n]); err != nil {
				return err
			}
			sent += int64(n)
		}
		return nil
	})
	result.How = "warm file, read and write of 256 KiB over one connection, xxh3 per 64 KiB at the reader"
	return result, err
}

// serveFile sends a warm file by send to a reader that verifies it. The CPU time is that of the sending thread.
func serveFile(ctx context.Context, options Options, send func(*net.TCPConn, *os.File) error) (Result, error) {
	file, err := os.Create(filepath.Join(options.Directory, "served"))
	if err != nil {
		return Result{}, err
	}
	defer removeFile(file)
	block := pattern(checksumBlockBytes)
	// It is durable then: what is still being written out would be measured too.
	if err := fill(ctx, file, options.SizeBytes, block); err != nil {
		return Result{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Result{}, err
	}
	want := xxh3.Hash(block)

	var used time.Duration
	group, ctx := errgroup.WithContext(ctx)
	connection, err := serveOne(ctx, group, func(c net.Conn) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before, err := threadCPU()
		if err != nil {
			return err
		}
		if err := send(c.(*net.TCPConn), file); err != nil {
			return err
		}
		after, err := threadCPU()
		used = after - before
		return err
	})
	if err != nil {
		return Result{}, err
	}
	defer connection.Close()
	start := time.Now()
	group.Go(func() error {
		buffer := make([]byte, packetBytes)
		for got := int64(0); got < options.SizeBytes; {
			count, err := io.ReadFull(connection, buffer[:min(int64(len(buffer)), options.SizeBytes-got)])
			if err != nil {
				return err
			}
			for b := buffer[:count]; len(b) >= checksumBlockBytes; b = b[checksumBlockBytes:] {
				if xxh3.Hash(b[:checksumBlockBytes]) != want {
					return errors.New("the bytes differ from those written")
				}
			}
			got += int64(count)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	return Result{Bytes: options.SizeBytes, Duration: time.Since(start), ServerCPU: used}, nil
}

// threadCPU is the CPU time, user and system, of the calling thread.
func threadCPU() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(now.Nano()), nil
}
