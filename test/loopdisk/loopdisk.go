// Package loopdisk makes real file systems on loop devices for tests, which can be made to fail as disks do. That needs
// root and Linux' tools; Need says what is missing. A Disk belongs to the test that made it and goes with it; its
// methods may be called from any goroutine of that test that may fail it.
package loopdisk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Disk is an ext4 on a loop device.
type Disk struct {
	Mount string // where it is mounted

	t      testing.TB
	device string
}

// Need leaves a test out where no disk can be made, and says what is missing; with E2E_DISKS=1 it fails instead.
func Need(t testing.TB) {
	t.Helper()
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	for _, tool := range []string{"losetup", "mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool+" (package util-linux, mount or e2fsprogs)")
		}
	}
	if len(missing) == 0 {
		if out, err := exec.Command("losetup", "-f").CombinedOutput(); err != nil {
			missing = append(missing, "a free loop device: "+strings.TrimSpace(string(out)))
		}
	}
	if len(missing) == 0 {
		return
	}
	text := "REAL DISK FAULTS ARE NOT TESTED HERE, missing: " + strings.Join(missing, ", ")
	if os.Getenv("E2E_DISKS") == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// Command runs a program that has to succeed and returns what it printed.
func Command(t testing.TB, name string, arguments ...string) string {
	t.Helper()
	out, err := exec.Command(name, arguments...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, arguments, out)
	return strings.TrimSpace(string(out))
}

// New mounts a new file system of so many bytes at a directory until the test ends. Its image is a sparse file.
func New(t testing.TB, mount string, sizeBytes int64) *Disk {
	t.Helper()
	disk := &Disk{Mount: mount, t: t}
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(sizeBytes))
	require.NoError(t, f.Close())
	Command(t, "mkfs.ext4", "-q", "-F", "-m", "0", image)
	disk.device = Command(t, "losetup", "-f", "--show", image)
	t.Cleanup(func() {
		_ = exec.Command("umount", "-l", disk.Mount).Run() // it may be unmounted already
		out, err := exec.Command("losetup", "-d", disk.device).CombinedOutput()
		if err != nil {
			t.Errorf("loop device %s is left behind: %s", disk.device, out)
		}
	})
	disk.Attach()
	return disk
}

// Attach mounts it, after New or Detach.
func (d *Disk) Attach() {
	d.t.Helper()
	require.NoError(d.t, os.MkdirAll(d.Mount, 0o755))
	Command(d.t, "mount", d.device, d.Mount)
}

// Detach unmounts it under those who use it.
func (d *Disk) Detach() { Command(d.t, "umount", "-l", d.Mount) }

// Die makes all I/O fail with EIO (EXT4_IOC_SHUTDOWN without a flush).
func (d *Disk) Die() {
	const shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(d.Mount)
	require.NoError(d.t, err)
	defer f.Close()
	require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush))
}

// MakeReadOnly is what a kernel does with a file system that it finds damaged.
func (d *Disk) MakeReadOnly() {
	name := filepath.Join("/sys/fs/ext4", filepath.Base(d.device), "trigger_fs_error")
	Command(d.t, "mount", "-o", "remount,errors=remount-ro", d.Mount)
	require.NoError(d.t, os.WriteFile(name, []byte("1"), 0))
}

// Hang makes everything wait that would write, as a disk does that does not answer, until thaw or the test's end.
func (d *Disk) Hang() (thaw func()) {
	const freeze, thawAgain = 0xc0045877, 0xc0045878 // FIFREEZE, FITHAW
	f, err := os.Open(d.Mount)
	require.NoError(d.t, err)
	require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), freeze, 0))
	thaw = sync.OnceFunc(func() {
		require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), thawAgain, 0))
		require.NoError(d.t, f.Close())
	})
	d.t.Cleanup(thaw)
	return thaw
}
