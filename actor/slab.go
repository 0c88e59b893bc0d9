package actor

// slabPage is the number of items in one page of a slab.
const slabPage = 256

// slab is a paged array of small pointer-free items, addressed by slot. Slot 0
// is never used, so it can mean "none". Freed slots are used again. A snapshot
// shares the pages until the slab changes them (copy on write).
type slab[T any] struct {
	pages []*slabPageOf[T]
	free  []uint32
	// limit is the first slot never used.
	limit uint32
	count int
	stamp uint64
}

type slabPageOf[T any] struct {
	stamp uint64
	items [slabPage]T
}

// slabView is a read-only picture of a slab at one moment.
type slabView[T any] struct{ pages []*slabPageOf[T] }

// at gives an item for reading; the pointer is stale after the next mut or add.
func (s *slab[T]) at(slot uint32) *T {
	return &s.pages[slot/slabPage].items[slot%slabPage]
}

// mut gives an item for writing; the pointer is stale after the next snapshot.
func (s *slab[T]) mut(slot uint32) *T {
	page := s.pages[slot/slabPage]
	if page.stamp != s.stamp {
		copied := *page
		copied.stamp = s.stamp
		page = &copied
		s.pages[slot/slabPage] = page
	}
	return &page.items[slot%slabPage]
}

// add takes a slot and stores item there.
func (s *slab[T]) add(item T) uint32 {
	var slot uint32
	if n := len(s.free); n > 0 {
		slot = s.free[n-1]
		s.free = s.free[:n-1]
	} else {
		if s.limit == 0 {
			s.limit = 1
		}
		slot = s.limit
		s.limit++
		if int(slot/slabPage) == len(s.pages) {
			s.pages = append(s.pages, &slabPageOf[T]{stamp: s.stamp})
		}
	}
	s.count++
	*s.mut(slot) = item
	return slot
}

// remove gives a slot back; its item becomes the zero value.
func (s *slab[T]) remove(slot uint32) {
	var zero T
	*s.mut(slot) = zero
	s.free = append(s.free, slot)
	s.count--
}

// view freezes the slab's present content for another goroutine. It costs one
// pointer per page now and a copy of each page that changes later.
func (s *slab[T]) view() slabView[T] {
	s.stamp++
	return slabView[T]{pages: append([]*slabPageOf[T](nil), s.pages...)}
}

func (v slabView[T]) at(slot uint32) *T {
	return &v.pages[slot/slabPage].items[slot%slabPage]
}

// bitset is a set of slots.
type bitset []uint64

func (b *bitset) set(slot uint32) {
	word := int(slot / 64)
	for word >= len(*b) {
		*b = append(*b, make([]uint64, max(64, len(*b)))...)
	}
	(*b)[word] |= 1 << (slot % 64)
}

func (b bitset) has(slot uint32) bool {
	word := int(slot / 64)
	return word < len(b) && b[word]&(1<<(slot%64)) != 0
}
