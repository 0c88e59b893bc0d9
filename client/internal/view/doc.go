// Package view reads a file: it knows how long the file is and where its chunks are, and asks replica after replica for
// verified bytes. From top to bottom:
//
//	View        one file: its length, the locations of its chunks, and when to ask the namenode again
//	replicas    the replicas of one chunk: the order in which they are asked, and what to do with those that fail
//	Views       what all views share; it asks a second replica when the first one is late (hedging)
//	            (below it: datanode.Client, one request to one replica)
//
// It owns the locations that it remembers, nothing else. A call runs on its caller's goroutine; a hedged read adds two
// that end before the call does. Reports of corrupt replicas are sent in the background (namenode.Reports).
//
// It caches no content and fetches nothing ahead: that is its callers' business.
package view
