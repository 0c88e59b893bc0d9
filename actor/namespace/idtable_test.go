package namespace

import (
	"testing"

	"pgregory.net/rapid"
)

func TestIDTableIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, model := newIDTable(), map[uint64]InodeSlot{}
		id := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64())
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			key := id.Draw(t, "id")
			switch _, there := model[key]; {
			case there && rapid.Bool().Draw(t, "remove"):
				table.remove(key)
				delete(model, key)
			case !there:
				slot := InodeSlot(rapid.Uint32Range(1, 1<<31).Draw(t, "slot"))
				table.set(key, slot)
				model[key] = slot
			}
			if table.get(key) != model[key] || table.count != len(model) {
				t.Fatalf("id %d: slot %d, want %d; %d ids, want %d", key, table.get(key), model[key], table.count,
					len(model))
			}
		}
		seen := 0
		for key, slot := range table.all {
			seen++
			if model[key] != slot {
				t.Fatalf("id %d: slot %d, want %d", key, slot, model[key])
			}
		}
		pages := map[uint64]bool{}
		for key := range model {
			pages[key/idPageItems] = true
		}
		if seen != len(model) || len(table.pages) != len(pages) {
			t.Fatalf("%d ids in %d pages, want %d in %d", seen, len(table.pages), len(model), len(pages))
		}
	})
}
