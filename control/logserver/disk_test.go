package logserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/fault"
)

// mountTmpfs mounts a small file system, or skips the test loudly.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("NOT TESTED: a full disk needs root to mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// appendUntilFailure appends until the server refuses, and gives the last
// acknowledged txid and the refusal.
func appendUntilFailure(t *testing.T, l *editlog.Log) (acked uint64, failure error) {
	t.Helper()
	w, grant, watch := open(t, l, "filler")
	acked = grant.LastTxid
	for next := grant.LastTxid + 1; ; next += 40 {
		if w.Append(within(t), next, recordsOf(next, 40)) != nil {
			break
		}
	}
	failure = watch.failure(t)
	for {
		select {
		case last := <-watch.durable:
			acked = last
		default:
			return acked, failure
		}
	}
}

// requireEnds waits for a lone server to end by itself, and for every call to
// be refused with the reason.
func requireEnds(t *testing.T, server *Server, log *editlog.Log, kind fault.Kind) {
	t.Helper()
	select {
	case <-server.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("a server without peers must end after a disk error")
	}
	requireKind(t, kind, server.Err())
	requireKind(t, kind, server.Ready())
	status := log.Status(within(t))[0]
	require.False(t, status.Ready)
	require.False(t, status.Leader)
	require.Contains(t, status.Error, server.Err().Error())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := log.AcquireEpoch(ctx, "nn")
	require.Error(t, err)
	require.Contains(t, err.Error(), server.Err().Error())
}

func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "5m")
	server, stop := start(t, options(t, dir))
	log := dial(t, server.Addr())
	acked, failure := appendUntilFailure(t, log)
	require.NotZero(t, acked)
	requireKind(t, fault.NoSpace, failure)
	requireEnds(t, server, log, fault.NoSpace)
	stop()

	// With more room the same directory serves again, and all is there.
	require.NoError(t, unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=20m"))
	server, _ = start(t, options(t, dir))
	log = dial(t, server.Addr())
	grant, err := log.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	require.GreaterOrEqual(t, grant.LastTxid, acked)
	requireRecords(t, log, 1, grant.LastTxid)
	fill(t, log, grant.LastTxid+1000)
}

// TestDiskThatFails makes an ext4 file system on a loop device and shuts it
// down under the server: every write and fsync fails from then on.
func TestDiskThatFails(t *testing.T) {
	dir, remount := mountLoop(t)
	server, _ := start(t, options(t, dir))
	log := dial(t, server.Addr())
	w, grant, watch := open(t, log, "nn")
	require.NoError(t, w.Append(within(t), grant.LastTxid+1, recordsOf(grant.LastTxid+1, 100)))
	watch.until(t, 100)
	shutdownExt4(t, dir)
	require.NoError(t, w.Append(within(t), 101, recordsOf(101, 10)))
	requireKind(t, fault.Disk, watch.failure(t))
	requireEnds(t, server, log, fault.Disk)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_ = server.Close(ctx)
	remount()
	server, stop := start(t, options(t, dir))
	log = dial(t, server.Addr())
	grant, err := log.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	require.GreaterOrEqual(t, grant.LastTxid, uint64(100))
	requireRecords(t, log, 1, grant.LastTxid)
	stop() // in front of the unmount
}

// mountLoop mounts an ext4 file system in a file, or skips the test loudly.
func mountLoop(t *testing.T) (dir string, remount func()) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	dir = t.TempDir()
	run := func(name string, args ...string) error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 32<<20))
	err := run("mkfs.ext4", "-q", image)
	if err == nil {
		err = run("mount", "-o", "loop", image, dir)
	}
	if err != nil {
		t.Skipf("NOT TESTED: a disk that fails needs root, mkfs.ext4 and a loop device: %v", err)
	}
	t.Cleanup(func() { _ = run("umount", dir) })
	return dir, func() {
		require.NoError(t, run("umount", dir))
		require.NoError(t, run("mount", "-o", "loop", image, dir))
	}
}

// shutdownExt4 is EXT4_IOC_SHUTDOWN without a flush of the journal.
func shutdownExt4(t *testing.T, dir string) {
	t.Helper()
	const ioctlShutdown, noLogFlush = 0x8004587d, 2
	d, err := os.Open(dir)
	require.NoError(t, err)
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), ioctlShutdown, noLogFlush); err != nil {
		t.Skipf("NOT TESTED: the file system cannot be shut down: %v", err)
	}
}
