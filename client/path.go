package client

import (
	"strings"
	"unicode/utf8"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// CleanPath checks an absolute path and returns its one form: "//" becomes "/" and a trailing "/" goes. "." and ".."
// are refused, not resolved. Error: fault.Invalid, saying which element is bad and why.
func CleanPath(path string) (string, error) { return cleanPath("check path", path) }

// clean puts the path of a call into its one form, in place. A call with a bad path is not made.
func clean(op string, path *string) namenode.Call {
	cleaned, err := cleanPath(op, *path)
	if err == nil {
		*path = cleaned
	}
	return namenode.Call{Op: op, Path: cleaned, Invalid: err}
}

func cleanPath(op, path string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		e := fault.New(fault.Invalid, op, format, args...)
		if e.Path = path; len(path) > 200 {
			e.Path = strings.ToValidUTF8(path[:200], "?") + "…"
		}
		return "", e
	}
	if path == "" {
		return refuse("the path is empty")
	}
	if path[0] != '/' {
		return refuse("the path is not absolute: it has to begin with \"/\"")
	}
	var clean strings.Builder
	elements := 0
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch {
		case name == "":
			continue
		case name == "." || name == "..":
			return refuse("element %q is not a name", name)
		case len(name) > limits.NameBytesMax:
			return refuse("element %q… has %d bytes, at most %d are allowed", strings.ToValidUTF8(name[:32], "?"),
				len(name), limits.NameBytesMax)
		case strings.IndexByte(name, 0) >= 0:
			return refuse("element %q holds a NUL byte", name)
		case !utf8.ValidString(name):
			return refuse("element %q is not valid UTF-8", name)
		}
		if elements++; elements > limits.PathElementsMax {
			return refuse("the path has more than %d elements", limits.PathElementsMax)
		}
		clean.WriteByte('/')
		clean.WriteString(name)
	}
	if elements == 0 {
		return "/", nil
	}
	return clean.String(), nil
}

// childPath is the path of an entry of a clean directory path.
func childPath(directory, name string) string {
	if directory == "/" {
		return "/" + name
	}
	return directory + "/" + name
}
