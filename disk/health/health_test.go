package health

import (
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/fakeclock"
	"github.com/whispering-woods/ww/test/simdisk"
)

type watch struct {
	*Volume
	clock *fakeclock.Clock
	outs  int
}

func newWatch() *watch {
	w := &watch{clock: fakeclock.New(time.Unix(1_800_000_000, 0))}
	w.Volume = New(w.clock, Limits{ErrorsMax: ErrorsMax, Window: Window, StallAfter: StallAfter, HangAfter: HangAfter},
		func() { w.outs++ })
	return w
}

func (w *watch) state() datanode.VolumeHealth { return w.Status().State }

var errDisk = &fs.PathError{Op: "read", Path: "/d/f", Err: syscall.EIO}

func TestErrorsEndTheServiceOnlyWithinTheirWindow(t *testing.T) {
	w := newWatch()
	for range 5 * ErrorsMax { // one now and then
		w.Note(errDisk)
		require.Equal(t, datanode.VolumeSuspect, w.state())
		w.clock.Advance(Window/(ErrorsMax-1) + time.Second)
	}
	w.clock.Advance(Window)
	require.Equal(t, datanode.VolumeHealthy, w.state())
	require.EqualValues(t, 5*ErrorsMax, w.Status().Errors)
	require.Zero(t, w.outs)
	for range ErrorsMax {
		w.Note(errDisk)
	}
	require.Equal(t, datanode.VolumeFailed, w.state())
	w.Note(errDisk)
	w.Condemn(datanode.VolumeMissing, "again")
	require.Equal(t, 1, w.outs)
	require.Equal(t, datanode.VolumeFailed, w.state(), "only the first reason counts")
	w.clock.Advance(time.Hour)
	require.True(t, w.Out(), "it never returns")
}

// Errors that say nothing against the disk, or are one bad sector, do not end its service.
func TestWhatIsNoReasonToGiveADiskUp(t *testing.T) {
	wrong := fault.New(fault.CorruptData, "read", "bad sum")
	for name, note := range map[string]func(*watch){
		"a full disk":          func(w *watch) { w.Note(syscall.ENOSPC) },
		"a shortage of files":  func(w *watch) { w.Note(syscall.EMFILE) },
		"a shortage of memory": func(w *watch) { w.Note(syscall.ENOMEM) },
		"a file that is gone":  func(w *watch) { w.Note(fs.ErrNotExist) },
		"wrong bytes":          func(w *watch) { w.Note(wrong) },
		"being out of service": func(w *watch) { w.Note(&OutError{}) },
		"nothing":              func(w *watch) { w.Note(nil) },
		"one bad file, often":  func(w *watch) { w.NoteRead("/d/f", errDisk) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatch()
			for range 10 * ErrorsMax {
				note(w)
			}
			require.False(t, w.Out())
		})
	}
	w := newWatch()
	for _, path := range []string{"/d/1", "/d/2", "/d/3"} {
		w.NoteRead(path, errDisk)
	}
	require.True(t, w.Out(), "several files are no bad sector")
	w = newWatch()
	w.Note(&fs.PathError{Op: "open", Path: "/d/f", Err: syscall.EROFS})
	require.Equal(t, datanode.VolumeReadOnly, w.state(), "at once")
}

// What hangs makes the volume suspect, then ends its service; what returns does not.
func TestOperationsThatHang(t *testing.T) {
	w := newWatch()
	require.NoError(t, w.Watch("fsync", "/d/slow", func() error {
		require.True(t, w.Busy())
		w.clock.Advance(StallAfter)
		require.True(t, w.Stalled())
		require.Equal(t, datanode.VolumeSuspect, w.state())
		return w.Watch("read", "/d/quick", func() error { return nil })
	}))
	require.False(t, w.Busy())
	require.False(t, w.Stalled())
	w.clock.Advance(HangAfter)
	w.Check()
	require.Equal(t, datanode.VolumeHealthy, w.state(), "nothing is under way")

	require.NoError(t, w.Watch("fsync", "/d/stuck", func() error {
		w.clock.Advance(HangAfter - time.Second)
		w.Check()
		require.False(t, w.Out())
		require.NoError(t, w.Watch("read", "/d/later", func() error {
			w.clock.Advance(time.Second)
			w.Check()
			return nil
		}))
		require.True(t, w.Out())
		require.Contains(t, w.Status().Last, "/d/stuck")
		require.Contains(t, w.Retire(), "fsync /d/stuck has not returned for 1m0s")
		return nil
	}))
	require.Empty(t, w.Retire(), "nothing is under way any more")
	require.Equal(t, 1, w.outs)
}

