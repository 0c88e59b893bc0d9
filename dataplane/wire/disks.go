package wire

// DiskAction says what a Disks request wants.
type DiskAction uint8

// Actions.
const (
	DiskAdd     DiskAction = 1 // take a directory as a further disk
	DiskRemove  DiskAction = 2 // use a disk no more
	DiskReplace DiskAction = 3 // take an empty directory in the place of a disk
	DiskKeep    DiskAction = 4 // take a DiskRemove back while the disk drains
)

// diskNameBytesMax bounds the names of directories and disks.
const diskNameBytesMax = 4096

// Disks has a datanode change its disks.
type Disks struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Action      DiskAction
	Disk        string // but of DiskAdd: its directory, its id, or the beginning of that
	Directory   string // of DiskAdd; of DiskReplace, empty: that of the disk
}

// DisksReply answers Disks, with the disk as it is now.
type DisksReply struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Status      Status
	VolumeID    string
	Directory   string
	State       string // for people: "healthy", "draining", "removed"
	Replicas    uint64
	Note        string // what else people should know; empty: nothing
}

// Validate checks lengths. Error: fault.Invalid.
func (d *Disks) Validate() error {
	const op = "disks"
	switch {
	case d.Action < DiskAdd || d.Action > DiskKeep:
		return badBody(op, "action %d", d.Action)
	case (d.Action == DiskAdd) == (d.Disk != ""), d.Action == DiskAdd && d.Directory == "":
		return badBody(op, "disk %q and directory %q", d.Disk, d.Directory)
	case len(d.Disk) > diskNameBytesMax || len(d.Directory) > diskNameBytesMax:
		return badBody(op, "a name has more than %d bytes", diskNameBytesMax)
	}
	return nil
}
