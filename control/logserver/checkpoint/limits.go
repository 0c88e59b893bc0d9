package checkpoint

// Bounds of a checkpoint.
const (
	// bytesMax bounds the content: 10 million files take about 1.5 GB.
	bytesMax = 256 << 30
	// headBytesMax bounds the head: fixed fields, holder's name, group's members.
	headBytesMax = 64 << 10
	// writeoutBytes are written before the kernel is asked to start write-back.
	writeoutBytes = 8 << 20
	// KeptCount good ones stay, and the log from the older one on.
	KeptCount = 2
)
