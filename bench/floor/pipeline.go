package floor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func pipeline(ctx context.Context, options Options) (Result, error) {
	return runPipeline(ctx, options, true)
}
func pipelineNoDisk(ctx context.Context, options Options) (Result, error) {
	return runPipeline(ctx, options, false)
}

// runPipeline sends packets {length, xxh3, bytes} through a chain of hops. Each hop reads a packet into one buffer,
// verifies it, forwards it, writes it to its own file, and acks once the next hop has. The last packet is acked
// after fdatasync on every hop. 16 packets are in flight at most.
func runPipeline(ctx context.Context, options Options, disk bool) (Result, error) {
	const window = 16
	group, ctx := errgroup.WithContext(ctx)
	var next net.Conn
	for hop := options.Hops - 1; hop >= 0; hop-- {
		var file *os.File
		if disk {
			var err error
			if file, err = os.Create(filepath.Join(options.Directory, fmt.Sprintf("hop%d", hop))); err != nil {
				return Result{}, err
			}
			defer removeFile(file)
		}
		downstream := next
		upstream, err := serveOne(ctx, group, func(c net.Conn) error {
			return runHop(c, downstream, file, options.SizeBytes)
		})
		if err != nil {
			return Result{}, err
		}
		defer upstream.Close()
		next = upstream
	}
	start := time.Now()
	slots := make(chan struct{}, window)
	packets := (options.SizeBytes + packetBytes - 1) / packetBytes
	group.Go(func() error {
		packet := append(make([]byte, frameBytes), pattern(packetBytes)...)
		for sent := int64(0); sent < options.SizeBytes; {
			size := min(packetBytes, options.SizeBytes-sent)
			p := packet[:frameBytes+size]
			binary.LittleEndian.PutUint64(p, uint64(size))
			binary.LittleEndian.PutUint64(p[8:], xxh3.Hash(p[frameBytes:]))
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			if _, err := next.Write(p); err != nil {
				return err
			}
			sent += size
		}
		return nil
	})
	group.Go(func() error {
		ack := make([]byte, 1)
		for range packets {
			if _, err := io.ReadFull(next, ack); err != nil {
				return err
			}
			<-slots
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	how := fmt.Sprintf("%d hops, 256 KiB packets, xxh3 and ack at each hop", options.Hops)
	if disk {
		how += ", one file each, sync_file_range each 8 MiB, fdatasync on all before the last ack"
	}
	return Result{Bytes: options.SizeBytes, Duration: time.Since(start), How: how}, nil
}

const frameBytes = 16

// runHop is one datanode of the raw pipeline. f is nil without a disk, downstream at the last hop.
func runHop(connection, downstream net.Conn, stored *os.File, sizeBytes int64) error {
	var file *paced
	if stored != nil {
		file = newPaced(stored, sizeBytes)
	}
	packet := make([]byte, frameBytes+packetBytes)
	acks := make(chan struct{}, 1024) // one for each packet that this hop has done
	var group errgroup.Group
	group.Go(func() error {
		ack := make([]byte, 1)
		for range acks {
			if downstream != nil {
				if _, err := io.ReadFull(downstream, ack); err != nil {
					return err
				}
			}
			if _, err := connection.Write([]byte{1}); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(acks)
		for got := int64(0); got < sizeBytes; {
			if _, err := io.ReadFull(connection, packet[:frameBytes]); err != nil {
				return err
			}
			size := int64(binary.LittleEndian.Uint64(packet))
			if size > packetBytes {
				return fmt.Errorf("packet of %d bytes", size)
			}
			frame := packet[:frameBytes+size]
			if _, err := io.ReadFull(connection, frame[frameBytes:]); err != nil {
				return err
			}
			if xxh3.Hash(frame[frameBytes:]) != binary.LittleEndian.Uint64(frame[8:]) {
				return errors.New("packet checksum differs")
			}
			if downstream != nil {
				if _, err := downstream.Write(frame); err != nil {
					return err
				}
			}
			got += size
			if file != nil {
				if err := file.write(frame[frameBytes:]); err != nil {
					return err
				}
				if got == sizeBytes {
					if err := unix.Fdatasync(int(stored.Fd())); err != nil {
						return err
					}
				}
			}
			acks <- struct{}{}
		}
		return nil
	})
	return group.Wait()
}
