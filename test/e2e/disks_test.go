package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/test/loopdisk"
)

// diskCluster is four datanodes; the first has loop disks.
type diskCluster struct {
	*cluster.Cluster
	t       *testing.T
	loops   []*loopdisk.Disk
	content []byte
	chunks  map[string]bool // ids of the file's
}

const diskChunks = 12

// startDisks stores a file of diskChunks chunks.
func startDisks(t *testing.T, disks int) *diskCluster {
	loopdisk.Need(t)
	system, err := cluster.New(cluster.Options{
		Program: program, Directory: scratch(t), Datanodes: 4, Disks: disks, RepairGrace: time.Second,
		ChunkSize: 256 << 10, Settings: map[string]any{"datanode.reserve": "1MiB"},
	})
	require.NoError(t, err)
	d := &diskCluster{Cluster: system, t: t}
	for _, directory := range system.Disks(0) {
		d.loops = append(d.loops, loopdisk.New(t, directory, 256<<20))
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
	t.Parallel()
	for name, fault := range map[string]struct {
		strike func(*loopdisk.Disk)
		words  string
	}{
		"io error":  {(*loopdisk.Disk).Die, "failed"},
		"read only": {(*loopdisk.Disk).MakeReadOnly, "read-only"},
		"unmounted": {(*loopdisk.Disk).Detach, ""}, // missing, or failed if it is used before it is looked at
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "unmounted" {
				t.Skip("not with -short: TestOnlyDiskDies has an I/O error")
			}
			skipUnderRace(t)
			d := startDisks(t, 2)
			bad := d.loops[1]
			require.Less(t, d.copies(bad.Mount), 3*diskChunks, "the disk has some")
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
			d.requireRepaired(bad.Mount)
			require.NoError(t, logged(d.Datanodes[0], "volume is out of service", "state="+fault.words))
			lost := regexp.MustCompile(regexp.QuoteMeta(bad.Mount) + `  (failed|read-only|missing) `)
			well := regexp.MustCompile(regexp.QuoteMeta(d.loops[0].Mount) + `  healthy `)
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
			d.requireRepaired(bad.Mount)
			if name != "unmounted" {
				return
			}
			left, err := os.ReadDir(bad.Mount)
			require.NoError(t, err)
			require.Empty(t, left, "nothing was written below the mount point")
			bad.Attach()
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
	t.Parallel()
	skipUnderRace(t)
	d := startDisks(t, 1)
	bad := d.loops[0]
	bad.Die()
	ended, why := d.Datanodes[0].Ended()
	d.requireRepaired(bad.Mount)
	select {
	case <-ended:
	case <-patient(t, 30*time.Second).Done():
		t.Fatal("the datanode goes on without a disk")
	}
	require.Error(t, why())
	require.NoError(t, logged(d.Datanodes[0], "1 of 1 disks are out of service", bad.Mount))
	bad.Detach()
	require.NoError(t, d.Datanodes[0].Start())
	ended, why = d.Datanodes[0].Ended()
	select {
	case <-ended:
	case <-patient(t, 30*time.Second).Done():
		t.Fatal("the datanode took the empty directory for a new disk")
	}
	require.Error(t, why())
	require.NoError(t, logged(d.Datanodes[0], "its disk is not mounted", "format-missing"))
	left, err := os.ReadDir(bad.Mount)
	require.NoError(t, err)
	require.Empty(t, left)
	bad.Attach()
	require.NoError(t, d.Datanodes[0].Start())
	require.NoError(t, d.WaitReady(patient(t, time.Minute)))
	sameBytes(t, d.content, []byte(mustWW(t, d.Cluster, "cat", "/file")), "the file")
}
