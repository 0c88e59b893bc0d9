// Package rpc holds what every gRPC service and client of the project does the same way: the one table between
// fault.Error and gRPC status, server and client settings, address checks, the health service and the ordered stop.
//
// Errors cross a connection as a controlpb.ErrorDetail attached to the status; the status text is for people and
// foreign tools only. Handlers return plain *fault.Error values: the server's interceptors turn them into statuses.
// Clients pass what they got to FromStatus and branch on fault kinds.
//
// A panic in a handler is a broken invariant: it is logged with its stack and then ends the process, because a
// process that no longer knows what is true must not answer anybody. Its callers see a broken connection, which
// they retry elsewhere; they never get an answer computed from broken state.
//
// The package owns no state and starts no goroutine of its own beyond those of
// grpc.Server; it does no authentication or encryption.
package rpc
