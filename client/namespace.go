package client

import (
	"cmp"
	"context"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Stat describes the file or directory at path. Error: fault.NotFound.
func (c *Client) Stat(ctx context.Context, path string) (FileInfo, error) {
	what := clean("stat", &path)
	a, err := namenode.Ask(ctx, c.namenode, what, controlpb.NamenodeClient.Stat, &controlpb.StatRequest{Path: path})
	info := fileInfo(path, a.GetInfo())
	info.LeaseHolder = a.GetLeaseHolder()
	if ms := a.GetLeaseSinceUnixMs(); ms != 0 {
		info.LeaseSince = time.UnixMilli(ms)
	}
	return info, err
}

// ReadDir returns all entries of a directory in the order of their names. Errors: fault.NotFound, fault.NotDirectory.
func (c *Client) ReadDir(ctx context.Context, path string) ([]FileInfo, error) {
	var all []FileInfo
	for info, err := range c.List(ctx, path) {
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

// List yields the entries of a directory in the order of their names, asking for page after page: each page is
// consistent, the whole listing is not. An error ends it and comes with a zero FileInfo. Errors: fault.NotFound,
// fault.NotDirectory.
func (c *Client) List(ctx context.Context, path string) iter.Seq2[FileInfo, error] {
	return func(yield func(FileInfo, error) bool) {
		path := path // each run of the sequence has its own
		what := clean("list", &path)
		for after := ""; ; {
			page, err := namenode.Ask(ctx, c.namenode, what, controlpb.NamenodeClient.List,
				&controlpb.ListRequest{Path: path, After: after, Limit: listPage})
			if err != nil {
				yield(FileInfo{}, err)
				return
			}
			for _, entry := range page.GetEntries() {
				if !yield(fileInfo(childPath(path, entry.GetName()), entry), nil) {
					return
				}
				after = entry.GetName()
			}
			if !page.GetMore() {
				return
			}
			if len(page.GetEntries()) == 0 {
				yield(FileInfo{}, &fault.Error{Kind: fault.Protocol, Op: what.Op, Path: path,
					Reason: "the namenode sent an empty page and says there is more"})
				return
			}
		}
	}
}

// Mkdir makes a directory. Errors: fault.Exists, fault.NotFound for a missing parent, fault.NotDirectory.
func (c *Client) Mkdir(ctx context.Context, path string, o MkdirOptions) error {
	what := clean("mkdir", &path)
	_, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.Mkdir,
		&controlpb.MkdirRequest{Header: &controlpb.MutationHeader{}, Path: path, Parents: o.Parents})
	return err
}

// Rename moves a file or directory in one step. Errors: fault.NotFound, fault.Exists, fault.Invalid for a move into
// itself.
func (c *Client) Rename(ctx context.Context, source, target string, options RenameOptions) error {
	what := clean("rename", &source)
	what.Invalid = cmp.Or(what.Invalid, clean(what.Op, &target).Invalid)
	_, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.Rename,
		&controlpb.RenameRequest{Header: &controlpb.MutationHeader{}, Source: source, Target: target,
			Overwrite: options.Overwrite})
	return err
}

// Remove deletes a file, an empty directory, or a whole tree, or moves it to the trash. Errors: fault.NotFound,
// fault.NotEmpty; with Trash also fault.Busy, fault.NotDirectory (something is in the way) and fault.Invalid (the path
// would be too long), which removing it for good avoids.
func (c *Client) Remove(ctx context.Context, path string, o RemoveOptions) (Removed, error) {
	what := clean("remove", &path)
	a, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.Remove,
		&controlpb.RemoveRequest{Header: &controlpb.MutationHeader{}, Path: path, Recursive: o.Recursive,
			ToTrash: o.Trash, User: c.options.User})
	return Removed{Files: int64(a.GetFiles()), Directories: int64(a.GetDirectories()), Bytes: a.GetBytes(),
		Trashed: a.GetTrashed(), TrashPath: a.GetTrashPath()}, err
}

