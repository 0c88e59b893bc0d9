// Package fault is the one error type that crosses package and process borders. An Error says what was tried, on
// what, where, why it failed and what to do. Branch on its Kind with errors.Is, never on its text.
//
// The package owns no state and runs no goroutine.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind is why an operation failed. The numbers are part of the wire formats
// and equal controlpb.ErrorKind; they are never reused.
type Kind uint8

// Kinds.
const (
	Invalid         Kind = 1  // the request itself is bad
	NotFound        Kind = 2  // no such file, directory, chunk or replica
	Exists          Kind = 3  // the target is there already
	NotDirectory    Kind = 4  // a path element is a file
	IsDirectory     Kind = 5  // a file was wanted
	NotEmpty        Kind = 6  // the directory has entries
	LeaseHeld       Kind = 7  // another client writes the file
	LeaseLost       Kind = 8  // the caller no longer holds the lease
	SafeMode        Kind = 9  // the namenode waits for chunk reports
	TooFewNodes     Kind = 10 // not enough datanodes to place on
	StaleGeneration Kind = 11 // the replica or request is fenced
	NotActive       Kind = 12 // this namenode does not serve
	Fenced          Kind = 13 // a higher epoch exists
	Gap             Kind = 14 // the log got an unexpected txid
	Busy            Kind = 15 // a bounded queue or budget is full
	CorruptData     Kind = 16 // bytes do not match their checksum
	Unavailable     Kind = 17 // a peer does not answer
	Version         Kind = 18 // no common protocol version
	Disk            Kind = 19 // an I/O error
	NoSpace         Kind = 20 // the disk or its reserve is full
	Protocol        Kind = 21 // a peer broke the protocol
	Internal        Kind = 22 // a bug of ours
	Closed          Kind = 23 // the thing was closed or is shutting down
)

var names = [...]string{
	Invalid: "invalid request", NotFound: "not found", Exists: "already exists",
	NotDirectory: "not a directory", IsDirectory: "is a directory", NotEmpty: "directory not empty",
	LeaseHeld: "lease held by another client", LeaseLost: "lease lost", SafeMode: "namenode in safe mode",
	TooFewNodes: "too few datanodes", StaleGeneration: "stale generation", NotActive: "namenode not active",
	Fenced: "fenced by a higher epoch", Gap: "unexpected txid", Busy: "busy", CorruptData: "corrupt data",
	Unavailable: "unavailable", Version: "unsupported version", Disk: "disk error", NoSpace: "no space left",
	Protocol: "protocol violation", Internal: "internal error", Closed: "closed",
}

// String names the kind in words.
func (k Kind) String() string {
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprintf("fault kind %d", uint8(k))
}

// Error makes a bare Kind usable as a sentinel: errors.Is(err, fault.NotFound).
func (k Kind) Error() string { return k.String() }

// Class says what a caller can do about an error.
type Class uint8

// Classes.
const (
	Permanent  Class = iota // trying again gives the same answer
	Retryable               // trying again later, or elsewhere, may work
	Corruption              // read another replica, report this one
)

// ClassOf decides, for the whole project, what a retry can do about err. An error of no Kind is permanent.
func ClassOf(err error) Class {
	switch KindOf(err) {
	case SafeMode, NotActive, Busy, Unavailable, TooFewNodes, Fenced:
		return Retryable
	case CorruptData:
		return Corruption
	}
	return Permanent
}

// Error is a failure with everything a person needs to act on it. Unset fields are left out of the text.
type Error struct {
	Kind    Kind
	Op      string // "put", "add chunk", "read chunk"
	Path    string
	Chunk   string
	Node    string // node id of the peer concerned
	Address string // host:port of the peer concerned
	Reason  string // what was asked, what the limit is
	Hint    string // what to do
	Holder  string // LeaseHeld: who
	Since   time.Time
	Err     error // cause
}

// New makes an error of a kind with a formatted reason.
func New(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Reason: fmt.Sprintf(format, args...)}
}

// Error is "op: path: chunk: reason: cause (node, address) — hint".
func (e *Error) Error() string {
	var text strings.Builder
	part := func(s string) {
		if s == "" {
			return
		}
		if text.Len() > 0 {
			text.WriteString(": ")
		}
		text.WriteString(s)
	}
	part(e.Op)
	if e.Path != "" {
		part(fmt.Sprintf("%q", e.Path))
	}
	if e.Chunk != "" {
		part("chunk " + e.Chunk)
	}
	if e.Reason != "" {
		part(e.Reason)
	} else {
		part(e.Kind.String())
	}
	if e.Holder != "" {
		part("held by " + e.Holder)
		if !e.Since.IsZero() {
			text.WriteString(" since " + e.Since.UTC().Format(time.RFC3339))
		}
	}
	if e.Err != nil {
		part(e.Err.Error())
	}
	switch {
	case e.Node != "" && e.Address != "":
		fmt.Fprintf(&text, " (node %s, %s)", e.Node, e.Address)
	case e.Node != "":
		fmt.Fprintf(&text, " (node %s)", e.Node)
	case e.Address != "":
		fmt.Fprintf(&text, " (%s)", e.Address)
	}
	if e.Hint != "" {
		text.WriteString(" — " + e.Hint)
	}
	return text.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches the error's Kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf finds the Kind of the outermost Error or Kind in err's chain; 0 if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return 0
}

// Outermost returns err as an Error if err itself is one, and not only something that it wraps, so that whoever changes
// a field loses nothing that was said around it.
func Outermost(err error) (*Error, bool) {
	e, ok := err.(*Error) //nolint:errorlint // what wraps a fault must not be lost
	return e, ok
}

// WithPath adds to err, which may be about a file id or a chunk, which file it concerns. An error that names a path, or
// is no Error itself, stays as it is.
func WithPath(err error, path string) error {
	if e, ok := Outermost(err); ok && e.Path == "" {
		copied := *e
		copied.Path = path
		return &copied
	}
	return err
}
