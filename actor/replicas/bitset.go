package replicas

import "slices"

// bitset is a set of small numbers; one that is as large as it needs to be. The zero value is empty.
type bitset[T ~uint16 | ~uint32] []uint64

func (b *bitset[T]) set(number T) {
	word := int(number / 64)
	for word >= len(*b) {
		*b = append(*b, make([]uint64, max(4, len(*b)))...)
	}
	(*b)[word] |= 1 << (number % 64)
}

func (b *bitset[T]) unset(number T) {
	if b.has(number) {
		(*b)[number/64] &^= 1 << (number % 64)
	}
}

func (b bitset[T]) has(number T) bool {
	word := int(number / 64)
	return word < len(b) && b[word]&(1<<(number%64)) != 0
}

func (b bitset[T]) empty() bool {
	return !slices.ContainsFunc(b, func(word uint64) bool { return word != 0 })
}
