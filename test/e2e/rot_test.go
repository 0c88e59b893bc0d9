package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
)

// TestBitRot flips bits at random places of the replicas of a running cluster, of two of three copies at most: in data,
// sums, headers, slots and names of chunk files, in headers and data of pack records, in headers and names of
// segments. No reader ever gets a wrong byte, and after one scrub of each datanode everything is as it was. E2E_FLIPS
// is the number of places.
func TestBitRot(t *testing.T) {
	t.Parallel()
	seed := setting(t, "E2E_SEED", uint64(time.Now().UnixNano()))
	places := int(setting(t, "E2E_FLIPS", 20))
	t.Logf("repeat with E2E_FLIPS=%d E2E_SEED=%d", places, seed)
	rot := &rot{T: t, random: rand.New(rand.NewPCG(seed, 1)), content: make(map[string][]byte),
		bad: make(map[string]map[int]bool), renamed: make(map[string]bool), kinds: make(map[string]int)}
	rot.system = start(t, cluster.Options{Datanodes: 3, RepairGrace: time.Second, Settings: map[string]any{
		"datanode.scrub_period": "0s", "datanode.scrub_bandwidth": "0B"}})
	rot.store()
	rot.readAll("before any damage")
	for datanode := range rot.targets {
		rot.targets[datanode] = rot.replicas(datanode)
	}
	for done := 0; done < places; {
		if rot.flipOne() {
			done++
		}
	}
	t.Logf("flipped: %v", rot.kinds)

	// Readers go on all the time.
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- rot.readUntil(ctx) }()
	for n, port := range rot.system.DataPorts {
		r := ww(t, rot.system, "admin", "scrub", fmt.Sprintf("127.0.0.1:%d", port))
		require.Contains(t, []int{exitOK, exitCorrupt}, r.code, "datanode %d: %s%s", n+1, r.stdout, r.stderr)
		t.Logf("datanode %d: %s%s", n+1, r.stdout, r.stderr)
	}
	rot.awaitClean()
	cancel()
	require.NoError(t, <-failed)
	rot.requireWhole()

	// Nothing was only in the page cache, or in memory.
	require.NoError(t, rot.system.Stop())
	require.NoError(t, rot.system.Start(patient(t, cluster.StartTimeout)))
	rot.awaitClean()
	rot.requireWhole()
}

// rot damages a cluster.
type rot struct {
	*testing.T
	system  *cluster.Cluster
	random  *rand.Rand
	content map[string][]byte
	targets [3][]replicaOf          // by datanode, as they were before any damage; the last ones are segments
	bad     map[string]map[int]bool // by chunk: the datanodes whose replica is damaged
	renamed map[string]bool         // files whose names were damaged, by what they were
	kinds   map[string]int
}

// store makes files of every form: records of packs, files of one chunk, of several.
func (r *rot) store() {
	for n := range 76 {
		size := 1 + r.random.IntN(6000)
		switch {
		case n >= 72:
			size = 2_000_000 + r.random.IntN(800_000)
		case n >= 40:
			size = 70_000 + r.random.IntN(400_000)
		}
		path := fmt.Sprintf("/file%02d", n)
		r.content[path] = bytesOf(uint64(n)+77, size)
		_, err := r.system.Client().Store(r.Context(), path, bytes.NewReader(r.content[path]), int64(size),
			client.StoreOptions{})
		require.NoError(r, err)
	}
}

// replicaOf is a replica on a disk, or a whole segment.
type replicaOf struct {
	datanode int
	chunks   []string // of a segment: all in it
	file     string
	header   int64 // of the record; -1: a chunk file, or a segment
	data     int64 // where its data are
	length   int64
	sums     int64 // where its sums are; 0: elsewhere
}

// replicas lists what can be damaged on a datanode.
func (r *rot) replicas(datanode int) (list []replicaOf) {
	disk := r.system.Disks(datanode)[0]
	names, err := filepath.Glob(filepath.Join(disk, "chunks", "*", "*.chunk"))
	require.NoError(r, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(r, err)
		data := int64(binary.LittleEndian.Uint64(b[40:]))
		id, _, _ := strings.Cut(filepath.Base(name), "_")
		list = append(list, replicaOf{datanode, []string{id}, name, -1, data, int64(len(b)) - data, 2048})
	}
	segments, err := filepath.Glob(filepath.Join(disk, "packs", "*.pack"))
	require.NoError(r, err)
	for _, name := range segments {
		list = append(list, recordsIn(r.T, datanode, name)...)
	}
	return list
}

// recordsIn lists the records of a segment, and then the segment itself.
func recordsIn(t *testing.T, datanode int, name string) (list []replicaOf) {
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	var all []string
	for at := int64(512); at+512 <= int64(len(b)); {
		header := b[at : at+512]
		length := int64(binary.LittleEndian.Uint32(header[12:]))
		if !bytes.HasPrefix(header, []byte("WWrecord")) || at+512+length > int64(len(b)) {
			at += 512
			continue
		}
		if binary.LittleEndian.Uint64(header[80:]) == 0 { // it lives
			id := uuid.UUID(header[16:32]).String()
			all = append(all, id)
			list = append(list, replicaOf{datanode, []string{id}, name, at, at + 512, length, 0})
		}
		at += 512 + (length+511)/512*512
	}
	return append(list, replicaOf{datanode: datanode, chunks: all, file: name, header: -1})
}

