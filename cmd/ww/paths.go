package main

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"strings"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/internal/fault"
)

// remote turns an argument into a path of the cluster. Outside of the prompt
// it has to be absolute; ".." is left for the rules on names to refuse.
func (a *app) remote(argument string) (string, error) {
	switch {
	case argument == "":
		return "", usage("the remote path is empty")
	case strings.HasPrefix(argument, "/"):
		if trimmed := strings.TrimRight(argument, "/"); trimmed != "" {
			return trimmed, nil
		}
		return "/", nil
	case a.shell:
		return path.Join(a.directory, argument), nil
	}
	return "", &fault.Error{Kind: fault.Invalid, Path: argument, Reason: "a remote path begins with /",
		Hint: "write \"/" + argument + "\""}
}

func (a *app) remotes(arguments []string) ([]string, error) {
	paths := make([]string, len(arguments))
	for i, argument := range arguments {
		var err error
		if paths[i], err = a.remote(argument); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// pair gives every source its target, as cp does: below the target if that is a directory, else under the target's
// own name. isDirectory says what the target is; it is asked once.
func pairs(sources []string, target string, baseOf func(string) string, join func(...string) string,
	isDirectory func() (bool, error)) ([]transfer.Pair, error) {
	into, err := isDirectory()
	if err != nil {
		return nil, err
	}
	list := make([]transfer.Pair, len(sources))
	for i, source := range sources {
		list[i] = transfer.Pair{Source: source, Target: target}
		if into {
			if base := baseOf(source); base != "" {
				list[i].Target = join(target, base)
			}
		}
	}
	return list, nil
}

// remoteDirectory asks whether a transfer goes into the target: it exists as a
// directory, or has to be one because it ends with "/" or takes several sources.
func remoteDirectory(ctx context.Context, woods *client.Client, target, argument string, sources int,
	create bool) (bool, error) {
	must := sources > 1 || strings.HasSuffix(argument, "/")
	info, err := woods.Stat(ctx, target)
	switch {
	case err == nil && info.Directory:
		return true, nil
	case err == nil && must:
		return false, &fault.Error{Kind: fault.NotDirectory, Path: target, Reason: "is not a directory"}
	case err == nil:
		return false, nil
	case !errors.Is(err, fault.NotFound):
		return false, err
	case must && create:
		return true, woods.Mkdir(ctx, target, client.MkdirOptions{Parents: true})
	case must:
		return false, &fault.Error{Kind: fault.NotFound, Path: target, Reason: "there is no such directory",
			Hint: "make it: ww mkdir -p"}
	}
	return false, nil
}

// localBase is the name that a local source gets in a directory.
func localBase(source string) string {
	base := filepath.Base(filepath.Clean(source))
	if base == "." || base == ".." || base == "/" {
		if absolute, err := filepath.Abs(source); err == nil {
			base = filepath.Base(absolute)
		}
	}
	if base == "/" {
		return ""
	}
	return base
}

// remoteBase is the name that a remote source gets in a directory; "" for /.
func remoteBase(source string) string {
	if source == "/" {
		return ""
	}
	return path.Base(source)
}
