package actor

import (
	"time"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/trash"
)

// toTrash moves what a Remove names to its user's trash. Two ordinary records do it: directories, then a rename. If
// only the first is durable, nothing was moved, and the empty directories go when their time is over.
func toTrash(state *State, at where, inode *namespace.Inode, user string) (any, *fault.Error) {
	const hint = "remove it for good (ww rm --skip-trash)"
	if reason := limits.CheckName(user); reason != "" {
		return nil, at.refuse(fault.Invalid, "", "user: %s", reason)
	}
	place := trash.At(state.step.Now)
	var blocked *fault.Error
	for ; place.Version <= trash.VersionsMax; place.Version++ {
		path := place.Path(user, at.path)
		target, err := state.tree.FindTarget(at.op, path, true)
		switch {
		case err != nil && err.Kind == fault.NotDirectory: // a file in the way: perhaps only of this version
			err.Hint = hint
			blocked = err
			continue
		case err != nil:
			err.Hint = hint
			return nil, err
		case target.Existing != 0:
			blocked = nil
			continue
		}
		return moveToTrash(state, at.path, path, inode, target)
	}
	if blocked != nil {
		return nil, blocked
	}
	return nil, at.refuse(fault.Busy, hint+", or try again in a minute",
		"it was removed %d times within this minute", trash.VersionsMax)
}

func moveToTrash(state *State, path, moved string, inode *namespace.Inode,
	target namespace.Target) (any, *fault.Error) {
	id, source := inode.ID(), inode.Parent() // the inode may move in memory
	parent := state.tree.Inode(target.Parent).ID()
	if len(target.Directories) > 0 {
		first := state.tree.NextID()
		if _, err := state.log(&codec.MkdirRecord{Prefix: state.ownPrefix(), Parent: parent, FirstID: first,
			Names: target.Directories}); err != nil {
			return nil, err
		}
		parent = first + uint64(len(target.Directories)) - 1
	}
	_, name := namespace.SplitPath(path)
	if _, err := state.log(&codec.RenameRecord{Prefix: state.prefix(), Inode: id, SourceParent: source,
		SourceName: name, TargetParent: parent, TargetName: target.Name}); err != nil {
		return nil, err
	}
	return &TrashedResult{Path: moved}, nil
}

// expiry deletes what was in the trash for long enough. How far it is, is not durable: a namenode that takes over
// begins at the first user.
type expiry struct {
	user string // the last one that was looked at
}

// expireTrash deletes what was removed longer than Config.TrashExpiry ago, entry by entry, each with an ordinary record
// of its own: a step is short however much there is.
func expireTrash(state *State) {
	root := state.tree.Lookup(trash.Root)
	if state.config.TrashExpiry <= 0 || !root.Found || !state.tree.Inode(root.Slot).Directory() {
		return
	}
	budget, seen, cursor := expiredPerTick, 0, &state.expiry
	var users []entry
	first, all := cursor.user, state.tree.Inode(root.Slot).ID()
	state.tree.Children(all, first, func(name string, slot namespace.InodeSlot) bool {
		if seen++; name != first {
			users = append(users, entry{name, slot})
		}
		return seen <= trashUsersPerTick
	})
	for _, user := range users {
		for budget > 0 {
			place, over := firstPlace(state, user.slot)
			if !over {
				break
			}
			discard(state, place, &budget)
		}
		if budget <= 0 {
			return // it goes on with this user
		}
		cursor.user = user.name
	}
	if seen <= trashUsersPerTick {
		cursor.user = ""
	}
}

// entry of a directory.
type entry struct {
	name string
	slot namespace.InodeSlot
}

// firstPlace is the oldest place of a user's trash; over: its time is. The names of places are in the order of time.
func firstPlace(state *State, user namespace.InodeSlot) (first entry, over bool) {
	seen := 0
	state.tree.Children(state.tree.Inode(user).ID(), "", func(name string, slot namespace.InodeSlot) bool {
		place, ok := trash.ParsePlace(name)
		if ok {
			first = entry{name, slot}
			over = state.step.Now >= place.Minute.Add(time.Minute+state.config.TrashExpiry).UnixMilli()
		}
		seen++
		return !ok && seen < trashNamesPerTick // what is no place is somebody else's
	})
	return first, over
}

// discard deletes an entry, after all that is below it, as far as the budget goes. It finds its way anew each time.
func discard(state *State, top entry, budget *int) {
	for way := []entry{top}; len(way) > 0 && *budget > 0; {
		last := way[len(way)-1]
		inode := state.tree.Inode(last.slot)
		if inode.Directory() && inode.Length() > 0 {
			state.tree.Children(inode.ID(), "", func(name string, slot namespace.InodeSlot) bool {
				way = append(way, entry{name, slot})
				return false
			})
			continue
		}
		*budget -= 1 + int(inode.Chunks())
		if _, err := state.log(&codec.RemoveRecord{Prefix: state.ownPrefix(), Inode: inode.ID(), Parent: inode.Parent(),
			Name: last.name}); err != nil {
			return
		}
		way = way[:len(way)-1]
	}
}
