package namespace

import "strings"

// SplitPath cuts a checked path in its parent ("/" at least) and last element ("" for the root).
func SplitPath(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	if i == 0 {
		return "/", path[1:]
	}
	return path[:i], path[i+1:]
}

// Within reports whether path is directory or lies below it.
func Within(path, directory string) bool {
	return path == directory || directory == "/" ||
		len(path) > len(directory) && path[len(directory)] == '/' && path[:len(directory)] == directory
}
