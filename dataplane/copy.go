package dataplane

import (
	"context"

	"github.com/whispering-woods/ww/dataplane/copier"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Copy makes the replica that o describes on this node, from the first source that has it whole, every block
// verified, and returns its length. A replica that is complete already is success. With Seal it is durable and
// immutable on return; else it is durable and open, to be resumed at its generation.
//
// Until it is whole the replica is hidden: it is not reported, cannot be read and takes no part in recoveries. When
// ctx ends, or no source is left, what was copied is thrown away; a later Copy begins anew.
//
// A replica of a lower generation stays until the new one is whole, and goes to the trash in that moment. Errors:
// fault.Invalid; fault.StaleGeneration if there is one of a higher generation; fault.Exists if another session writes
// it at this generation; fault.Busy (retryable); fault.Disk and fault.NoSpace of the own disk, also when that does
// nothing for Limits.StepTimeout, and then the copy may still appear; fault.NotFound, if all sources say so; else
// fault.Unavailable with what each source said; fault.Closed when ctx ended or the server closes.
func (s *Server) Copy(ctx context.Context, o wire.CopyRange) (length int64, err error) {
	result, err := s.copy(ctx, copier.Order{CopyRange: o}, new(copier.Progress))
	return result.Length, err
}

// copy is Copy, which tells in progress how far the disk is.
func (s *Server) copy(ctx context.Context, o copier.Order, progress *copier.Progress) (copier.Result, error) {
	if err := o.Validate(); err != nil {
		return copier.Result{}, err
	}
	ctx, leave, err := s.enter(ctx, "copy replica")
	if err != nil {
		return copier.Result{}, err
	}
	defer leave()
	return s.copier.Copy(ctx, o, progress)
}

// CopyReplica carries out a namenode's order: it is Copy of a sealed replica, from sources that are at its generation
// at least; clients go first on the disks at both ends. badSources are the nodes whose bytes did not match their
// checksums, also if another one served.
func (s *Server) CopyReplica(ctx context.Context, order datanode.CopyReplica) (badSources []string, err error) {
	wanted := wire.CopyRange{BodyVersion: wire.BodyVersion, ChunkID: order.Chunk[:], Seal: true,
		Generation: uint64(order.Generation), SourceMinGeneration: uint64(order.Generation), Length: order.Length,
		Sources: order.Sources[:min(len(order.Sources), wire.HopsMax)]}
	result, err := s.copy(ctx, copier.Order{CopyRange: wanted, Background: true}, new(copier.Progress))
	return result.BadSources, err
}
