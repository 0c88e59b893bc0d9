package floor

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Copies copies files over loopback, as a repair with the least code would: so many streams at once, each a TCP
// connection that one end feeds with sendfile while the other writes 256 KiB at a time, starts write-out each 8 MiB
// and makes every file durable. The copies are made in directory and stay there. It is no part of Run, because it
// needs the files of a store. Errors: of the files, and of ctx.
func Copies(ctx context.Context, directory string, sources []string, streams int) (Result, error) {
	group, ctx := errgroup.WithContext(ctx)
	var sizes []int64
	total := int64(0)
	for _, path := range sources {
		info, err := os.Stat(path)
		if err != nil {
			return Result{}, err
		}
		sizes = append(sizes, info.Size())
		total += info.Size()
	}
	start := time.Now()
	for stream := range streams {
		connection, err := serveOne(ctx, group, func(c net.Conn) error {
			for i := stream; i < len(sources); i += streams {
				if err := receiveFile(ctx, c, filepath.Join(directory, fmt.Sprint("copy-", i)), sizes[i]); err != nil {
					return err
				}
			}
			_, err := c.Write([]byte{1}) // all are durable
			return err
		})
		if err != nil {
			return Result{}, err
		}
		defer connection.Close()
		group.Go(func() error {
			for i := stream; i < len(sources); i += streams {
				if err := feedFile(connection.(*net.TCPConn), sources[i], sizes[i]); err != nil {
					return err
				}
			}
			_, err := io.ReadFull(connection, make([]byte, 1))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	return Result{Name: "copies", Bytes: total, Duration: time.Since(start),
		How: fmt.Sprintf("%d streams, sendfile, pwrite 256 KiB, sync_file_range each 8 MiB, fdatasync of each file",
			streams)}, nil
}

// feedFile sends the first bytes of a file, without copying them.
func feedFile(connection *net.TCPConn, path string, size int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = connection.ReadFrom(&io.LimitedReader{R: file, N: size})
	return err
}

// receiveFile makes a file of the next bytes, durable when it returns.
func receiveFile(ctx context.Context, source io.Reader, path string, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	buffer := make([]byte, packetBytes)
	for w := newPaced(file, size); w.offset < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := buffer[:min(int64(len(buffer)), size-w.offset)]
		if _, err := io.ReadFull(source, piece); err != nil {
			return err
		}
		if err := w.write(piece); err != nil {
			return err
		}
	}
	return unix.Fdatasync(int(file.Fd()))
}
