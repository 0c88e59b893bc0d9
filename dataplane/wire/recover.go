package wire

// RecoverPhase is one of the two steps of a recovery (OpRecover).
type RecoverPhase uint8

// Phases.
const (
	// RecoverBegin fences the replica's writers, promises Generation durably and answers with what the replica holds.
	RecoverBegin  RecoverPhase = 1
	RecoverFinish RecoverPhase = 2 // cuts the replica to Length and seals it at Generation
)

// RecoverReplica asks a datanode to take part in the recovery of a chunk that another one leads.
type RecoverReplica struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Phase       RecoverPhase
	ChunkID     []byte // 16
	Generation  uint64 // the generation that recovery writes
	Length      int64  // RecoverFinish: the length agreed on
}

// RecoverReply answers RecoverReplica. After RecoverBegin, Generation, Length
// and State are those of the replica as it was found.
type RecoverReply struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Status      Status
	Generation  uint64
	Length      int64
	State       uint8 // chunk.State
	// The datanode restarted while the replica was open: flushed bytes may be
	// gone with a power loss, synced ones are there.
	Restarted bool
}
