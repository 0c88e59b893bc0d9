package actor

import (
	"cmp"
	"math"
	"strings"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/fault"
)

// fsck draws verdicts on the chunks below a path: one page, whose cost is bounded whatever the size of the tree.
func fsck(state *State, request *Fsck) (any, *fault.Error) {
	at := where{"fsck", request.Path}
	slot, err := state.find(at)
	if err != nil {
		return nil, err
	}
	if !state.step.Active {
		return nil, notActive(at.op)
	}
	state.effects.Reply.AfterTxid = state.step.Txid
	walk := &examination{state: state, replicas: state.replicas.Examine(), from: request.From, page: &FsckResult{},
		items:     int(min(cmp.Or(request.Limit, fsckItemsPerPage), fsckItemsPerPage)),
		textBytes: fsckTextBytesPerPage}
	inode := state.tree.Inode(slot)
	if !inode.Directory() {
		walk.page.More = !walk.file(slot, request.Path, request.From.Chunk)
		return walk.page, nil
	}
	var rest []string
	if below, ok := strings.CutPrefix(request.From.Path, strings.TrimSuffix(request.Path, "/")+"/"); ok {
		rest = strings.Split(below, "/")
	}
	walk.page.More = !walk.directory(inode.ID(), request.Path, rest)
	return walk.page, nil
}

// examination is one page of a walk in the order of names, directories before what is in them.
type examination struct {
	state    *State
	replicas replicas.Examiner
	from     FsckCursor
	page     *FsckResult
	// items and textBytes are what the page may still hold.
	items, textBytes int
}

// directory examines what is below one; rest are the names of the cursor below it. False: the page is full.
func (e *examination) directory(id uint64, path string, rest []string) (more bool) {
	start, below := "", []string(nil)
	if len(rest) > 0 {
		start, below = rest[0], rest[1:]
	}
	more = true
	e.state.tree.Children(id, start, func(name string, child namespace.InodeSlot) bool {
		visited := start != "" && name == start
		inode, full := e.state.tree.Inode(child), strings.TrimSuffix(path, "/")+"/"+name
		switch {
		case inode.Directory() && visited:
			more = e.directory(inode.ID(), full, below)
		case inode.Directory():
			e.page.Directories++
			more = e.spend(FsckCursor{Path: full}, 1) && e.directory(inode.ID(), full, nil)
		case visited && len(below) == 0:
			more = e.file(child, full, e.from.Chunk)
		default:
			more = e.file(child, full, 0)
		}
		return more
	})
	return more
}

// file examines the chunks of one from an index on.
func (e *examination) file(file namespace.InodeSlot, path string, from uint32) bool {
	inode := e.state.tree.Inode(file)
	if from > 0 && from >= inode.Chunks() {
		return true // the cursor stands behind it
	}
	found := FileHealth{Path: path, FileID: inode.ID(), Open: e.state.leases.Of(inode.ID()) != nil}
	more, next := true, from
	for slot := e.state.files.At(file, from); slot != 0 && more; slot = e.state.files.Chunk(slot).Next() {
		health := e.replicas.Chunk(slot)
		e.page.Chunks[health.Verdict]++
		if health.Verdict != replicas.Healthy {
			found.Chunks = append(found.Chunks, health)
		}
		found.Verdict = max(found.Verdict, health.Verdict)
		next = health.Index + 1
		more = e.spend(FsckCursor{Path: path, Chunk: next}, 1)
	}
	if next >= inode.Chunks() {
		more = e.spend(FsckCursor{Path: path, Chunk: math.MaxUint32}, 1)
	}
	if from == 0 {
		e.page.Files++
		e.page.Bytes += inode.Length()
	}
	if len(found.Chunks) > 0 {
		e.page.Found = append(e.page.Found, found)
		e.textBytes -= len(path)
	}
	return more && e.textBytes > 0
}

// spend notes how far the walk came. False: the page is full.
func (e *examination) spend(cursor FsckCursor, items int) bool {
	e.page.Next = cursor
	e.items -= items
	return e.items > 0
}