// Truncate cuts a closed file to length and returns when its last chunk is cut on the datanodes too. If ctx ends
// earlier, the file is cut all the same. Errors: fault.NotFound, fault.IsDirectory, fault.Invalid for a length above
// the file's, fault.LeaseHeld.
func (c *Client) Truncate(ctx context.Context, path string, length int64) (FileInfo, error) {
	what := clean("truncate", &path)
	a, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.Truncate,
		&controlpb.TruncateRequest{Header: &controlpb.MutationHeader{}, Path: path, Length: length})
	if err != nil {
		return FileInfo{}, err
	}
	info := fileInfo(path, a.GetInfo())
	for wait := truncatePollFirst; !a.GetDone(); wait = min(2*wait, truncatePollMost) {
		if clock.Sleep(ctx, c.clock, wait) != nil {
			return FileInfo{}, lifetime.Ended(ctx, what.Op, path, nil)
		}
		now, err := c.Stat(ctx, path)
		if err != nil || !now.Open || now.FileID != info.FileID { // done, or the name is another file's by now
			return now, err
		}
	}
	return info, nil
}

// SetReplication changes how many copies a closed file has of each chunk; they are made and removed after the return.
// Errors: fault.NotFound, fault.IsDirectory, fault.Invalid, fault.LeaseHeld.
func (c *Client) SetReplication(ctx context.Context, path string, replication int) (FileInfo, error) {
	what := clean("set replication", &path)
	if reason := limits.CheckReplication(replication); reason != "" || replication == 0 {
		return FileInfo{}, &fault.Error{Kind: fault.Invalid, Op: what.Op, Path: path,
			Reason: cmp.Or(reason, "a file has at least one copy")}
	}
	a, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.SetReplication,
		&controlpb.SetReplicationRequest{Header: &controlpb.MutationHeader{}, Path: path,
			Replication: uint32(replication)})
	return fileInfo(path, a.GetInfo()), err
}

// AwaitReplication returns when the namenode knows of exactly as many replicas of each chunk of a file. The context
// bounds the wait.
func (c *Client) AwaitReplication(ctx context.Context, path string, replication int) error {
	for wait := truncatePollFirst; ; wait = min(2*wait, truncatePollMost) {
		chunks, err := c.Locate(ctx, path, 0, 0)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(chunks, func(l ChunkLocation) bool { return len(l.Replicas) != replication }) {
			return nil
		}
		if clock.Sleep(ctx, c.clock, wait) != nil {
			return lifetime.Ended(ctx, "await replication", path, nil)
		}
	}
}

// RecoverLease ends another client's lease on path at once, renewed or not, and closes the file at what its replicas
// hold, which is all that was flushed; its writer gets fault.LeaseLost. closed is false while that still runs: ask
// again. Errors: fault.NotFound, fault.IsDirectory.
func (c *Client) RecoverLease(ctx context.Context, path string) (closed bool, err error) {
	return c.namenode.RecoverLease(ctx, clean("recover lease", &path))
}

// Locate returns the chunks that hold [offset, offset+length) of a file, with their replicas, nearest first; length 0
// or less reaches to the end. It asks for page after page. Errors: fault.NotFound, fault.IsDirectory.
func (c *Client) Locate(ctx context.Context, path string, offset, length int64) ([]ChunkLocation, error) {
	chunks, err := c.locateAll(ctx, clean("locate", &path), offset, length)
	var all []ChunkLocation
	for _, located := range chunks {
		location := ChunkLocation{ID: located.ID, Generation: located.Generation, Index: located.Index,
			Offset: located.Offset, Length: located.Length, Open: located.Open}
		for _, r := range located.Replicas {
			location.Replicas = append(location.Replicas, Replica{NodeID: r.NodeID, Address: r.Address})
		}
		all = append(all, location)
	}
	return all, err
}

// locateAll is Locate for a clean path.
func (c *Client) locateAll(ctx context.Context, what namenode.Call, offset, length int64) ([]namenode.Chunk, error) {
	request := &controlpb.LocateRequest{Path: what.Path, Offset: max(offset, 0)}
	end := int64(math.MaxInt64)
	if length > 0 && length < end-request.Offset {
		end = request.Offset + length
		request.Length = length
	}
	var all []namenode.Chunk
	for {
		info, page, err := c.namenode.Locate(ctx, what, request)
		if err != nil || len(page) == 0 {
			return all, err
		}
		// By id from here on: a file put in this one's place must not be mixed in.
		request.Path, request.FileId = "", info.GetFileId()
		size := info.GetChunkSize()
		if all = append(all, page...); size <= 0 {
			return nil, fault.New(fault.Protocol, what.Op, "the namenode answers with chunks of %d bytes", size)
		}
		next := page[len(page)-1].Offset + size
		if next <= request.Offset || next >= end || (!info.GetOpen() && next >= info.GetLength()) {
			return all, nil
		}
		request.Offset = next
		if request.Length > 0 {
			request.Length = end - next
		}
	}
}
