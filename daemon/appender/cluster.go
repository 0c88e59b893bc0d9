package appender

import (
	"context"

	"github.com/whispering-woods/ww/client"
)

// cluster is what the appender needs of a cluster.
type cluster interface {
	// append takes the lease of a file and opens it at its end; ctx ends the writer's whole life.
	append(ctx context.Context, path string) (writer, error)
	stat(ctx context.Context, path string) (client.FileInfo, error)
	close() error
}

// writer is a file opened for append: a client.FileWriter.
type writer interface {
	Write([]byte) (int, error)
	Flush(context.Context) error
	Sync(context.Context) error
	Close() error
	Abort() error
	Info() client.FileInfo
	Offset() int64
}

var _ writer = (*client.FileWriter)(nil)

// realCluster is a client's.
type realCluster struct{ *client.Client }

func (c realCluster) append(ctx context.Context, path string) (writer, error) {
	w, err := c.Append(ctx, path, client.AppendOptions{RecoverLease: true})
	if err != nil {
		return nil, err // not a nil *FileWriter in an interface
	}
	return w, nil
}

func (c realCluster) stat(ctx context.Context, path string) (client.FileInfo, error) {
	return c.Stat(ctx, path)
}

func (c realCluster) close() error { return c.Close() }
