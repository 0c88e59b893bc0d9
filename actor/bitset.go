package actor

import "github.com/whispering-woods/ww/actor/namespace"

// bitset is a set of slots.
type bitset []uint64

func (b *bitset) set(slot namespace.ChunkSlot) {
	word := int(slot / 64)
	for word >= len(*b) {
		*b = append(*b, make([]uint64, max(64, len(*b)))...)
	}
	(*b)[word] |= 1 << (slot % 64)
}

func (b bitset) has(slot namespace.ChunkSlot) bool {
	word := int(slot / 64)
	return word < len(b) && b[word]&(1<<(slot%64)) != 0
}
