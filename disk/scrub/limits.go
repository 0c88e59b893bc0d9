package scrub

import "time"

const (
	// A pass begins when so much of the period is over since the last one began: one that takes longer than the last
	// is still in time.
	restNumerator, restDenominator = 4, 5

	saveInterval = time.Minute // between two notes of the position: so much is verified again after a crash
	// replicaCostBytes is what a replica costs beside its bytes: a disk seeks in the time in which it reads so many.
	replicaCostBytes = 128 << 10
	yieldStep        = 10 * time.Millisecond  // while others use the disk
	yieldMax         = 500 * time.Millisecond // before each read: then it goes on, or a busy disk is never verified
	stateBytesMax    = 4096

	shards = 256 // replicas are visited by the last byte of their id, like the directories of chunk files
)
