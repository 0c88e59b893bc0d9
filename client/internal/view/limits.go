package view

import "github.com/whispering-woods/ww/internal/chunk"

// Bounds of one View. Memory: locationsMax · 256 B = 1 MiB.
const (
	// locateFirstBytes is what opening a file asks the locations of: one chunk of the default size, at most 1,024 of
	// the smallest.
	locateFirstBytes = chunk.SizeDefault
	// locateChunks is how many chunks one Locate of a reader asks for.
	locateChunks = 256
	// locationsMax bounds the locations that one reader remembers.
	locationsMax = 4096
	// refreshesMax bounds how often one read asks for fresh locations.
	refreshesMax = 4
	// hedgeBytesMax bounds a read that is asked of two replicas: it needs a buffer of its own size.
	hedgeBytesMax = 1 << 20
)
