package copies

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
)

// relistMax bounds how often a directory is listed anew because a file in it moved meanwhile.
const relistMax = 20

// disks reads the data directories of all datanodes. Safe for concurrent use.
type disks struct {
	nodes [][]*volume
}

// volume is one data directory.
type volume struct {
	directory string
	mu        struct {
		sync.Mutex
		segments map[string]*segment // by file name
		lost     time.Time           // when the harness took the disk: from then on nothing on it counts
	}
}

// lose says when a disk fails: now, or in the future, if it goes on to take what is written until that is noticed.
func (v *volume) lose(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.lost = at
}

func (v *volume) lostAt() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.lost
}

// lostSince lists the nodes that have lost a disk after a time: what was acknowledged before they did may have been
// on it. ever tells whether any disk was lost at all.
func (d *disks) lostSince(begun time.Time) (nodes []int, ever bool) {
	for node, volumes := range d.nodes {
		for _, v := range volumes {
			at := v.lostAt()
			ever = ever || !at.IsZero()
			if at.After(begun) {
				nodes = append(nodes, node)
			}
		}
	}
	return nodes, ever
}

func openDisks(system *cluster.Cluster) *disks {
	all := &disks{}
	for i := range system.Datanodes {
		var volumes []*volume
		for _, directory := range system.Disks(i) {
			one := &volume{directory: directory}
			one.mu.segments = map[string]*segment{}
			volumes = append(volumes, one)
		}
		all.nodes = append(all.nodes, volumes)
	}
	return all
}

// replica is one copy of a chunk on a disk, as a start of the datanode would take it.
type replica struct {
	node       int
	path       string
	generation chunk.Generation
	sealed     bool
	data       []byte // all that it proves
	broken     string // why it proves nothing
}

func (r *replica) String() string {
	state := "open"
	if r.sealed {
		state = "sealed"
	}
	text := fmt.Sprintf("node %d: generation %d, %s, %d bytes, %s", r.node, r.generation, state, len(r.data), r.path)
	if r.broken != "" {
		text += ": " + r.broken
	}
	return text
}

