package namespace

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/whispering-woods/ww/internal/fault"
)

// CheckName says what is wrong with one path element; "" if nothing is.
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

// CheckPath refuses a path that is not absolute, clean and within the limits.
func CheckPath(op, path string) *fault.Error {
	var reason string
	switch {
	case path == "" || path[0] != '/':
		reason = "the path does not begin with \"/\""
	case len(path) > pathBytesMax:
		return &fault.Error{Kind: fault.Invalid, Op: op, Path: path[:64] + "…",
			Reason: fmt.Sprintf("the path has %d bytes, at most %d are allowed", len(path), pathBytesMax)}
	case path == "/":
		return nil
	case strings.Count(path, "/") > pathElementsMax:
		reason = fmt.Sprintf("the path has %d elements, at most %d are allowed", strings.Count(path, "/"), pathElementsMax)
		path = path[:min(len(path), 64)] + "…"
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

// SplitPath cuts a checked path in its parent ("/" at least) and last element
// ("" for the root).
func SplitPath(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	if i == 0 {
		return "/", path[1:]
	}
	return path[:i], path[i+1:]
}

// Within tells whether path is directory or lies below it.
func Within(path, directory string) bool {
	return path == directory || directory == "/" ||
		len(path) > len(directory) && path[len(directory)] == '/' && path[:len(directory)] == directory
}
