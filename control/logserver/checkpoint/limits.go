package checkpoint

// Bounds of a checkpoint.
const (
	// PieceBytesMax bounds one piece of a checkpoint on the wire and on
	// disk, far below rpc.MessageBytesMax.
	PieceBytesMax = 1 << 20
	// bytesMax bounds the content of a checkpoint: 10 million files
	// take about 1.5 GB.
	bytesMax = 256 << 30
	// headBytesMax bounds the head: the fixed fields, the holder's name
	// and the group's members.
	headBytesMax = 64 << 10
	// writeoutBytes of a checkpoint are written before the kernel is
	// asked to start writing them out.
	writeoutBytes = 8 << 20
	// KeptCount good ones stay, and the log from the older one on.
	KeptCount = 2
)
