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

// choose places count replicas of a chunk on live nodes with room. present are
// the racks of the replicas that exist already.
func (c *Chooser) choose(count int, size int64, exclude func(*node) bool, present []string) []datanode.Index {
	c.candidates = c.candidates[:0]
	for _, n := range c.room.Nodes.all() {
		if n.takes(size) && !exclude(n) {
			c.candidates = append(c.candidates, n.candidate(c.room.step.Near))
		}
	}
	if len(c.candidates) == 0 {
		return nil
	}
	chosen := c.policy.Choose(c.candidates, count, present, &c.room.step.Random)
	nodes := make([]datanode.Index, len(chosen))
	for i, at := range chosen {
		nodes[i] = c.candidates[at].Index
		c.room.Nodes.place(nodes[i])
	}
	return nodes
}

// Wish is what a writer asks for: Count chunks of Size bytes at most, each on
// Replication nodes, none of those in Exclude.
type Wish struct {
	Count, Replication int
	Size               int64 // bytes
	Exclude            []string
}

// EnoughNodes refuses a replication that the live nodes cannot hold.
func (c *Chooser) EnoughNodes(op, path string, replication int) *fault.Error {
	live := 0
	for _, n := range c.room.Nodes.all() {
		live += int(count(n.live()))
	}
	if live >= replication {
		return nil
	}
	return c.tooFewNodes(op, path, fmt.Sprintf("replication %d needs as many datanodes", replication))
}

func (c *Chooser) tooFewNodes(op, path, want string) *fault.Error {
	var live, away []string
	for _, n := range c.room.Nodes.all() {
		if n.live() {
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
		Hint: "start more datanodes, or ask for a lower replication"}
}

func verb(subjects int, one, many string) string {
	if subjects == 1 {
		return one
	}
	return many
}

// Place allocates chunks. Nodes without room are an error if too few others are
// left. Excluded nodes are a wish of the writer: without them a chunk may get
// fewer replicas than the file wants (but one), and is repaired once sealed.
func (c *Chooser) Place(op, path string, wish Wish) ([]codec.Placement, *fault.Error) {
	if wish.Count == 0 {
		return nil, nil
	}
	if err := c.enoughRoom(op, path, wish); err != nil {
		return nil, err
	}
	placements := make([]codec.Placement, 0, wish.Count)
	for range wish.Count {
		nodes := c.choose(wish.Replication, wish.Size,
			func(n *node) bool { return len(wish.Exclude) > 0 && slices.Contains(wish.Exclude, n.id) }, nil)
		if len(nodes) == 0 {
			return nil, c.tooFewNodes(op, path, "the writer excludes every live datanode")
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
func (c *Chooser) enoughRoom(op, path string, wish Wish) *fault.Error {
	roomy := 0
	var full []string
	for _, n := range c.room.Nodes.all() {
		switch {
		case n.takes(wish.Size):
			roomy++
		case n.live():
			full = append(full, n.describeRoom())
		}
	}
	if roomy >= wish.Replication {
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

// Replace finds nodes for a broken pipeline in the place of those that failed.
func (c *Chooser) Replace(slot namespace.ChunkSlot, survivors []datanode.Index, failed []string) []datanode.Index {
	inode := c.room.files.Inode(c.room.files.Chunk(slot))
	missing := inode.Replication() - len(survivors)
	if missing <= 0 {
		return nil
	}
	holders := c.room.OpenChunks.Holders(slot)
	return c.choose(missing, inode.ChunkSize(), func(n *node) bool {
		return slices.Contains(failed, n.id) || slices.Contains(holders, n.index) || c.room.holds(n.index, slot)
	}, c.room.Nodes.racks(survivors))
}
