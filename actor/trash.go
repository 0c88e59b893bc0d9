package actor

import (
	"strconv"
	"time"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/trash"
)

// toTrash moves what a Remove names to its user's trash, with one record.
//
// A place holds what was removed in one minute, and never a mixture: nothing is moved below a directory that was itself
// moved there, nor to a path that is taken; then the next version begins. Nothing goes into a version before the last
// one, so of one path the higher version is the later one.
func toTrash(state *State, at where, inode *namespace.Inode, user string) (any, *fault.Error) {
	const hint = "remove it for good (ww rm --skip-trash)"
	reason := limits.CheckName(user)
	if user == trash.ExpiredName {
		reason = "the name is reserved"
	}
	if reason != "" {
		return nil, at.refuse(fault.Invalid, "", "user: %s", reason)
	}
	place := trash.At(state.step.Now)
	place.Version = lastVersion(state, user, place)
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
		case target.Existing != 0 || state.tree.BelowTrashed(target.Parent):
			blocked = nil
			continue
		}
		return state.log(&codec.TrashRecord{Prefix: state.prefix(), Inode: inode.ID(), SourceParent: inode.Parent(),
			Parent: state.tree.Inode(target.Parent).ID(), FirstID: state.tree.NextID(),
			Made: uint32(len(target.Directories)), Path: path})
	}
	if blocked != nil {
		return nil, blocked
	}
	return nil, at.refuse(fault.Busy, hint+", or try again in a minute",
		"it was removed %d times within this minute", trash.VersionsMax)
}

// lastVersion is the highest version that a user's trash has of a minute, at least 1.
func lastVersion(state *State, user string, place trash.Place) int {
	version, seen := 1, 0
	last := trash.Place{Minute: place.Minute, Version: trash.VersionsMax}.String()
	if trashed := state.tree.Lookup(trash.Of(user)); trashed.Found {
		state.tree.ChildrenBefore(state.tree.Inode(trashed.Slot).ID(), last, func(name string) bool {
			found, ok := trash.ParsePlace(name)
			if ok && found.Minute.Equal(place.Minute) {
				version = found.Version
			}
			seen++
			return !ok && seen < trashNamesPerTick
		})
	}
	return version
}

// reserved refuses to make something in the trash: only removals do, and what else is there would be deleted or mixed
// with it.
func reserved(at where) *fault.Error {
	if !trash.Within(at.path) {
		return nil
	}
	return at.refuse(fault.Invalid, "choose another path", "%s is for what was removed: nothing else can be put there",
		trash.Root)
}

// expired refuses to use what is being deleted, of which a part may be gone already.
func expired(at where) *fault.Error {
	if !trash.Expired(at.path) {
		return nil
	}
	return at.refuse(fault.NotFound, "", "its time in the trash is over: it is being deleted")
}

// expiry is how far the deletion of what was in the trash for long enough is. It is not durable: a namenode that takes
// over begins at the first user.
type expiry struct {
	user, place string // the next names to look at
	condemned   string // the next one of those that are being deleted
}

// expireTrash deletes what was removed longer than Config.TrashExpiry ago, with ordinary records.
//
// First a place moves to trash.ExpiredPath, whole, in one step: who brings something back at that time gets all of it
// or nothing. There it is deleted piece by piece, so that a step is short however much there is. A file that is still
// written is recovered before: its writer hears that it lost its lease, instead of getting acknowledgements for a file
// that goes in the next moment.
func expireTrash(state *State) {
	discardExpired(state)
	root := state.tree.Lookup(trash.Root)
	if state.config.TrashExpiry <= 0 || !root.Found {
		return
	}
	for _, place := range overdue(state, state.tree.Inode(root.Slot).ID()) {
		condemn(state, place)
	}
}

// entry of a directory.
type entry struct {
	name string
	slot namespace.InodeSlot
}

// overdue goes on through the names in all users' trash, and collects the places whose time is over. Names that are no
// places are somebody else's.
func overdue(state *State, root uint64) (places []entry) {
	at, users := &state.expiry, make([]entry, 0, trashUsersPerTick)
	state.tree.Children(root, at.user, func(name string, slot namespace.InodeSlot) bool {
		users = append(users, entry{name, slot})
		return len(users) < trashUsersPerTick
	})
	seen := 0
	for _, user := range users {
		if user.name != at.user {
			at.user, at.place = user.name, ""
		}
		if user.name == trash.ExpiredName {
			continue
		}
		directory := state.tree.Inode(user.slot).ID()
		state.tree.Children(directory, at.place, func(name string, slot namespace.InodeSlot) bool {
			if at.place = name; seen == trashNamesPerTick {
				return false
			}
			seen++
			place, ok := trash.ParsePlace(name)
			over := ok && state.step.Now >= place.Minute.Add(time.Minute+state.config.TrashExpiry).UnixMilli()
			if over {
				places = append(places, entry{name, slot})
			}
			return !ok || over // later ones follow
		})
		if seen == trashNamesPerTick {
			return places // it goes on with this user
		}
	}
	if len(users) < trashUsersPerTick {
		*at = expiry{condemned: at.condemned}
		return places
	}
	at.user, at.place = at.user+"\x00", "" // the first name behind it
	return places
}

