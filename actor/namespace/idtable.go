package namespace

// idPageItems is how many ids in a row share a page of an idTable: few enough
// that a lone survivor among removed neighbours wastes little.
const idPageItems = 64

// idTable finds the slot of an inode by its id. Ids are assigned in order, so pages of 64 slots behind a small map take
// 5 bytes per id and a lookup two cache lines, where a map of all ids takes 20 bytes and more. 0 means that an id is
// not there. The zero value is not ready: see newIDTable.
type idTable struct {
	pages map[uint64]*idPage
	count int
}

type idPage struct {
	slots [idPageItems]InodeSlot
	used  int // slots that are not 0
}

func newIDTable() idTable { return idTable{pages: make(map[uint64]*idPage)} }

// get returns an id's slot; 0 if it is not there.
func (t *idTable) get(id uint64) InodeSlot {
	if p := t.pages[id/idPageItems]; p != nil {
		return p.slots[id%idPageItems]
	}
	return 0
}

// set adds an id that is not there; slot is not 0.
func (t *idTable) set(id uint64, slot InodeSlot) {
	p := t.pages[id/idPageItems]
	if p == nil {
		p = new(idPage)
		t.pages[id/idPageItems] = p
	}
	p.slots[id%idPageItems] = slot
	p.used++
	t.count++
}

// remove deletes an id that is there.
func (t *idTable) remove(id uint64) {
	p := t.pages[id/idPageItems]
	p.slots[id%idPageItems] = 0
	p.used--
	t.count--
	if p.used == 0 {
		delete(t.pages, id/idPageItems)
	}
}

// all yields every id and its slot, in no order.
func (t *idTable) all(yield func(id uint64, slot InodeSlot) bool) {
	for number, page := range t.pages {
		for i, slot := range page.slots {
			if slot != 0 && !yield(number*idPageItems+uint64(i), slot) {
				return
			}
		}
	}
}
