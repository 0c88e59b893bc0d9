package codec

const (
	// RecordBytesMax bounds one frame's payload. The largest record is a Create with parents: two times the longest
	// path, 256 KiB each, and the chunks of one call.
	RecordBytesMax = 1 << 20
	// CheckpointPageItems is the number of nodes, of inodes, or of chunks of one inode in one checkpoint frame.
	CheckpointPageItems = 256
	// CheckpointPageBytes is when a checkpoint frame is full before that.
	CheckpointPageBytes = RecordBytesMax / 4

	// frameHeaderBytes is the size of what stands before a frame's payload:
	// length u32, kind u8, version u8, flags u16, xxh3-64 u64, little-endian.
	frameHeaderBytes = 16
	// arenaBytes is the block from which encoded frames are cut, so that most records cost no allocation.
	arenaBytes    = 64 << 10
	listItemsInit = 256 // what the codec allocates at most for a list before it has seen its elements
)
