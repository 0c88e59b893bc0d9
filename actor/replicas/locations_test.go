package replicas

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
)

func TestLocationsAreSetsOfNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := locations{byNode: make([]int, 8)}
		model := map[namespace.ChunkSlot]map[datanode.Index]bool{}
		told := map[namespace.ChunkSlot]map[datanode.Index]bool{}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			slot := namespace.ChunkSlot(rapid.Uint32Range(1, 3).Draw(t, "slot") * (locationPageItems - 1))
			node := datanode.Index(rapid.Uint16Range(1, 6).Draw(t, "node"))
			if model[slot] == nil {
				model[slot], told[slot] = map[datanode.Index]bool{}, map[datanode.Index]bool{}
			}
			had := model[slot][node]
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				table.removeAll(slot)
				clear(model[slot])
			case 1, 2, 3:
				if table.remove(slot, node) != had {
					t.Fatalf("slot %d: removed node %d, it was there: %v", slot, node, had)
				}
				delete(model[slot], node)
			default:
				own := rapid.Bool().Draw(t, "told")
				if table.add(slot, node, own) == had {
					t.Fatalf("slot %d: added node %d, it was there: %v", slot, node, had)
				}
				model[slot][node], told[slot][node] = true, own || had && told[slot][node]
			}
		}
		located := uint64(0)
		for slot, want := range model {
			nodes := slices.Sorted(slices.Values(table.of(slot)))
			if len(nodes) != len(want) || len(slices.Compact(nodes)) != len(want) {
				t.Fatalf("slot %d: nodes %v, want %v", slot, nodes, want)
			}
			for _, node := range nodes {
				if !want[node] || !table.has(slot, node) {
					t.Fatalf("slot %d: nodes %v, want %v", slot, nodes, want)
				}
				if table.confirmed(slot, node) != told[slot][node] {
					t.Fatalf("slot %d: node %d has told: %v", slot, node, told[slot][node])
				}
			}
			located += count(len(want) > 0)
		}
		var some bitset[datanode.Index]
		for _, node := range rapid.SliceOfN(rapid.Uint16Range(1, 6), 1, 3).Draw(t, "nodes") {
			some.set(datanode.Index(node))
		}
		end := namespace.ChunkSlot(3 * locationPageItems)
		for from := namespace.ChunkSlot(1); from <= end; from++ {
			want := end
			for slot, nodes := range model {
				if slot >= from && slot < want && slices.ContainsFunc(slices.Collect(maps.Keys(nodes)), some.has) {
					want = slot
				}
			}
			if got := table.nextOn(from, end, some, false); got != want {
				t.Fatalf("next on %v from %d is %d, want %d", some, from, got, want)
			}
			from = want
		}
		if table.count() != located {
			t.Fatalf("%d chunks are located, want %d", table.count(), located)
		}
	})
}
