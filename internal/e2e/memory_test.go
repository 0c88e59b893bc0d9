package e2e

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/e2e/cluster"
)

// Most memory that a daemon may ever have resident, in bytes, whatever its
// clients do.
const (
	datanodeBytesMax  = 256 << 20
	logServerBytesMax = 256 << 20
	namenodeBytesMax  = 256 << 20 // plus what its files and chunks take
)

// TestMemoryBound stores from 64 writers at once, each a client of its own with
// several chunks on their way, and reads the peak of each daemon.
func TestMemoryBound(t *testing.T) {
	if underRace() {
		t.Skip("the race detector takes several times the memory")
	}
	c := start(t, cluster.Options{ChunkSize: 4 << 20})
	const writers = 64
	size := 12 << 20
	if testing.Short() {
		size = 4 << 20
	}
	ctx := patient(t, 5*time.Minute)
	var group sync.WaitGroup
	errs := make(chan error, writers)
	content := bytesOf(1, size)
	for i := range writers {
		group.Go(func() {
			writer, err := client.Dial(ctx, client.Options{Namenodes: []string{c.Address()}, Name: fmt.Sprintf("writer-%d", i)})
			if err != nil {
				errs <- err
				return
			}
			defer writer.Close()
			_, err = writer.Store(ctx, fmt.Sprintf("/file-%d", i), bytes.NewReader(content), int64(size), client.StoreOptions{})
			errs <- err
		})
	}
	group.Wait()
	for range writers {
		require.NoError(t, <-errs)
	}
	for _, p := range c.Processes() {
		limit := int64(datanodeBytesMax)
		switch p {
		case c.LogServer:
			limit = logServerBytesMax
		case c.Namenode:
			limit = namenodeBytesMax
		}
		peak := residentBytes(t, p, "VmHWM")
		t.Logf("%s: at most %d MiB resident", p.Name, peak>>20)
		require.LessOrEqual(t, peak, limit, "%s: %d MiB resident, limit %d MiB", p.Name, peak>>20, limit>>20)
	}
}
