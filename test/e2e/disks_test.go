package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
)

// loopDisk is a real file system on a loop device, which can be made to fail as disks do.
type loopDisk struct {
	t             *testing.T
	device, mount string
}

// needDisks leaves a test out where no disk can be made, and says what is missing; with E2E_DISKS=1 it fails instead.
func needDisks(t *testing.T) {
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

func command(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	out, err := exec.CommandContext(patient(t, time.Minute), name, arguments...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, arguments, out)
	return strings.TrimSpace(string(out))
}

// newLoopDisk mounts a new ext4 at a directory until the test ends.
func newLoopDisk(t *testing.T, mount string) *loopDisk {
	t.Helper()
	d := &loopDisk{t: t, mount: mount}
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(256<<20))
	require.NoError(t, f.Close())
	command(t, "mkfs.ext4", "-q", "-F", "-m", "0", image)
	d.device = command(t, "losetup", "-f", "--show", image)
	t.Cleanup(func() { // the context of the test is over
		_ = exec.Command("umount", "-l", d.mount).Run() // it may be unmounted already
		out, err := exec.Command("losetup", "-d", d.device).CombinedOutput()
		if err != nil {
			t.Errorf("loop device %s is left behind: %s", d.device, out)
		}
	})
	d.attach()
	return d
}

func (d *loopDisk) attach() {
	d.t.Helper()
	require.NoError(d.t, os.MkdirAll(d.mount, 0o755))
	command(d.t, "mount", d.device, d.mount)
}

// die makes all I/O fail with EIO (EXT4_IOC_SHUTDOWN without a flush).
func (d *loopDisk) die() {
	const shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(d.mount)
	require.NoError(d.t, err)
	defer f.Close()
	require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush))
}

// makeReadOnly is what a kernel does with a file system that it finds damaged.
func (d *loopDisk) makeReadOnly() {
	name := filepath.Join("/sys/fs/ext4", filepath.Base(d.device), "trigger_fs_error")
	command(d.t, "mount", "-o", "remount,errors=remount-ro", d.mount)
	require.NoError(d.t, os.WriteFile(name, []byte("1"), 0))
}

// hang makes everything wait that would write, as a disk does that does not answer, until the test ends.
func (d *loopDisk) hang() (thaw func()) {
	const freeze, thawAgain = 0xc0045877, 0xc0045878 // FIFREEZE, FITHAW
	f, err := os.Open(d.mount)
	require.NoError(d.t, err)
	require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), freeze, 0))
	thaw = sync.OnceFunc(func() {
		require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), thawAgain, 0))
		require.NoError(d.t, f.Close())
	})
	d.t.Cleanup(thaw)
	return thaw
}

func (d *loopDisk) detach() { command(d.t, "umount", "-l", d.mount) }

// diskCluster is four datanodes; the first has loop disks.
type diskCluster struct {
	*cluster.Cluster
	t       *testing.T
	loops   []*loopDisk
	content []byte
	chunks  map[string]bool // ids of the file's
}

const diskChunks = 12

// startDisks stores a file of diskChunks chunks.
func startDisks(t *testing.T, disks int) *diskCluster {
	needDisks(t)
	system, err := cluster.New(cluster.Options{
		Program: program, Directory: scratch(t), Datanodes: 4, Disks: disks, RepairGrace: time.Second,
		ChunkSize: 256 << 10, Settings: map[string]any{"datanode.reserve": "1MiB"},
	})
	require.NoError(t, err)
	d := &diskCluster{Cluster: system, t: t}
	for _, directory := range system.Disks(0) {
		d.loops = append(d.loops, newLoopDisk(t, directory))
	}
	t.Cleanup(func() { // before the disks go
		if t.Failed() {
			var text strings.Builder
			system.LogTail(&text, 25)
			t.Log("last lines of the daemons' logs:\n" + text.String())
		}
		require.NoError(t, system.Close())
		refusePanics(t, system)
	})
	ctx := patient(t, cluster.StartTimeout)
	require.NoError(t, system.Start(ctx))
	d.content = bytesOf(7, diskChunks*256<<10)
	_, err = system.Client().Store(ctx, "/file", bytes.NewReader(d.content), int64(len(d.content)),
		client.StoreOptions{})
	require.NoError(t, err)
	d.chunks = map[string]bool{}
	for _, name := range d.replicas("") {
		d.chunks[idOf(name)] = true
	}
	require.Len(t, d.chunks, diskChunks)
	return d
}

// idOf is the chunk's in the name of a replica's file.
func idOf(name string) string {
	id, _, _ := strings.Cut(filepath.Base(name), "_")
	return id
}

// replicas lists the sealed ones on all disks but the one at a directory.
func (d *diskCluster) replicas(without string) (names []string) {
	for i := range d.Datanodes {
		for _, disk := range d.Disks(i) {
			if disk == without {
				continue
			}
			found, err := filepath.Glob(filepath.Join(disk, "chunks", "*", "*.chunk"))
			require.NoError(d.t, err)
			names = append(names, found...)
		}
	}
	return names
}

// copies counts the replicas of the file on all disks but the one at a directory.
func (d *diskCluster) copies(without string) (count int) {
	for _, name := range d.replicas(without) {
		if d.chunks[idOf(name)] {
			count++
		}
	}
	return count
}

