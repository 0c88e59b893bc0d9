package client

import (
	"context"
	"errors"
	"iter"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/trash"
)

// userName is what a program's user is called where nothing else is said.
func userName() string {
	who, err := user.Current()
	if err != nil || limits.CheckName(who.Username) != "" {
		return "unknown"
	}
	return who.Username
}

// Deleted is a file or directory that was removed and is in the trash.
type Deleted struct {
	TrashPath string    // where it is
	Version   string    // of the removals; a later one of the same path has a higher name
	Removed   time.Time // to the minute
	Info      FileInfo  // Stat of TrashPath
}

// UndeleteOptions say what in the trash is meant.
type UndeleteOptions struct {
	User string // who removed it; default Options.User
	From string // a Deleted.Version; empty: all, and to be brought back the newest
}

// ListDeleted lists what the trash has of a path, the newest first. A directory may also be one that was made for what
// was removed below it. Error: fault.Invalid for "/" and bad paths, or that of a List or Stat, which ends the list.
func (c *Client) ListDeleted(ctx context.Context, path string,
	options UndeleteOptions) iter.Seq2[Deleted, error] {
	return func(yield func(Deleted, error) bool) {
		what := clean("list deleted", &path)
		if what.Invalid == nil && path == "/" {
			what.Invalid = &fault.Error{Kind: fault.Invalid, Op: what.Op, Path: path,
				Reason: "the root directory was never removed", Hint: "name what was removed; all is in " + trash.Root}
		}
		if options.User == "" {
			options.User = c.options.User
		}
		places, err := c.trashPlaces(ctx, options.User)
		if err = errors.Join(what.Invalid, err); err != nil {
			yield(Deleted{}, err)
			return
		}
		for _, place := range slices.Backward(places) {
			if options.From != "" && options.From != place.String() {
				continue
			}
			found := Deleted{TrashPath: place.Path(options.User, path), Version: place.String(), Removed: place.Minute}
			found.Info, err = c.Stat(ctx, found.TrashPath)
			if errors.Is(err, fault.NotFound) || errors.Is(err, fault.NotDirectory) {
				continue
			}
			if !yield(found, err) || err != nil {
				return
			}
		}
	}
}

// trashPlaces lists the places of a user's trash, the oldest first.
func (c *Client) trashPlaces(ctx context.Context, user string) (places []trash.Place, err error) {
	for entry, err := range c.List(ctx, trash.Of(user)) {
		if errors.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if place, ok := trash.ParsePlace(entry.Name); ok {
			places = append(places, place)
		}
	}
	return places, nil
}

// Undelete moves the newest of what the trash has of a path, or the version that o names, back to it, and makes missing
// directories on the way. Errors: fault.NotFound; fault.Exists if something is at the path; those of Mkdir and Rename.
func (c *Client) Undelete(ctx context.Context, path string, o UndeleteOptions) (Deleted, error) {
	const op = "undelete"
	what := clean(op, &path)
	if what.Invalid != nil {
		return Deleted{}, what.Invalid
	}
	for found, err := range c.ListDeleted(ctx, path, o) {
		if err != nil {
			return Deleted{}, err
		}
		if parent := path[:max(1, strings.LastIndexByte(path, '/'))]; parent != "/" {
			if err := c.Mkdir(ctx, parent, MkdirOptions{Parents: true}); err != nil {
				return Deleted{}, err
			}
		}
		return found, c.Rename(ctx, found.TrashPath, path, RenameOptions{})
	}
	return Deleted{}, &fault.Error{Kind: fault.NotFound, Op: op, Path: path, Reason: "the trash has nothing of it",
		Hint: "it may be another user's, or its time is over: see " + trash.Root}
}
