package copier

import "time"

const (
	pieceBytes = 256 << 10 // read, verified and written in one step: whole blocks
	piecesMax  = 8         // bounds the pieces of one copy that wait for the disk: a slow disk slows the pulling
	// A source that was silent is asked after the others for silentFor; silentMax bounds the memory of them.
	silentFor = 10 * time.Second
	silentMax = 1024
	// rangeBytes is asked for at once: a source's goroutine and file are not held for longer than that takes.
	rangeBytes = 32 << 20
	// hangingMax bounds the copies that were given up because their disks hang, each with piecesMax pieces: 32 MiB. A
	// disk that hangs gets no new replicas after 5 s, so that there are hardly more than RunningMax.
	hangingMax = 16
	retryDelay = 5 * time.Millisecond // spaces attempts to enter a full disk queue
)
