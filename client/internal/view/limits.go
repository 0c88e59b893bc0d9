package view

import "github.com/whispering-woods/ww/internal/chunk"

// Bounds of one View. Memory: locationsMax · 256 B = 1 MiB.
const (
	// locateFirstBytes is what opening a file asks the locations of: one chunk of the default size, at most 1,024 of
	// the smallest.
	locateFirstBytes = chunk.SizeDefault
	locateChunks     = 256     // how many chunks one Locate of a reader asks for
	locationsMax     = 4096    // bounds the locations that one reader remembers
	refreshesMax     = 4       // bounds how often one read asks for fresh locations
	hedgeBytesMax    = 1 << 20 // bounds a read that is asked of two replicas: it needs a buffer of its own size
)
