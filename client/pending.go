package client

import (
	"context"

	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/dataplane/wire"
)

// Pending is a Flush or Sync that was begun. It holds memory only, and nothing is lost if nobody waits for it. The zero
// Pending is done.
type Pending struct {
	writer *FileWriter
	op     string
	flags  wire.Flags
	point  pipeline.Point // behind everything that was written before the begin
}

// Wait returns when everything that was written before the Pending's begin is where Flush or Sync promises. If only ctx
// ended, Wait can be called again; the writer stays usable. As with Flush, ctx does not bound the wait for another
// call's turn. Any goroutine may call it, and the Pendings of a writer in any order.
func (p Pending) Wait(ctx context.Context) error {
	for p.writer != nil && !p.point.Reached(ctx) {
		var err error
		if p, err = p.writer.resume(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
