// Package entry provides the entries of the log: their bytes (docs/format/log.md),
// their bounds, and the state that decides in order which of them count. Log
// servers, checks and readers step through the same entries with it and so agree.
//
// It owns nothing, runs no goroutine, and knows neither raft nor files. Records are opaque to it.
package entry
