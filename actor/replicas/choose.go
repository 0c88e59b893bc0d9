package replicas

import (
	"fmt"
	"slices"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas/placement"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Chooser finds nodes for new replicas.
type Chooser struct {
	room       *Replicas
	policy     placement.Policy
	candidates []placement.Candidate // of the choice that is made
}

// choose places count replicas of a chunk on live nodes with room: on steady ones first, then on slow ones, then on
// those whose disks are suspect, unless the replicas would share racks for it. present are the racks of the replicas
// that exist already.
func (c *Chooser) choose(count int, size int64, exclude func(*node) bool, present []string) (nodes []datanode.Index) {
	c.room.step.Work += len(c.room.Nodes.all())
	c.candidates = c.candidates[:0]
	for _, n := range c.room.Nodes.all() {
		if n.takes(size) && !exclude(n) {
			c.candidates = append(c.candidates, n.candidate(c.room.step.Near))
		}
	}
	sound, suspect := c.withoutSuspect(count, present)
	fast, slow := c.withoutSlow(sound, count, present)
	for _, some := range [][]placement.Candidate{fast, slow, suspect} {
		if missing := count - len(nodes); missing > 0 {
			nodes = c.pick(nodes, some, missing, slices.Concat(present, c.room.Nodes.racks(nodes)))
		}
	}
	return nodes
}

// pick adds up to count of the candidates.
func (c *Chooser) pick(nodes []datanode.Index, candidates []placement.Candidate, count int,
	present []string) []datanode.Index {
	if len(candidates) == 0 {
		return nodes
	}
	for _, at := range c.policy.Choose(candidates, count, present, &c.room.step.Random) {
		nodes = append(nodes, candidates[at].Index)
		c.room.Nodes.place(candidates[at].Index)
	}
	return nodes
}

// withoutSuspect sets the nodes apart all of whose disks are suspect; not if they are more than half: then it is the
// load that makes them so, and the others could not bear all of it.
func (c *Chooser) withoutSuspect(count int, present []string) (sound, suspect []placement.Candidate) {
	sound, suspect = setApart(c.candidates, count, present, func(n placement.Candidate) bool {
		return c.room.Nodes.at(n.Index).suspect()
	})
	if len(suspect) > len(sound) {
		return c.candidates, nil
	}
	return sound, suspect
}

// withoutSlow sets slow nodes apart.
func (c *Chooser) withoutSlow(candidates []placement.Candidate, count int,
	present []string) (fast, slow []placement.Candidate) {
	var free, capacity int64
	for _, n := range candidates {
		if !c.room.Slowness.of(n.Index) {
			free, capacity = free+n.FreeBytes, capacity+n.CapacityBytes
		}
	}
	if capacity == 0 { // all of them are slow
		return candidates, nil
	}
	othersFree := float64(free) / float64(max(capacity, 1))
	return setApart(candidates, count, present, func(n placement.Candidate) bool {
		return c.room.Slowness.avoided(&n, othersFree)
	})
}

// setApart parts the candidates that had better be chosen last from the others; not if count replicas would share more
// racks without them.
func setApart(candidates []placement.Candidate, count int, present []string,
	last func(placement.Candidate) bool) (good, rest []placement.Candidate) {
	first := slices.IndexFunc(candidates, last)
	if first < 0 {
		return candidates, nil
	}
	good = slices.Clone(candidates[:first])
	for _, n := range candidates[first:] {
		if last(n) {
			rest = append(rest, n)
		} else {
			good = append(good, n)
		}
	}
	if newRacks(good, present) < min(count, newRacks(candidates, present)) {
		return candidates, nil
	}
	return good, rest
}

// newRacks counts the racks of candidates that hold no replica yet.
func newRacks(candidates []placement.Candidate, present []string) int {
	racks := make(map[string]bool)
	for i := range candidates {
		racks[candidates[i].Rack] = !slices.Contains(present, candidates[i].Rack)
	}
	total := 0
	for _, empty := range racks {
		total += int(count(empty))
	}
	return total
}

// Wish is what a writer asks for: Count chunks of Size bytes at most, each on
// Replication nodes, none of those in Exclude or Avoid if it can be helped.
type Wish struct {
	Count, Replication int
	Size               int64 // bytes
	Exclude, Avoid     []string
	Strict             bool // rather none than those in Exclude
}

// Possible refuses a replication above the usual one that no datanodes are known for: a mistake, not a fault.
func (c *Chooser) Possible(op, path string, replication, usual int) *fault.Error {
	if replication <= max(usual, len(c.room.Nodes.all())) {
		return nil
	}
	return c.tooFewNodes(op, path, fmt.Sprintf("replication %d needs as many datanodes", replication))
}

// EnoughNodes refuses what a writer begins when the live nodes cannot hold as many copies as it needs to be
// acknowledged. Soon after this namenode's start it waits for nodes that may return any moment.
func (c *Chooser) EnoughNodes(op, path string, replication int) *fault.Error {
	live, least := 0, c.room.CopiesLeast(replication)
	for _, n := range c.room.Nodes.all() {
		live += int(count(n.live() && n.serves()))
	}
	if live >= replication {
		return nil
	}
	if awaited := c.room.Nodes.Awaited(); awaited != "" && (live < least || c.room.Nodes.Joining(nil)) {
		return &fault.Error{Kind: fault.SafeMode, Op: op, Path: path,
			Reason: fmt.Sprintf("the namenode started a moment ago, and only %d of %d datanodes that it needs have "+
				"registered; it waits for %s", live, replication, awaited),
			Hint: "try again in a moment"}
	}
	if live >= least {
		return nil
	}
	return c.tooFewNodes(op, path, fmt.Sprintf("replication %d needs at least %d datanodes", replication, least))
}

func (c *Chooser) tooFewNodes(op, path, want string) *fault.Error {
	var live, away []string
	for _, n := range c.room.Nodes.all() {
		if n.live() && n.serves() {
			live = append(live, n.describe())
		} else {
			away = append(away, n.describe())
		}
	}
	reason := fmt.Sprintf("%s, %d %s live", want, len(live), verb(len(live), "is", "are"))
	if len(live) > 0 {
		reason += ": " + joinSome(live)
	}
	if len(away) > 0 {
		reason += fmt.Sprintf("; %d %s away: %s", len(away), verb(len(away), "is", "are"), joinSome(away))
	}
	return &fault.Error{Kind: fault.TooFewNodes, Op: op, Path: path, Reason: reason,
		Hint: "start more datanodes, ask for a lower replication, or lower namenode.write_copies_min"}
}

func verb(subjects int, one, many string) string {
	if subjects == 1 {
		return one
	}
	return many
}

// Place allocates chunks. A chunk gets fewer nodes than the file wants if no more are live, have room and are not
// excluded, but never fewer than a writer needs; it is repaired once sealed.
func (c *Chooser) Place(op, path string, wish Wish) ([]codec.Placement, *fault.Error) {
	if wish.Count == 0 {
		return nil, nil
	}
	least := c.room.CopiesLeast(wish.Replication)
	if err := c.enoughRoom(op, path, wish, least); err != nil {
		return nil, err
	}
	placements := make([]codec.Placement, 0, wish.Count)
	for range wish.Count {
		nodes := c.chooseNew(&wish)
		if len(nodes) < least {
			return nil, c.tooFewNodes(op, path, fmt.Sprintf("without those that the writer excludes, "+
				"there are not %d datanodes for a chunk", least))
		}
		random := &c.room.step.Random
		id := random.ChunkID(c.room.step.Now)
		for c.room.files.Find(id) != 0 {
			id = random.ChunkID(c.room.step.Now)
		}
		placements = append(placements, codec.Placement{ID: id, Nodes: nodes})
	}
	return placements, nil
}

// enoughRoom refuses a chunk that too few live nodes have room for, and says how much the others have.
func (c *Chooser) enoughRoom(op, path string, wish Wish, least int) *fault.Error {
	roomy := 0
	var full []string
	for _, n := range c.room.Nodes.all() {
		switch {
		case n.takes(wish.Size):
			roomy++
		case n.live() && n.serves():
			full = append(full, n.describeRoom())
		}
	}
	if roomy >= least {
		return nil
	}
	reason := fmt.Sprintf("replication %d is asked for, %d live %s room for %d bytes above datanode.reserve",
		wish.Replication, roomy, verb(roomy, "datanode has", "datanodes have"), wish.Size)
	if len(full) > 0 {
		reason += ": " + joinSome(full)
	}
	return &fault.Error{Kind: fault.NoSpace, Op: op, Path: path, Reason: limits.Clip(reason, limits.ReasonBytesMax),
		Hint: "add datanodes or disks, remove files, or lower datanode.reserve"}
}

// chooseNew chooses the nodes of a new chunk; excluded and avoided ones only if it would have fewer than the file
// wants: one that is slow, or failed a writer lately, and is live, is better than a copy that is missing.
func (c *Chooser) chooseNew(wish *Wish) []datanode.Index {
	excluded := func(n *node) bool { return slices.Contains(wish.Exclude, n.id) }
	unwanted := func(n *node) bool { return excluded(n) || slices.Contains(wish.Avoid, n.id) }
	nodes := c.choose(wish.Replication, wish.Size, unwanted, nil)
	if missing := wish.Replication - len(nodes); missing > 0 && len(wish.Exclude)+len(wish.Avoid) > 0 {
		nodes = append(nodes, c.choose(missing, wish.Size,
			func(n *node) bool { return !unwanted(n) || wish.Strict && excluded(n) }, c.room.Nodes.racks(nodes))...)
	}
	return nodes
}

// Replace finds nodes with room for size bytes for a broken pipeline, in the place of those that failed.
func (c *Chooser) Replace(slot namespace.ChunkSlot, survivors []datanode.Index, failed []string,
	size int64) []datanode.Index {
	inode := c.room.files.Inode(c.room.files.Chunk(slot))
	missing := inode.Replication() - len(survivors)
	if missing <= 0 {
		return nil
	}
	holders := c.room.OpenChunks.Holders(slot)
	choose := func(outdated bool) []datanode.Index {
		return c.choose(missing, size, func(n *node) bool {
			return slices.Contains(failed, n.id) || slices.Contains(holders, n.index) ||
				c.room.holds(n.index, slot) && !(outdated && c.room.OpenChunks.outdated(slot, n.index))
		}, c.room.Nodes.racks(survivors))
	}
	// While there is but one good replica, an older one is the last resort: it goes only if it is in the way.
	nodes := choose(len(survivors) >= min(2, inode.Replication()))
	if len(nodes) == 0 {
		nodes = choose(true)
	}
	return nodes
}

// Spare counts the nodes that could take another replica of a chunk, up to so many: those without one, and those with
// an older one, whose place a copy may take once there are enough others.
func (c *Chooser) Spare(slot namespace.ChunkSlot, most int) (spare int) {
	record := c.room.files.Chunk(slot)
	size, open := record.Length(), record.Open()
	var holders []datanode.Index
	if open {
		size, holders = c.room.files.Inode(record).ChunkSize(), c.room.OpenChunks.Holders(slot)
	}
	for _, n := range c.room.Nodes.all() {
		c.room.step.Work++
		if spare == most {
			break
		}
		if !n.takes(size) || slices.Contains(holders, n.index) {
			continue
		}
		spare += int(count(!c.room.holds(n.index, slot) || open && c.room.OpenChunks.outdated(slot, n.index) ||
			!open && c.room.stale(n.index, slot)))
	}
	return spare
}
