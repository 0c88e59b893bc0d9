// Package machine is the protocol of one connection of a data server: bytes and results go in, effects come out. It has
// no socket, no file, no goroutine and no clock, so a test plays any order of events by hand (testdata/scenarios).
//
// A Machine serves one conversation after another: a write session (write_session.go), a record session
// (record_session.go), or a request with one answer (requests.go). The event loop of its connection owns it. What
// all machines of a server share is in Node: the budget that grants windows, pooled buffers and counters, all safe
// for concurrent use.
//
// # Ownership of bytes
//
// A packet is put together in one pooled buffer while it arrives. When it is whole and verified, EffectAppend and
// EffectForward each carry a reference to the buffer, which whoever carries them out releases; so do the pieces of
// a record, until the sink is done with them.
//
// Whoever carries effects out is package dataplane. This package does not know how. A new request is a row in the table
// of requests.go, and an effect that dataplane's connection performs.
package machine
