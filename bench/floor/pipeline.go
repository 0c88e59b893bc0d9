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

func pipeline(ctx context.Context, o Options) (Result, error) { return runPipeline(ctx, o, true) }
func pipelineNoDisk(ctx context.Context, o Options) (Result, error) {
	return runPipeline(ctx, o, false)
}

// runPipeline sends packets {length, xxh3, bytes} through a chain of hops. Each
// hop reads a packet into one buffer, verifies it, forwards it, writes it to its
// own file, and acks once the next hop has. The last packet is acked after
// fdatasync on every hop. 16 packets are in flight at most.
func runPipeline(ctx context.Context, o Options, disk bool) (Result, error) {
	const window = 16
	g, ctx := errgroup.WithContext(ctx)
	var next net.Conn
	for hop := o.Hops - 1; hop >= 0; hop-- {
		var f *os.File
		if disk {
			var err error
			if f, err = os.Create(filepath.Join(o.Directory, fmt.Sprintf("hop%d", hop))); err != nil {
				return Result{}, err
			}
			defer removeFile(f)
		}
		downstream := next
		upstream, err := serveOne(ctx, g, func(c net.Conn) error { return runHop(c, downstream, f, o.SizeBytes) })
		if err != nil {
			return Result{}, err
		}
		defer upstream.Close()
		next = upstream
	}
	start := time.Now()
	slots := make(chan struct{}, window)
	packets := (o.SizeBytes + packetBytes - 1) / packetBytes
	g.Go(func() error {
		packet := append(make([]byte, frameBytes), pattern(packetBytes)...)
		for sent := int64(0); sent < o.SizeBytes; {
			n := min(packetBytes, o.SizeBytes-sent)
			p := packet[:frameBytes+n]
			binary.LittleEndian.PutUint64(p, uint64(n))
			binary.LittleEndian.PutUint64(p[8:], xxh3.Hash(p[frameBytes:]))
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			if _, err := next.Write(p); err != nil {
				return err
			}
			sent += n
		}
		return nil
	})
	g.Go(func() error {
		ack := make([]byte, 1)
		for range packets {
			if _, err := io.ReadFull(next, ack); err != nil {
				return err
			}
			<-slots
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return Result{}, err
	}
	how := fmt.Sprintf("%d hops, 256 KiB packets, xxh3 and ack at each hop", o.Hops)
	if disk {
		how += ", one file each, sync_file_range each 8 MiB, fdatasync on all before the last ack"
	}
	return Result{Bytes: o.SizeBytes, Duration: time.Since(start), How: how}, nil
}

const frameBytes = 16

// runHop is one datanode of the raw pipeline. f is nil without a disk,
// downstream at the last hop.
func runHop(c, downstream net.Conn, f *os.File, sizeBytes int64) error {
	var file *paced
	if f != nil {
		file = newPaced(f, sizeBytes)
	}
	packet := make([]byte, frameBytes+packetBytes)
	acks := make(chan struct{}, 1024) // one for each packet that this hop has done
	var g errgroup.Group
	g.Go(func() error {
		ack := make([]byte, 1)
		for range acks {
			if downstream != nil {
				if _, err := io.ReadFull(downstream, ack); err != nil {
					return err
				}
			}
			if _, err := c.Write([]byte{1}); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		defer close(acks)
		for got := int64(0); got < sizeBytes; {
			if _, err := io.ReadFull(c, packet[:frameBytes]); err != nil {
				return err
			}
			n := int64(binary.LittleEndian.Uint64(packet))
			if n > packetBytes {
				return fmt.Errorf("packet of %d bytes", n)
			}
			p := packet[:frameBytes+n]
			if _, err := io.ReadFull(c, p[frameBytes:]); err != nil {
				return err
			}
			if xxh3.Hash(p[frameBytes:]) != binary.LittleEndian.Uint64(p[8:]) {
				return errors.New("packet checksum differs")
			}
			if downstream != nil {
				if _, err := downstream.Write(p); err != nil {
					return err
				}
			}
			got += n
			if file != nil {
				if err := file.write(p[frameBytes:]); err != nil {
					return err
				}
				if got == sizeBytes {
					if err := unix.Fdatasync(int(f.Fd())); err != nil {
						return err
					}
				}
			}
			acks <- struct{}{}
		}
		return nil
	})
	return g.Wait()
}
