// Package controlpb is the generated Go form of the .proto files beside it, the one source of every gRPC message
// and service. `make generate` makes it again, byte for byte. Nothing here is written by hand but this comment.
//
// Who serves and calls them: control/namenode serves namenode.proto to package client, and datanode.proto to
// control/agent; control/logserver serves log.proto to control/editlog.
package controlpb
