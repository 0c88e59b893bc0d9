package actor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/internal/fault"
)

// enoughNodes refuses a replication that the live nodes cannot hold.
func (s *State) enoughNodes(op, path string, replication uint32) *fault.Error {
	live := 0
	for _, n := range s.nodes[1:] {
		if n.liveness == nodeLive {
			live++
		}
	}
	if uint32(live) >= replication {
		return nil
	}
	return s.tooFewNodes(op, path, fmt.Sprintf("replication %d needs as many datanodes", replication))
}

// tooFewNodes says which nodes there are.
func (s *State) tooFewNodes(op, path, want string) *fault.Error {
	var live, away []string
	for _, n := range s.nodes[1:] {
		if n.liveness == nodeLive {
			live = append(live, n.describe())
		} else {
			away = append(away, n.describe())
		}
	}
	reason := fmt.Sprintf("%s, %d %s live", want, len(live), are(len(live)))
	if len(live) > 0 {
		reason += ": " + joinSome(live)
	}
	if len(away) > 0 {
		reason += fmt.Sprintf("; %d %s away: %s", len(away), are(len(away)), joinSome(away))
	}
	return &fault.Error{Kind: fault.TooFewNodes, Op: op, Path: path, Reason: reason, Hint: "start more datanodes, or ask for a lower replication"}
}

func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// joinSome lists texts, at most ten of them.
func joinSome(texts []string) string {
	if len(texts) > 10 {
		return strings.Join(texts[:10], ", ") + fmt.Sprintf(" and %d more", len(texts)-10)
	}
	return strings.Join(texts, ", ")
}

// chooseNodes places count replicas of a chunk on live nodes with room.
func (s *State) chooseNodes(count int, size int64, exclude func(*node) bool, present []string) []uint16 {
	s.candidates = s.candidates[:0]
	for _, n := range s.nodes[1:] {
		if n.liveness == nodeLive && n.room(size) && !exclude(n) {
			s.candidates = append(s.candidates, n.candidate())
		}
	}
	if len(s.candidates) == 0 {
		return nil
	}
	chosen := s.policy.Choose(s.candidates, count, present, &s.step.Random)
	nodes := make([]uint16, len(chosen))
	for i, at := range chosen {
		nodes[i] = s.candidates[at].Index
		s.nodes[nodes[i]].placed++
	}
	return nodes
}

// place allocates chunks. Nodes without room are an error if too few others are
// left. Excluded nodes are a wish of the writer: without them a chunk may get
// fewer replicas than the file wants (but one), and is repaired once sealed.
func (s *State) place(op, path string, count, replication int, size int64, exclude []string) ([]codec.Placement, *fault.Error) {
	if count == 0 {
		return nil, nil
	}
	roomy := 0
	for _, n := range s.nodes[1:] {
		if n.liveness == nodeLive && n.room(size) {
			roomy++
		}
	}
	if roomy < replication {
		return nil, &fault.Error{Kind: fault.NoSpace, Op: op, Path: path, Hint: "add datanodes or disks, or remove files",
			Reason: fmt.Sprintf("replication %d is asked for, %d live %s room for a chunk of %d bytes", replication, roomy, have(roomy), size)}
	}
	placements := make([]codec.Placement, 0, count)
	for range count {
		nodes := s.chooseNodes(replication, size, func(n *node) bool { return len(exclude) > 0 && slices.Contains(exclude, n.id) }, nil)
		if len(nodes) == 0 {
			return nil, s.tooFewNodes(op, path, "the writer excludes every live datanode")
		}
		id := s.step.Random.ChunkID(s.step.Now)
		for s.files.Find(id) != 0 {
			id = s.step.Random.ChunkID(s.step.Now)
		}
		placements = append(placements, codec.Placement{ID: id, Nodes: nodes})
	}
	return placements, nil
}

func have(n int) string {
	if n == 1 {
		return "datanode has"
	}
	return "datanodes have"
}

func (s *State) racksOf(nodes []uint16) []string {
	racks := make([]string, len(nodes))
	for i, n := range nodes {
		racks[i] = s.nodes[n].rack
	}
	return racks
}

func (s *State) describeNodes(nodes []uint16) []string {
	texts := make([]string, len(nodes))
	for i, n := range nodes {
		texts[i] = s.nodes[n].describe()
	}
	return texts
}

// shuffleByLoad puts nodes in order for a reader or a pipeline: live before
// stale before dead, less loaded first, chance among equals.
func (s *State) shuffleByLoad(nodes []uint16) {
	for i := len(nodes) - 1; i > 0; i-- {
		j := s.step.Random.Below(i + 1)
		nodes[i], nodes[j] = nodes[j], nodes[i]
	}
	slices.SortStableFunc(nodes, func(a, b uint16) int {
		m, n := s.nodes[a], s.nodes[b]
		if m.liveness != n.liveness {
			return int(n.liveness) - int(m.liveness)
		}
		return int(min(m.busy(), 1<<30) - min(n.busy(), 1<<30))
	})
}