// find lists the replicas of a chunk on all disks. What is hidden, in the trash or in quarantine is none.
func (d *disks) find(id chunk.ID) ([]*replica, error) {
	var all []*replica
	for node, volumes := range d.nodes {
		for _, v := range volumes {
			found, err := v.find(id)
			if err != nil {
				return nil, err
			}
			for _, r := range found {
				r.node = node
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

// find lists chunk files first and records second: a record becomes a file and never the other way.
func (v *volume) find(id chunk.ID) ([]*replica, error) {
	for range relistMax {
		if !v.lostAt().IsZero() {
			return nil, nil
		}
		found, err := v.files(id)
		if err != nil && !v.lostAt().IsZero() {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was renamed
		}
		if err != nil {
			return nil, err
		}
		record, err := v.record(id)
		if errors.Is(err, fs.ErrNotExist) || err != nil && !v.lostAt().IsZero() {
			continue // a segment was compacted
		}
		if record != nil {
			found = append(found, record)
		}
		return found, err
	}
	return nil, fmt.Errorf("files of chunk %s moved %d times while they were read, below %s", id, relistMax,
		v.directory)
}

func (v *volume) shard(last byte) string {
	return filepath.Join(v.directory, chunkfile.Directory, chunkfile.Shard(last))
}

// entries lists a directory; none if it is not made yet.
func entries(directory string) ([]fs.DirEntry, error) {
	list, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

func (v *volume) files(id chunk.ID) ([]*replica, error) {
	directory := v.shard(id[len(id)-1])
	list, err := entries(directory)
	if err != nil {
		return nil, err
	}
	var all []*replica
	for _, entry := range list {
		if !strings.HasPrefix(entry.Name(), id.String()) {
			continue
		}
		name, ok := chunkfile.ParseName(entry.Name())
		if !ok || name.Hidden {
			continue
		}
		found, err := readFile(filepath.Join(directory, entry.Name()), name)
		if err != nil {
			return nil, err
		}
		all = append(all, found)
	}
	return all, nil
}

// readFile reads a chunk file as a start would: what an open one proves is found out from its sums and slots.
func readFile(path string, name chunkfile.Name) (*replica, error) {
	file, err := vfs.OS{}.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found := &replica{path: path, generation: name.Generation, sealed: name.Sealed}
	length := name.Length
	var layout chunkfile.Layout
	if name.Sealed {
		state, _, loadErr := chunkfile.Load(file, name.ID, name.Length)
		layout, err = state.Layout, loadErr
	} else {
		proved, recoverErr := chunkfile.Recover(file, name.ID)
		length, layout, err = proved.Length, proved.Layout, recoverErr
	}
	if err == nil {
		found.data = make([]byte, length)
		err = vfs.ReadFull(file, found.data, layout.DataOffset())
	}
	if err != nil {
		found.data, found.broken = nil, err.Error()
	}
	return found, nil
}

// record finds the newest living record of a chunk.
func (v *volume) record(id chunk.ID) (*replica, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.followLocked(); err != nil {
		return nil, err
	}
	var best *replica
	sequence := uint64(0)
	for _, s := range v.mu.segments {
		if len(s.records[id]) == 0 {
			continue
		}
		file, err := os.Open(s.path)
		if err != nil {
			return nil, err
		}
		record, data, found := s.newest(file, id)
		file.Close()
		newer := best == nil || record.generation > best.generation ||
			record.generation == best.generation && s.sequence > sequence
		if found && newer {
			best = &replica{path: s.path, generation: record.generation, sealed: true, data: data}
			sequence = s.sequence
			if data == nil {
				best.broken = "the record was removed, or is torn"
			}
		}
	}
	return best, nil
}

// followLocked reads on in all segments.
func (v *volume) followLocked() error {
	directory := filepath.Join(v.directory, "packs")
	list, err := entries(directory)
	if err != nil {
		return err
	}
	present := map[string]bool{}
	for _, entry := range list {
		present[entry.Name()] = true
		known := v.mu.segments[entry.Name()]
		if known == nil {
			var ok bool
			if known, ok = parseSegment(directory, entry.Name()); !ok {
				continue
			}
			v.mu.segments[entry.Name()] = known
		}
		file, err := os.Open(known.path)
		if err != nil {
			return err
		}
		known.follow(file)
		file.Close()
	}
	for name := range v.mu.segments {
		if !present[name] {
			delete(v.mu.segments, name)
		}
	}
	return nil
}

// holdings are the newest generations that each node holds, by chunk.
type holdings []map[chunk.ID]chunk.Generation

// list notes what all directories hold at this moment.
func (d *disks) list() (holdings, error) {
	all := make(holdings, len(d.nodes))
	for node, volumes := range d.nodes {
		all[node] = map[chunk.ID]chunk.Generation{}
		for _, v := range volumes {
			if err := v.list(all[node]); err != nil && v.lostAt().IsZero() {
				return nil, err
			}
		}
	}
	return all, nil
}

func (v *volume) list(into map[chunk.ID]chunk.Generation) error {
	for last := range 256 {
		list, err := entries(v.shard(byte(last)))
		if err != nil {
			return err
		}
		for _, entry := range list {
			if name, ok := chunkfile.ParseName(entry.Name()); ok && !name.Hidden {
				into[name.ID] = max(into[name.ID], name.Generation)
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.followLocked(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, s := range v.mu.segments {
		for id, places := range s.records {
			for _, at := range places {
				into[id] = max(into[id], at.generation)
			}
		}
	}
	return nil
}

// held tells which nodes had a chunk at the newest generation that any of them had.
func (h holdings) held(id chunk.ID) map[int]bool {
	newest := chunk.Generation(0)
	for _, node := range h {
		newest = max(newest, node[id])
	}
	nodes := map[int]bool{}
	for i, node := range h {
		nodes[i] = newest > 0 && node[id] == newest
	}
	return nodes
}
