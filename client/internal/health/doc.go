// Package health remembers how the datanodes have behaved towards this client: which of them failed lately, which
// answer reads late, and which hold up the pipelines that they are part of. Readers ask the healthy replicas first;
// writers have chunks placed away from slow nodes.
//
// It owns these memories only, each behind a lock of its own. It runs no goroutine and does no I/O, and nothing in it
// outlives the client. What it knows changes an order or a wish, never a result: it may be wrong, and every entry
// expires.
package health
