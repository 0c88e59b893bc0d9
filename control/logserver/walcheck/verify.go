package walcheck

import (
	"errors"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// LockName is the file in a log server's directory whose lock keeps a second process out.
const LockName = "LOCK"

// Verify reads a log server's whole directory while no server uses it, checks every byte of the log and of its
// checkpoints, and changes nothing. Damage is in the report, and is returned as the error that Start would give; a
// damaged checkpoint is an error here also when Start could do without it. Errors: fault.CorruptData, fault.Busy (a
// server runs), fault.NotFound (no log), fault.Disk.
func Verify(directory string) (*Report, error) {
	report, err := scanUnused(directory, checkpoint.Verify, nil)
	if err != nil {
		return nil, err
	}
	refused := report.refuse()
	for _, c := range report.Checkpoints {
		if c.Damage != nil && refused == nil {
			refused = &fault.Error{Kind: fault.CorruptData, Op: "verify log", Path: c.Name, Err: c.Damage,
				Reason: "a checkpoint is damaged; the log server and namenodes use the other one"}
		}
	}
	return report, refused
}

// Dump passes every batch and epoch of a log to fn, in order, while no server uses the directory; it changes
// nothing. If the log was cut, it starts behind the oldest checkpoint. An error of fn ends it and is returned. With
// damage it passes what can be read and then fails like Verify.
func Dump(directory string, fn func(DumpEntry) error) error {
	report, err := scanUnused(directory, checkpoint.Glance, fn)
	if err != nil {
		return err
	}
	return report.refuse()
}

// scanUnused scans a directory under a shared lock.
func scanUnused(directory string, look func(vfs.FS, string) (checkpoint.File, error),
	fn func(DumpEntry) error) (*Report, error) {
	lock, err := vfs.LockDirectory(directory, LockName, false)
	if err != nil {
		return nil, vfs.FaultOf("lock log directory", err)
	}
	defer lock.Close()
	report, err := scanDirectory(directory, look, fn)
	if errors.Is(err, errMissing) {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "read log", Path: directory,
			Reason: "the directory holds no log"}
	}
	return report, err
}
