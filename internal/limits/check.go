package limits

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// The functions below say what is wrong with a value, in a phrase that a caller puts into its error; "" if nothing is.

// CheckReplication checks the replication of a file; 0 is for the caller, to whom it may mean a default.
func CheckReplication[T int | uint32](replication T) string {
	switch {
	case replication < 0:
		return fmt.Sprintf("replication %d is below zero", replication)
	case replication > ReplicationMax:
		return fmt.Sprintf("replication %d is above the limit of %d", replication, ReplicationMax)
	}
	return ""
}

// CheckChunkSize checks the chunk size of a file, in bytes.
func CheckChunkSize(size int64) string {
	if size < chunk.ChecksumBlockBytes || size > chunk.SizeMax || size%chunk.ChecksumBlockBytes != 0 {
		return fmt.Sprintf("chunk size %d: want a multiple of %d in %d..%d", size, chunk.ChecksumBlockBytes,
			chunk.ChecksumBlockBytes, chunk.SizeMax)
	}
	return ""
}

// CheckLength checks the length of a chunk, in bytes.
func CheckLength(length int64) string {
	if length < 0 || length > chunk.SizeMax {
		return fmt.Sprintf("a chunk of %d bytes; 0 to %d are possible", length, chunk.SizeMax)
	}
	return ""
}

// CheckCount checks the length of a list of what.
func CheckCount(what string, count, most int) string {
	if count > most {
		return fmt.Sprintf("%d %s, at most %d are allowed", count, what, most)
	}
	return ""
}

// TooMany is the error for a list of what that is longer than most.
func TooMany(op, what string, count, most int) *fault.Error {
	return fault.New(fault.Invalid, op, "%s", CheckCount(what, count, most))
}

// CheckText checks a text that is stored or shown.
func CheckText(what, text string, most int) string {
	if len(text) > most {
		return fmt.Sprintf("%s has %d bytes, at most %d", what, len(text), most)
	}
	if !utf8.ValidString(text) {
		return what + " is not valid UTF-8"
	}
	return ""
}

// CheckName checks one element of a path.
func CheckName(name string) string {
	switch {
	case name == "":
		return "an element is empty; names have 1 to 255 bytes and a path has no \"//\" and no \"/\" at its end"
	case len(name) > NameBytesMax:
		return fmt.Sprintf("an element has %d bytes, names have at most %d", len(name), NameBytesMax)
	case name == "." || name == "..":
		return fmt.Sprintf("an element is %q", name)
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == 0:
			return "an element contains a NUL byte"
		case c == '/':
			return "an element contains a slash"
		case c >= utf8.RuneSelf:
			if !utf8.ValidString(name[i:]) {
				return "an element is not valid UTF-8"
			}
			if strings.IndexByte(name[i:], 0) >= 0 {
				return "an element contains a NUL byte"
			}
			if strings.IndexByte(name[i:], '/') >= 0 {
				return "an element contains a slash"
			}
			return ""
		}
	}
	return ""
}

// CheckPath refuses a path that no request may name: one that is not absolute, clean and within the limits. Of a
// long path the error shows the beginning. Errors: fault.Invalid.
func CheckPath(op, path string) *fault.Error {
	var reason string
	switch {
	case path == "" || path[0] != '/':
		reason = "the path does not begin with \"/\""
	case len(path) > PathBytesMax:
		reason = fmt.Sprintf("the path has %d bytes, at most %d are allowed", len(path), PathBytesMax)
		path = path[:64] + "…"
	case path == "/":
		return nil
	case strings.Count(path, "/") > PathElementsMax:
		reason = fmt.Sprintf("the path has %d elements, at most %d are allowed",
			strings.Count(path, "/"), PathElementsMax)
		path = path[:64] + "…"
	default:
		for rest := path[1:]; ; {
			name, after, more := strings.Cut(rest, "/")
			if reason = CheckName(name); reason != "" || !more {
				break
			}
			rest = after
		}
	}
	if reason == "" {
		return nil
	}
	return &fault.Error{Kind: fault.Invalid, Op: op, Path: path, Reason: reason}
}

// Clip shortens a text for people to most bytes.
func Clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}
