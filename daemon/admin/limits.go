package admin

import "time"

// Bounds of an admin address.
const (
	// requestsMax is how many requests are answered at once; more get 503.
	requestsMax = 8
	// connectionsMax bounds open connections; more wait until one is closed.
	connectionsMax = 32
	// headerBytesMax bounds a request's header; bodies are not read.
	headerBytesMax = 16 << 10
	// profileMax is the longest profile or trace that can be asked for.
	profileMax = 2 * time.Minute
	// headerTimeout bounds a connection that does not say what it wants; answerTimeout an answer, the longest
	// profile included; idleTimeout a connection that says no more.
	headerTimeout = 5 * time.Second
	answerTimeout = profileMax + 30*time.Second
	idleTimeout   = 30 * time.Second
	// dialTimeout bounds Fetch's connecting.
	dialTimeout = 3 * time.Second
	// textBytesMax of an error's text are read from a server.
	textBytesMax = 1024
)

// Sampling while a profile is taken that costs too much to be on always.
const (
	// mutexFraction: one in this many contended unlocks is sampled.
	mutexFraction = 5
	// blockRate: one event per this many nanoseconds of waiting.
	blockRate = 10_000
)
