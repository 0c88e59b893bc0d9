package pipeline

// streamState is where a stream is with its chunk. docs/ARCHITECTURE.md (Recovery) has the diagram; a test compares it
// with these names.
type streamState uint8

const (
	streamPlaced  streamState = iota // the namenode named nodes; no session has been opened on them
	streamWriting                    // there is a session
	streamBroken                     // the last session failed, or could not be opened
	// streamReplacing: nothing of the chunk is acknowledged, or it can be sent again: another one on other nodes is
	// asked for.
	streamReplacing
	// streamResuming: a new generation is asked for; replacements copy, survivors cut their replicas to the
	// acknowledged length.
	streamResuming
	streamSealed // all nodes of the pipeline have sealed it. Final
	streamDead   // an error that no recovery helps against. Final
)

var streamStates = [...]string{
	streamPlaced: "placed", streamWriting: "writing", streamBroken: "broken", streamReplacing: "replacing",
	streamResuming: "resuming", streamSealed: "sealed", streamDead: "dead",
}

// String is the name in logs and documents.
func (s streamState) String() string { return streamStates[s] }
