package client

import (
	"context"
	"io"
	"io/fs"
	"iter"

	"github.com/whispering-woods/ww/internal/fault"
)

// Client is a connection to one cluster. Safe for concurrent use.
type Client struct{}

// Dial makes a client; connections are made when they are needed.
func Dial(ctx context.Context, o Options) (*Client, error) { return nil, unbuilt }

// Close ends all background work, closes all connections and waits.
func (c *Client) Close() error { return nil }

// FileReader reads one file.
type FileReader struct{}

func (r *FileReader) Read(p []byte) (int, error)                   { return 0, unbuilt }
func (r *FileReader) ReadAt(p []byte, offset int64) (int, error)   { return 0, unbuilt }
func (r *FileReader) Seek(offset int64, whence int) (int64, error) { return 0, unbuilt }
func (r *FileReader) WriteTo(w io.Writer) (int64, error)           { return 0, unbuilt }
func (r *FileReader) Close() error                                 { return nil }
func (r *FileReader) Info() FileInfo                               { return FileInfo{} }

// Size is the visible length now: for an open file it asks a replica.
func (r *FileReader) Size(ctx context.Context) (int64, error) { return 0, unbuilt }

// FileWriter writes one file.
type FileWriter struct{}

func (w *FileWriter) Write(p []byte) (int, error)     { return 0, unbuilt }
func (w *FileWriter) Flush(ctx context.Context) error { return unbuilt }
func (w *FileWriter) Sync(ctx context.Context) error  { return unbuilt }
func (w *FileWriter) Close() error                    { return unbuilt }
func (w *FileWriter) Abort() error                    { return unbuilt }

// Info describes the file as Create, Append or (after it) Close left it.
func (w *FileWriter) Info() FileInfo { return FileInfo{} }

// Offset is the file's length with everything written so far.
func (w *FileWriter) Offset() int64 { return 0 }

func (c *Client) Open(ctx context.Context, path string) (*FileReader, error) { return nil, unbuilt }
func (c *Client) Create(ctx context.Context, path string, o CreateOptions) (*FileWriter, error) {
	return nil, unbuilt
}
func (c *Client) Append(ctx context.Context, path string, o AppendOptions) (*FileWriter, error) {
	return nil, unbuilt
}
func (c *Client) Store(ctx context.Context, path string, source io.ReaderAt, size int64, o StoreOptions) (FileInfo, error) {
	return FileInfo{}, unbuilt
}
func (c *Client) Fetch(ctx context.Context, path string, target io.WriterAt, o FetchOptions) (FileInfo, error) {
	return FileInfo{}, unbuilt
}
func (c *Client) Stat(ctx context.Context, path string) (FileInfo, error) { return FileInfo{}, unbuilt }
func (c *Client) ReadDir(ctx context.Context, path string) ([]FileInfo, error) {
	return nil, unbuilt
}
func (c *Client) List(ctx context.Context, path string) iter.Seq2[FileInfo, error] { return nil }
func (c *Client) Mkdir(ctx context.Context, path string, o MkdirOptions) error     { return unbuilt }
func (c *Client) Rename(ctx context.Context, source, target string, o RenameOptions) error {
	return unbuilt
}
func (c *Client) Remove(ctx context.Context, path string, o RemoveOptions) (Removed, error) {
	return Removed{}, unbuilt
}
func (c *Client) Locate(ctx context.Context, path string, offset, length int64) ([]ChunkLocation, error) {
	return nil, unbuilt
}
func (c *Client) Summary(ctx context.Context, path string) (Summary, error) {
	return Summary{}, unbuilt
}
func (c *Client) ClusterStatus(ctx context.Context) (ClusterStatus, error) {
	return ClusterStatus{}, unbuilt
}
func (c *Client) SafeMode(ctx context.Context, action SafeModeAction) (SafeModeState, error) {
	return SafeModeState{}, unbuilt
}
func (c *Client) Checksum(ctx context.Context, path string) (string, error) { return "", unbuilt }
func (c *Client) RecoverLease(ctx context.Context, path string) (closed bool, err error) {
	return false, unbuilt
}

// FS is a read-only io/fs view of the cluster's tree.
func (c *Client) FS(ctx context.Context) fs.FS { return nil }

var unbuilt = fault.New(fault.Internal, "client", "not built yet")
