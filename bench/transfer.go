// Package bench measures a Whispering Woods cluster as its users meet it,
// through package client, and sets the results beside the limits of the machine
// that bench/floor takes in the same run.
//
// It owns no cluster and no goroutine beyond those of the client it is given.
// It does not decide whether a number is good.
package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/bench/floor"
	"github.com/whispering-woods/ww/client"
)

// Names of the results of Transfer.
const (
	Store = "store"
	Fetch = "fetch"
)

// TransferOptions says what Transfer moves.
type TransferOptions struct {
	Path        string // file to make; it is removed at the end
	SizeBytes   int64
	Replication int   // 0: the cluster's default
	ChunkSize   int64 // bytes; 0: the cluster's default
}

// Transfer stores one file of known size, fetches it back to nowhere (verified
// by the client, and warm: its pages are in the datanodes' cache), then, not
// measured, fetches it again and compares every byte.
func Transfer(ctx context.Context, c *client.Client, o TransferOptions) (_ []floor.Result, err error) {
	source := newRepeated(o.SizeBytes)
	start := time.Now()
	info, err := c.Store(ctx, o.Path, source, o.SizeBytes, client.StoreOptions{CreateOptions: client.CreateOptions{
		Overwrite: true, Replication: o.Replication, ChunkSize: o.ChunkSize,
	}})
	if err != nil {
		return nil, fmt.Errorf("store %d bytes: %w", o.SizeBytes, err)
	}
	defer func() {
		if _, removeErr := c.Remove(ctx, o.Path, client.RemoveOptions{}); err == nil && removeErr != nil {
			err = fmt.Errorf("remove what was stored: %w", removeErr)
		}
	}()
	stored := floor.Result{
		Name: Store, Bytes: o.SizeBytes, Duration: time.Since(start),
		How: fmt.Sprintf("one file, %d replicas, synced on all before the return", info.Replication),
	}
	var got counter
	start = time.Now()
	if _, err := c.Fetch(ctx, o.Path, &got, client.FetchOptions{}); err != nil {
		return nil, fmt.Errorf("fetch %d bytes: %w", o.SizeBytes, err)
	}
	fetched := floor.Result{
		Name: Fetch, Bytes: o.SizeBytes, Duration: time.Since(start),
		How: "the same file, warm, every byte verified, not written anywhere",
	}
	if got.bytes.Load() != o.SizeBytes {
		return nil, fmt.Errorf("fetch: %d bytes came, %d were stored", got.bytes.Load(), o.SizeBytes)
	}
	if _, err := c.Fetch(ctx, o.Path, comparer{source}, client.FetchOptions{}); err != nil {
		return nil, fmt.Errorf("compare what was stored: %w", err)
	}
	return []floor.Result{stored, fetched}, nil
}

// repeated is a source of known bytes that costs one copy: a block whose length
// is no power of two, again and again, so that blocks of storage differ.
type repeated struct {
	block []byte
	size  int64
}

func newRepeated(size int64) repeated {
	const length = 1<<20 + 7919
	block := make([]byte, length)
	x := uint64(1)
	for i := range block {
		x ^= x << 13 // xorshift64 (Marsaglia)
		x ^= x >> 7
		x ^= x << 17
		block[i] = byte(x)
	}
	return repeated{block, size}
}

// ReadAt implements io.ReaderAt.
func (r repeated) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	for n < len(p) && offset < r.size {
		from := int(offset % int64(len(r.block)))
		k := copy(p[n:], r.block[from:min(int64(len(r.block)), int64(from)+r.size-offset)])
		n, offset = n+k, offset+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// counter drops what it is given and counts it.
type counter struct{ bytes atomic.Int64 }

// WriteAt implements io.WriterAt.
func (c *counter) WriteAt(p []byte, _ int64) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// comparer refuses bytes that are not those of the source.
type comparer struct{ source repeated }

// WriteAt implements io.WriterAt.
func (c comparer) WriteAt(p []byte, offset int64) (int, error) {
	want := make([]byte, len(p))
	if _, err := c.source.ReadAt(want, offset); err != nil {
		return 0, fmt.Errorf("bytes %d to %d: %w", offset, offset+int64(len(p)), err)
	}
	if !bytes.Equal(p, want) {
		return 0, fmt.Errorf("bytes %d to %d differ from those stored", offset, offset+int64(len(p)))
	}
	return len(p), nil
}
