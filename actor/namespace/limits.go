package namespace

// Bounds of names and paths.
const (
	// NameBytesMax bounds one path element.
	NameBytesMax = 255
	// pathElementsMax bounds the depth of a path.
	pathElementsMax = 4096
	// pathBytesMax bounds a path's text.
	pathBytesMax = 256 << 10
)
