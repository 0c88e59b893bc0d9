// Package controlpb is the generated Go form of the .proto files beside it, the one source of every gRPC message
// and service. `make generate` makes it again, byte for byte. Nothing here is written by hand but this comment.
package controlpb
