package bufpool

const (
	// HeadroomBytes is what every class has on top of a power of two, so that a
	// packet header (40 bytes) and a power-of-two payload fit one buffer.
	HeadroomBytes = 64

	// capacityMin is the smallest class without its headroom.
	capacityMin = 4 << 10
	// classCount classes double from 4 KiB: the last one is 1 MiB, the largest payload of a packet.
	classCount = 9
	// putsPerPool stays below the 42,000 puts after which bytebufferpool recalibrates.
	putsPerPool = 40_000

	// poison fills released memory under invariants.
	poison = 0xdb
)