// allowed tells whether a replica may be damaged: a third one of its chunk is good.
func (r *rot) allowed(target replicaOf) bool {
	for _, id := range target.chunks {
		if len(r.bad[id]) >= 2 && !r.bad[id][target.datanode] {
			return false
		}
	}
	return len(target.chunks) > 0 && !r.renamed[target.file]
}

// flipOne damages one place; false: what was drawn must stay good.
func (r *rot) flipOne() bool {
	all := r.targets[r.random.IntN(3)]
	target := all[r.random.IntN(len(all))]
	if len(r.kinds) == 0 { // later hardly one is left that may be
		target = all[len(all)-1]
	}
	segment := target.header < 0 && target.data == 0
	if !r.allowed(target) {
		return false
	}
	kind, offset := r.place(target, segment)
	if offset >= 0 {
		r.flip(target.file, offset)
	} else {
		r.rename(target.file)
		r.renamed[target.file] = true
	}
	r.kinds[kind]++
	if kind == "header of a segment" {
		return true // its records do not need it
	}
	for _, id := range target.chunks {
		if r.bad[id] == nil {
			r.bad[id] = make(map[int]bool)
		}
		r.bad[id][target.datanode] = true
	}
	return true
}

// place draws where a replica is damaged; a negative offset is its name.
func (r *rot) place(target replicaOf, segment bool) (kind string, offset int64) {
	switch draw := r.random.IntN(10); {
	case segment && draw < 5:
		return "name of a segment", -1
	case segment:
		return "header of a segment", r.random.Int64N(512)
	case target.header >= 0 && draw < 4:
		return "header of a record", target.header + r.random.Int64N(512)
	case target.header >= 0:
		return "data of a record", target.data + r.random.Int64N(target.length)
	case draw < 2:
		return "name", -1
	case draw < 4:
		return "header", r.random.Int64N(512)
	case draw < 5:
		return "slot", 512 + r.random.Int64N(1536)
	case draw < 7 && target.length >= 65_536:
		return "sum", target.sums + r.random.Int64N(target.length/65_536*8)
	}
	return "data", target.data + r.random.Int64N(target.length)
}

func (r *rot) flip(name string, offset int64) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(r, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], offset)
	require.NoError(r, err)
	b[0] ^= 1 << r.random.IntN(8)
	_, err = f.WriteAt(b[:], offset)
	require.NoError(r, err)
}

// rename changes one letter of a file's name, so that it is still the name of a replica or a segment.
func (r *rot) rename(name string) {
	base := []byte(filepath.Base(name))
	end := bytes.IndexByte(base, '.')
	for {
		changed := bytes.Clone(base)
		at := r.random.IntN(end)
		if changed[at] < '0' || changed[at] > '9' {
			continue
		}
		changed[at] = "0123456789"[r.random.IntN(10)]
		target := filepath.Join(filepath.Dir(name), string(changed))
		if _, err := os.Stat(target); err == nil {
			continue
		}
		require.NoError(r, os.Rename(name, target))
		return
	}
}

// read reads a file as any client does, and compares it.
func (r *rot) read(ctx context.Context, path string) error {
	f, err := r.system.Client().Open(ctx, path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	got, err := io.ReadAll(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !bytes.Equal(got, r.content[path]) {
		return fmt.Errorf("%s: WRONG BYTES", path)
	}
	return nil
}

func (r *rot) readAll(when string) {
	for path := range r.content {
		require.NoError(r, r.read(r.Context(), path), when)
	}
}

// readUntil reads all files again and again until ctx ends.
func (r *rot) readUntil(ctx context.Context) error {
	for {
		for path := range r.content {
			if err := r.read(ctx, path); ctx.Err() != nil {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// awaitClean waits until the namenode counts nothing bad any more.
func (r *rot) awaitClean() {
	r.Helper()
	require.NoError(r, cluster.Poll(patient(r.T, time.Minute), func() error {
		status, err := r.system.Client().ClusterStatus(r.Context())
		if err != nil {
			return err
		}
		if status.SafeMode || status.UnderReplicatedChunks+status.MissingChunks+status.CorruptReplicas > 0 {
			return fmt.Errorf("safe mode %v, %d with too few replicas, %d without any, %d corrupt", status.SafeMode,
				status.UnderReplicatedChunks, status.MissingChunks, status.CorruptReplicas)
		}
		return nil
	}))
}

// requireWhole verifies every replica: three of each chunk, none of them bad.
func (r *rot) requireWhole() {
	r.Helper()
	r.readAll("after the repair")
	for path := range r.content {
		chunks, err := r.system.Client().Locate(r.Context(), path, 0, -1)
		require.NoError(r, err)
		for _, c := range chunks {
			require.Len(r, c.Replicas, 3, "%s, chunk %d", path, c.Index)
		}
	}
	for _, port := range r.system.DataPorts {
		said := mustWW(r.T, r.system, "admin", "scrub", fmt.Sprintf("127.0.0.1:%d", port))
		require.Contains(r, said, " 0 bad")
	}
	require.Contains(r, mustWW(r.T, r.system, "admin", "scrub", "/"), " 0 bad, 0 not verified")
	report := mustWW(r.T, r.system, "admin", "report")
	require.Contains(r, report, "scrub: 3 of 3 disks verified")
}
