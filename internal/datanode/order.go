package datanode

import "github.com/whispering-woods/ww/internal/chunk"

// Orders of a namenode to a datanode. Each has the name of its message in controlpb.
type (
	// DeleteReplicas orders replicas deleted. A replica whose generation differs
	// is left alone. State and Length are not set.
	DeleteReplicas struct{ Replicas []chunk.Replica }
	// RecoverChunk makes its receiver lead a recovery: it brings all replicas of
	// an open chunk to one length and seals them under Generation.
	RecoverChunk struct {
		Chunk             chunk.ID
		Generation        chunk.Generation // above that of every replica
		MinimumGeneration chunk.Generation // a replica below it missed acknowledged bytes and does not count
		Replicas          []chunk.Location // the holders that count, the receiver among them
		Length            int64            // to cut to; -1: what the holders agree on
	}
	// CopyReplica makes its receiver copy a sealed replica from a source.
	CopyReplica struct {
		Chunk      chunk.ID
		Generation chunk.Generation
		Length     int64
		Sources    []chunk.Location // best first
	}
	// VerifyReplica makes its receiver compare a replica with its checksums.
	VerifyReplica struct {
		Chunk      chunk.ID
		Generation chunk.Generation
	}
	// TellReplicas makes its receiver tell what it has of some chunks, as a change: the replica, or that there is none
	// of the named generation. State and Length are not set.
	TellReplicas struct{ Replicas []chunk.Replica }
	// SendReport asks for a full chunk report.
	SendReport struct{}
)

// Results of orders, as a datanode reports them. The other orders have none: a
// chunk report, or a change of one, shows what became of them.
type (
	// RecoverResult answers RecoverChunk. Without Error all named nodes hold the chunk, sealed, at Length bytes. No
	// nodes and length 0: every holder that was asked says that it has no replica at all.
	RecoverResult struct {
		Chunk      chunk.ID
		Generation chunk.Generation
		Length     int64
		NodeIDs    []string
		Error      string
	}
	// CopyResult answers CopyReplica. BadSources are the ids of the nodes whose bytes did not match their checksums,
	// also if another source served.
	CopyResult struct {
		Chunk      chunk.ID
		Generation chunk.Generation
		BadSources []string
		Error      string
	}
	// VerifyResult answers VerifyReplica: without Error the replica is good; with
	// Bad it is not; with an Error alone its node could not tell.
	VerifyResult struct {
		Chunk      chunk.ID
		Generation chunk.Generation
		Bad        bool
		Error      string
	}
)
