package rpc

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whispering-woods/ww/internal/fault"
)

// transportFault explains a status without a detail of ours: grpc-go made it on this side, or a foreign server did.
// Only the words of the reason depend on grpc-go's text, which has no typed form; the kind never does, save for
// "unknown service" (a port of another role) against "unknown method" (an older or newer server).
func transportFault(st *status.Status, op, address string) *fault.Error {
	explained := &fault.Error{Kind: fault.Internal, Op: op, Address: address, Reason: st.Message()}
	switch st.Code() {
	case codes.Unavailable:
		explained.Kind = fault.Unavailable
		explained.Reason, explained.Hint = connectReason(st.Message())
	case codes.DeadlineExceeded:
		explained.Kind = fault.Unavailable
		explained.Reason, explained.Hint = "no answer in time", ""
		if reason, hint := connectReason(st.Message()); hint != "" {
			explained.Reason, explained.Hint = "no answer in time, "+reason, hint
		}
		explained.Err = context.DeadlineExceeded
	case codes.Canceled:
		explained.Kind = fault.Closed
		explained.Reason = "cancelled by the caller"
		explained.Err = context.Canceled
		if strings.Contains(st.Message(), "client connection is closing") {
			explained.Reason, explained.Err = "the connection was closed on this side", nil
		}
	case codes.Unimplemented:
		if strings.Contains(st.Message(), "unknown method") {
			explained.Kind = fault.Version
			explained.Reason = "the server does not know this call: " + st.Message()
			explained.Hint = "run the same version of ww on both sides"
			break
		}
		explained.Kind = fault.Unavailable
		explained.Reason = "another kind of server listens on this port: " + st.Message()
		explained.Hint = hintPort
	case codes.ResourceExhausted: // grpc-go's own: a message above the limit
		explained.Kind = fault.Invalid
	case codes.Unknown:
		if strings.Contains(st.Message(), "HTTP status code") {
			explained.Kind = fault.Unavailable
			explained.Reason, explained.Hint = "the port speaks something else (an HTTP server?)", hintPort
		}
	}
	return explained
}

// Hints that name what to look at.
const (
	hintPort = "check the port: namenode 7700, log server 7710 by default"
	hintUp   = "is the server running, and is the address right?"
	hintName = "check the host name"
)

// connectReason puts grpc-go's connection errors into words.
func connectReason(text string) (reason, hint string) {
	for _, known := range connectReasons {
		if strings.Contains(text, known.part) {
			return known.reason, known.hint
		}
	}
	text = strings.TrimPrefix(text, "connection error: desc = ")
	return "no connection: " + strings.Trim(text, `"`), ""
}

// connectReasons is looked through in order; the first match counts.
var connectReasons = []struct{ part, reason, hint string }{
	{"connection refused", "connection refused", hintUp},
	{"no such host", "unknown host", hintName},
	{"server misbehaving", "the host name cannot be resolved", hintName},
	{"Temporary failure in name resolution", "the host name cannot be resolved", hintName},
	{"no route to host", "no route to the host", hintUp},
	{"network is unreachable", "the network is unreachable", hintUp},
	{"i/o timeout", "the host does not answer", hintUp},
	{"*http2.GoAwayFrame", "the server takes no more connections: as many as its setting connections allows are open",
		"close clients that are not used, or raise the setting"},
	{"server preface", "the port speaks something else, or nothing at all", hintPort},
	{"frame too large", "the port speaks something else", hintPort},
	{"failed reading the frame payload", "the port speaks something else", hintPort},
	{"error reading from server: EOF", "the server closed the connection", ""},
	{"connection reset by peer", "the connection was reset", ""},
	{"broken pipe", "the connection broke", ""},
	{"keepalive ping failed", "the server fell silent", hintUp},
	{"the connection is draining", "the server is stopping", ""},
	{"graceful_stop", "the server is stopping", ""},
}
