package floor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// diskBuffered writes a preallocated file through the page cache, pushes each step out early, and ends with fdatasync.
func diskBuffered(ctx context.Context, options Options) (Result, error) {
	file, err := os.Create(filepath.Join(options.Directory, "buffered"))
	if err != nil {
		return Result{}, err
	}
	defer removeFile(file)
	start := time.Now()
	if err := fill(ctx, file, options.SizeBytes, pattern(packetBytes)); err != nil {
		return Result{}, err
	}
	return Result{Bytes: options.SizeBytes, Duration: time.Since(start),
		How: "pwrite 256 KiB, sync_file_range each 8 MiB, fdatasync at the end"}, nil
}

// diskDirect writes with O_DIRECT from one aligned 4 MiB buffer.
func diskDirect(ctx context.Context, options Options) (Result, error) {
	file, err := os.OpenFile(filepath.Join(options.Directory, "direct"), os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) {
		return Result{How: "this file system has no O_DIRECT"}, nil
	}
	if err != nil {
		return Result{}, err
	}
	defer removeFile(file)
	buffer := aligned(directBytes)
	size := max(options.SizeBytes/directBytes, 1) * directBytes
	start := time.Now()
	if err := preallocate(file, size); err != nil {
		return Result{}, err
	}
	for offset := int64(0); offset < size; offset += directBytes {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		if _, err := file.WriteAt(buffer, offset); err != nil {
			return Result{}, err
		}
	}
	if err := unix.Fdatasync(int(file.Fd())); err != nil {
		return Result{}, err
	}
	return Result{Bytes: size, Duration: time.Since(start), How: "O_DIRECT pwrite 4 MiB, fdatasync at the end"}, nil
}

// diskRead reads a file that is not in the page cache, front to back.
func diskRead(ctx context.Context, options Options) (Result, error) {
	file, err := cold(ctx, options, "read", 0)
	if err != nil {
		return Result{}, err
	}
	defer removeFile(file)
	r, err := readAll(ctx, file, options.SizeBytes, make([]byte, packetBytes))
	r.How = "pread 256 KiB, page cache dropped before"
	return r, err
}

// diskReadDirect is diskRead with O_DIRECT.
func diskReadDirect(ctx context.Context, options Options) (Result, error) {
	file, err := cold(ctx, options, "read-direct", unix.O_DIRECT)
	if errors.Is(err, unix.EINVAL) {
		return Result{How: "this file system has no O_DIRECT"}, nil
	}
	if err != nil {
		return Result{}, err
	}
	defer removeFile(file)
	r, err := readAll(ctx, file, max(options.SizeBytes/directBytes, 1)*directBytes, aligned(directBytes))
	r.How = "O_DIRECT pread 4 MiB"
	return r, err
}

// cold writes a synced file, drops its pages and opens it for reading. It is rounded up to steps of directBytes.
func cold(ctx context.Context, options Options, name string, flags int) (*os.File, error) {
	path := filepath.Join(options.Directory, name)
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	err = fill(ctx, file, max((options.SizeBytes+directBytes-1)/directBytes, 1)*directBytes, pattern(packetBytes))
	if err == nil {
		err = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDONLY|flags, 0)
}

func readAll(ctx context.Context, file *os.File, size int64, buffer []byte) (Result, error) {
	start := time.Now()
	for offset := int64(0); offset < size; {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		n, err := file.ReadAt(buffer[:min(int64(len(buffer)), size-offset)], offset)
		if err != nil {
			return Result{}, err
		}
		offset += int64(n)
	}
	return Result{Bytes: size, Duration: time.Since(start)}, nil
}

// diskSync appends 4 KiB and makes it durable, repeatedly.
func diskSync(ctx context.Context, options Options) (Result, error) {
	file, err := os.Create(filepath.Join(options.Directory, "sync"))
	if err != nil {
		return Result{}, err
	}
	defer removeFile(file)
	buffer := pattern(4096)
	options.Writers = 1
	r, err := many(ctx, options, func(_ context.Context, number int64) error {
		if _, err := file.WriteAt(buffer, number*int64(len(buffer))); err != nil {
			return err
		}
		return unix.Fdatasync(int(file.Fd()))
	})
	r.How = "append 4 KiB + fdatasync, one loop"
	return r, err
}

// diskSyncHops makes 4 KiB durable in a file of each hop at once, repeatedly, over zeros that were written before:
// what a synced record costs a disk that holds all replicas.
func diskSyncHops(ctx context.Context, options Options) (Result, error) {
	const ahead = 1 << 20
	zeros, buffer := make([]byte, ahead), pattern(4096)
	var files []*os.File
	for i := range options.Hops {
		file, err := os.Create(filepath.Join(options.Directory, fmt.Sprintf("sync-%d", i)))
		if err != nil {
			return Result{}, err
		}
		defer removeFile(file)
		files = append(files, file)
	}
	options.Writers = 1
	result, err := many(ctx, options, func(_ context.Context, number int64) error {
		offset := number * int64(len(buffer))
		return eachHop(files, func(file *os.File) error {
			if offset%ahead == 0 {
				if _, err := file.WriteAt(zeros, offset); err != nil {
					return err
				}
			}
			if _, err := file.WriteAt(buffer, offset); err != nil {
				return err
			}
			return unix.Fdatasync(int(file.Fd()))
		})
	})
	result.How = fmt.Sprintf("4 KiB + fdatasync in %d files at once, over zeros written ahead", options.Hops)
	return result, err
}

// paced writes a file front to back and starts write-out of each finished step,
// so that the last fdatasync finds little to do.
type paced struct {
	file   *os.File
	offset int64
	pushed int64
}

func newPaced(file *os.File, sizeBytes int64) *paced {
	_ = preallocate(file, sizeBytes) // an optimisation: a file system without it is fine
	return &paced{file: file}
}

func (p *paced) write(b []byte) error {
	if _, err := p.file.WriteAt(b, p.offset); err != nil {
		return err
	}
	p.offset += int64(len(b))
	if p.offset-p.pushed >= writeoutBytes {
		err := unix.SyncFileRange(int(p.file.Fd()), p.pushed, p.offset-p.pushed, unix.SYNC_FILE_RANGE_WRITE)
		if err != nil {
			return fmt.Errorf("sync_file_range: %w", err)
		}
		p.pushed = p.offset
	}
	return nil
}

// fill writes size bytes to a file, block after block, and makes them durable.
func fill(ctx context.Context, file *os.File, size int64, block []byte) error {
	for w := newPaced(file, size); w.offset < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.write(block[:min(int64(len(block)), size-w.offset)]); err != nil {
			return err
		}
	}
	return unix.Fdatasync(int(file.Fd()))
}

func preallocate(file *os.File, sizeBytes int64) error {
	if err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, sizeBytes); err != nil &&
		!errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("fallocate %d bytes: %w", sizeBytes, err)
	}
	return nil
}

// removeFile drops a file of this package's own; what is left of it goes with the folder that Run removes.
func removeFile(file *os.File) {
	file.Close()
	_ = os.Remove(file.Name())
}

// pattern is n bytes that no file system stores as zeros.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// aligned is pattern at an address that O_DIRECT accepts.
func aligned(n int) []byte {
	const alignment = 4096
	b := pattern(n + alignment)
	skip := alignment - int(uintptr(unsafe.Pointer(&b[0]))%alignment)
	return b[skip : skip+n]
}
