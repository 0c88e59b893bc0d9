package health

import "time"

// Limits say what a volume may do before it is out of service.
type Limits struct {
	ErrorsMax  int           // so many errors ...
	Window     time.Duration // ... within this time
	StallAfter time.Duration // an operation that takes longer makes the volume suspect: nothing new goes there
	HangAfter  time.Duration // one that takes even longer ends its service
}

// Defaults. A single bad sector makes few errors a minute, a dead disk makes them with every operation. A disk
// that is only slow returns: a kernel that resets a disk takes up to 30 s per attempt, so an operation of a
// minute is one that will not return.
const (
	ErrorsMax  = 3
	Window     = time.Minute
	StallAfter = 5 * time.Second
	HangAfter  = time.Minute
)

// writeGrace is what a write that waits for no disk may take: it is copied to the page cache, on a busy machine. One
// that is throttled waits 10 to 200 ms.
const writeGrace = time.Millisecond

// What is done in the background waits so long before each step while others use the disk: a copy, which writes 256 KiB
// at a time, keeps 25 MiB a second at least.
const (
	yieldStep = time.Millisecond
	yieldMax  = 10 * time.Millisecond
)

// textBytesMax bounds the text of an error that is kept.
const textBytesMax = 512