// condemn moves something to where it is deleted, under a name that nothing else has.
func condemn(state *State, what entry) {
	id, source := state.tree.Inode(what.slot).ID(), state.tree.Inode(what.slot).Parent() // it may move in memory
	target, err := state.tree.FindTarget("expire", trash.ExpiredPath+"/"+strconv.FormatUint(id, 10), true)
	if err != nil || target.Existing != 0 {
		return // a file stands in the way, or it is there
	}
	parent := state.tree.Inode(target.Parent).ID()
	if len(target.Directories) > 0 {
		first := state.tree.NextID()
		if _, err := state.log(&codec.MkdirRecord{Prefix: state.ownPrefix(), Parent: parent, FirstID: first,
			Names: target.Directories}); err != nil {
			return
		}
		parent = first
	}
	_, _ = state.log(&codec.RenameRecord{Prefix: state.ownPrefix(), Inode: id, SourceParent: source,
		SourceName: what.name, TargetParent: parent, TargetName: target.Name})
}

// discardExpired deletes what condemn moved, as far as a tick's budget goes.
func discardExpired(state *State) {
	walk := state.tree.Lookup(trash.ExpiredPath)
	if !walk.Found {
		return
	}
	directory := *state.tree.Inode(walk.Slot)
	if directory.Directory() && directory.Length() == 0 {
		_, name := namespace.SplitPath(trash.ExpiredPath)
		_, _ = state.log(&codec.RemoveRecord{Prefix: state.ownPrefix(), Inode: directory.ID(),
			Parent: directory.Parent(), Name: name})
		return
	}
	var condemned []entry
	state.tree.Children(directory.ID(), state.expiry.condemned, func(name string, slot namespace.InodeSlot) bool {
		condemned = append(condemned, entry{name, slot})
		return len(condemned) < expiredPerTick
	})
	budget := expiredPerTick
	for _, top := range condemned {
		if state.expiry.condemned = top.name; budget <= 0 {
			return
		}
		discard(state, top, &budget)
	}
	if len(condemned) < expiredPerTick && budget > 0 {
		state.expiry.condemned = ""
	}
}

// discard deletes an entry, after all that is below it, as far as the budget goes. It finds its way anew each time.
func discard(state *State, top entry, budget *int) {
	for way := []entry{top}; len(way) > 0 && *budget > 0; {
		last := way[len(way)-1]
		inode := *state.tree.Inode(last.slot)
		if inode.Directory() && inode.Length() > 0 {
			state.tree.Children(inode.ID(), "", func(name string, slot namespace.InodeSlot) bool {
				way = append(way, entry{name, slot})
				return false
			})
			continue
		}
		way = way[:len(way)-1]
		if !inode.Directory() && !released(state, last.slot) {
			if len(way) > 0 { // the others need not wait for it
				condemn(state, last)
			}
			*budget--
			continue
		}
		inode = *state.tree.Inode(last.slot) // a recovery may have cut it
		var record codec.Record = &codec.RemoveRecord{Prefix: state.ownPrefix(), Inode: inode.ID(),
			Parent: inode.Parent(), Name: last.name}
		if keep := int(inode.Chunks()) - *budget; keep > 0 && state.leases.Of(inode.ID()) == nil {
			record = &codec.TruncateRecord{Prefix: state.ownPrefix(), File: inode.ID(), Name: last.name,
				Length: int64(keep) * inode.ChunkSize()}
		}
		*budget -= 1 + int(inode.Chunks())
		if _, err := state.log(record); err != nil {
			return
		}
	}
}

// released reports whether a file that is to be deleted has no writer any more. If it has one, its lease is taken over;
// after that it is deleted as soon as it is recovered, or cannot be for long.
func released(state *State, file namespace.InodeSlot) bool {
	id := state.tree.Inode(file).ID()
	lease := state.leases.Of(id)
	switch {
	case lease == nil:
		return true
	case lease.Recovering(): // one with many chunks cannot go piece by piece
		return state.tree.Inode(file).Chunks() <= expiredPerTick &&
			state.step.Now >= lease.Since+state.config.LeaseHardLimit.Milliseconds()
	}
	state.step.Emit(step.Event{Kind: step.EventLeaseExpired, FileID: id, Text: lease.HolderName()})
	closed, err := state.takeOver(file, state.ownPrefix())
	return closed && err == nil
}