func TestRetiringIsNoLoss(t *testing.T) {
	w := newWatch()
	require.Empty(t, w.Retire())
	require.True(t, w.Out())
	require.Zero(t, w.outs)
	<-w.Gone()
}

func TestFullAndSlowVolumesServe(t *testing.T) {
	w := newWatch()
	w.SetFull(true)
	require.Equal(t, datanode.VolumeFull, w.state())
	w.SetSlow(strings.Repeat("s", 2*textBytesMax))
	require.Equal(t, datanode.VolumeSuspect, w.state(), "slow is worse than full")
	require.Len(t, w.Status().Last, textBytesMax)
	require.True(t, w.Slow())
	w.SetSlow("")
	w.SetFull(false)
	require.Equal(t, datanode.VolumeHealthy, w.state())
	require.NoError(t, w.Error())
}

// Nothing is asked of a disk out of service, by any name.
func TestNothingIsAskedOfADiskOutOfService(t *testing.T) {
	m := simdisk.NewMem()
	calls := 0
	faulty := simdisk.NewFaulty(m)
	w := newWatch()
	fsys := w.FS(faulty)
	file, err := fsys.OpenFile("/d", os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	for op := range simdisk.Op(64) {
		faulty.Inject(simdisk.Rule{Op: op, Before: func() { calls++ }})
	}
	_, err = fsys.Stat("/d")
	require.NoError(t, err)
	require.Equal(t, 1, calls, "the rules see what is asked")
	w.Condemn(datanode.VolumeMissing, "it was pulled out")
	for name, call := range map[string]func() error{
		"open":        func() error { _, err := fsys.OpenFile("/x", os.O_CREATE|os.O_RDWR, 0o600); return err },
		"mkdir":       func() error { return fsys.MkdirAll("/y", 0o700) },
		"rename":      func() error { return fsys.Rename("/d", "/e") },
		"remove":      func() error { return fsys.Remove("/d") },
		"readdir":     func() error { _, err := fsys.ReadDir("/"); return err },
		"stat":        func() error { _, err := fsys.Stat("/d"); return err },
		"syncdir":     func() error { return fsys.SyncDir("/") },
		"statfs":      func() error { _, err := fsys.StatFS("/"); return err },
		"lock":        func() error { _, err := fsys.Lock("/lock"); return err },
		"read":        func() error { _, err := file.ReadAt(make([]byte, 1), 0); return err },
		"write":       func() error { _, err := file.WriteAt([]byte{1}, 0); return err },
		"sync":        func() error { return file.Sync() },
		"datasync":    func() error { return file.Datasync() },
		"truncate":    func() error { return file.Truncate(0) },
		"preallocate": func() error { return file.Preallocate(0, 1) },
		"sync range":  func() error { return file.SyncRange(0, 1) },
		"uncache":     func() error { return file.Uncache(0, 1) },
		"file stat":   func() error { _, err := file.Stat(); return err },
	} {
		var out *OutError
		err := call()
		require.ErrorAs(t, err, &out, name)
		require.ErrorAs(t, err, new(*fs.PathError), name)
		require.Equal(t, datanode.VolumeMissing, out.State, name)
	}
	require.Equal(t, 1, calls)
	require.NoError(t, file.Close(), "what is open can be closed")
}

// A file that was made below the mount point of a disk that is gone is taken back, unless it has something in it.
func TestFileOnAnotherDeviceIsTakenBack(t *testing.T) {
	directory := t.TempDir()
	info, err := os.Stat(directory)
	require.NoError(t, err)
	device := vfs.Device(info)
	require.NotZero(t, device)
	w := newWatch()
	w.SetDevice(device)
	fsys := w.FS(vfs.OS{})
	file, err := fsys.OpenFile(directory+"/good", os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.NoError(t, os.WriteFile(directory+"/old", []byte("x"), 0o600))
	w.SetDevice(device + 1)
	_, err = fsys.OpenFile(directory+"/good", os.O_RDONLY, 0)
	require.NoError(t, err, "only what is created is looked at")
	_, err = fsys.OpenFile(directory+"/new", os.O_CREATE|os.O_RDWR, 0o600)
	require.ErrorAs(t, err, new(*OutError))
	require.NoFileExists(t, directory+"/new")
	require.Equal(t, datanode.VolumeMissing, w.state())

	w = newWatch()
	w.SetDevice(device + 1)
	_, err = w.FS(vfs.OS{}).OpenFile(directory+"/old", os.O_CREATE|os.O_RDWR, 0o600)
	require.Error(t, err)
	require.FileExists(t, directory+"/old")
}