// requireRepaired waits until three copies of all chunks are on other disks, sooner than a silent node would be dead
// and its grace over, and reads the file.
func (d *diskCluster) requireRepaired(without string) {
	t := d.t
	t.Helper()
	err := cluster.Poll(patient(t, 30*time.Second), func() error {
		if count := d.copies(without); count < 3*diskChunks {
			return fmt.Errorf("%d copies of %d chunks on disks that work", count, diskChunks)
		}
		return nil
	})
	require.NoError(t, err)
	sameBytes(t, d.content, []byte(mustWW(t, d.Cluster, "cat", "/file")), "the file")
}

// TestDiskDies takes one of two disks from a running datanode, in each way that a disk goes, while files are written:
// what was on it is copied at once, nobody sees an error, and the datanode starts again without it.
func TestDiskDies(t *testing.T) {
	for name, fault := range map[string]struct {
		strike func(*loopDisk)
		words  string
	}{
		"io error":  {(*loopDisk).die, "failed"},
		"read only": {(*loopDisk).makeReadOnly, "read-only"},
		"unmounted": {(*loopDisk).detach, ""}, // missing, or failed if it is used before it is looked at
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "unmounted" {
				t.Skip("not with -short: TestOnlyDiskDies has an I/O error")
			}
			skipUnderRace(t)
			d := startDisks(t, 2)
			bad := d.loops[1]
			require.Less(t, d.copies(bad.mount), 3*diskChunks, "the disk has some")
			fault.strike(bad)
			ctx := patient(t, 2*time.Minute)
			for i := range 10 { // a load that goes on
				content := bytesOf(uint64(i), 300<<10)
				name := fmt.Sprintf("/later-%d", i)
				_, err := d.Client().Store(ctx, name, bytes.NewReader(content), int64(len(content)),
					client.StoreOptions{})
				require.NoError(t, err)
				sameBytes(t, content, []byte(mustWW(t, d.Cluster, "cat", name)), name)
			}
			d.requireRepaired(bad.mount)
			require.NoError(t, logged(d.Datanodes[0], "volume is out of service", "state="+fault.words))
			lost := regexp.MustCompile(regexp.QuoteMeta(bad.mount) + `  (failed|read-only|missing) `)
			well := regexp.MustCompile(regexp.QuoteMeta(d.loops[0].mount) + `  healthy `)
			require.NoError(t, cluster.Poll(ctx, func() error { // the next heartbeat tells
				listed := mustWW(t, d.Cluster, "admin", "disk", "list", fmt.Sprintf("127.0.0.1:%d", d.DataPorts[0]))
				if !lost.MatchString(listed) || !well.MatchString(listed) {
					return fmt.Errorf("one disk is bad, one is well, but listed is:\n%s", listed)
				}
				return nil
			}))

			require.NoError(t, d.Datanodes[0].Stop())
			require.NoError(t, d.Datanodes[0].Start())
			require.NoError(t, d.WaitReady(ctx))
			d.requireRepaired(bad.mount)
			if name != "unmounted" {
				return
			}
			left, err := os.ReadDir(bad.mount)
			require.NoError(t, err)
			require.Empty(t, left, "nothing was written below the mount point")
			bad.attach()
			require.NoError(t, d.Datanodes[0].Stop())
			require.NoError(t, d.Datanodes[0].Start())
			require.NoError(t, d.WaitReady(ctx))
			require.NoError(t, cluster.Poll(ctx, func() error { return logged(d.Datanodes[0], "registered") }))
			sameBytes(t, d.content, []byte(mustWW(t, d.Cluster, "cat", "/file")), "the file, after its disk is back")
		})
	}
}

// TestOnlyDiskDies: a datanode whose only disk dies says so, stops with an error that names it, and does not take the
// directory below for a new disk.
func TestOnlyDiskDies(t *testing.T) {
	skipUnderRace(t)
	d := startDisks(t, 1)
	bad := d.loops[0]
	bad.die()
	ended, why := d.Datanodes[0].Ended()
	d.requireRepaired(bad.mount)
	select {
	case <-ended:
	case <-patient(t, 30*time.Second).Done():
		t.Fatal("the datanode goes on without a disk")
	}
	require.Error(t, why())
	require.NoError(t, logged(d.Datanodes[0], "1 of 1 disks are out of service", bad.mount))
	bad.detach()
	require.NoError(t, d.Datanodes[0].Start())
	ended, why = d.Datanodes[0].Ended()
	select {
	case <-ended:
	case <-patient(t, 30*time.Second).Done():
		t.Fatal("the datanode took the empty directory for a new disk")
	}
	require.Error(t, why())
	require.NoError(t, logged(d.Datanodes[0], "its disk is not mounted", "format-missing"))
	left, err := os.ReadDir(bad.mount)
	require.NoError(t, err)
	require.Empty(t, left)
	bad.attach()
	require.NoError(t, d.Datanodes[0].Start())
	require.NoError(t, d.WaitReady(patient(t, time.Minute)))
	sameBytes(t, d.content, []byte(mustWW(t, d.Cluster, "cat", "/file")), "the file")
}
