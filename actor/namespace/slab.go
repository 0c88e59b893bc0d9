package namespace

// slabPageItems is the number of items in one page of a slab.
const slabPageItems = 256

// InodeSlot is the place of an inode in memory; 0 means none. It changes with every restart, unlike the inode's id.
type InodeSlot uint32

// ChunkSlot is the place of a chunk in memory; 0 means none. It changes with every restart, unlike the chunk's id.
type ChunkSlot uint32

type anySlot interface{ InodeSlot | ChunkSlot }

// slab is a paged array of small pointer-free items, addressed by slot. Slot 0 is never used, so it can mean "none".
// Freed slots are used again. A snapshot shares the pages until the slab changes them (copy on write).
type slab[S anySlot, T any] struct {
	pages []*slabPage[T]
	free  []S
	limit S // the first slot never used
	count int
	stamp uint64
}

type slabPage[T any] struct {
	stamp uint64
	items [slabPageItems]T
}

// slabView is a read-only picture of a slab at one moment.
type slabView[S anySlot, T any] struct{ pages []*slabPage[T] }

// at returns an item for reading; the pointer is stale after the next mut or add.
func (s *slab[S, T]) at(slot S) *T { return &s.pages[slot/slabPageItems].items[slot%slabPageItems] }

// mut returns an item for writing; the pointer is stale after the next snapshot.
func (s *slab[S, T]) mut(slot S) *T {
	page := s.pages[slot/slabPageItems]
	if page.stamp != s.stamp {
		copied := *page
		copied.stamp = s.stamp
		page = &copied
		s.pages[slot/slabPageItems] = page
	}
	return &page.items[slot%slabPageItems]
}

// add stores an item in a free slot.
func (s *slab[S, T]) add(item T) S {
	var slot S
	if last := len(s.free) - 1; last >= 0 {
		slot = s.free[last]
		s.free = s.free[:last]
	} else {
		if s.limit == 0 {
			s.limit = 1
		}
		slot = s.limit
		s.limit++
		if int(slot/slabPageItems) == len(s.pages) {
			s.pages = append(s.pages, &slabPage[T]{stamp: s.stamp})
		}
	}
	s.count++
	*s.mut(slot) = item
	return slot
}

// remove frees a slot; its item becomes the zero value.
func (s *slab[S, T]) remove(slot S) {
	var zero T
	*s.mut(slot) = zero
	s.free = append(s.free, slot)
	s.count--
}

// view freezes the slab's present content for another goroutine. It costs one
// pointer per page now and a copy of each page that changes later.
func (s *slab[S, T]) view() slabView[S, T] {
	s.stamp++
	return slabView[S, T]{pages: append([]*slabPage[T](nil), s.pages...)}
}

func (v slabView[S, T]) at(slot S) *T { return &v.pages[slot/slabPageItems].items[slot%slabPageItems] }
