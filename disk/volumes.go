package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// volumes are those of a store, in the order in which they came. It chooses where a new replica goes.
type volumes struct {
	*env
	list atomic.Pointer[[]*volume] // replaced, never changed
	left []*volume                 // were taken out while the store runs; guarded by gate
	// coming is the volume that is being added, until it is in the list; see arrival.
	coming atomic.Pointer[volume]
	// away is when the last disk with replicas was removed that has not come back, in Unix milliseconds; 0: none is.
	away atomic.Int64
}

// all lists the volumes. The list does not change.
func (vs *volumes) all() []*volume { return *vs.list.Load() }

// ever lists also those that were taken out, and one that is coming and has workers: their goroutines end with the
// store. The gate is held, or closed: then nothing changes any more.
func (vs *volumes) ever() []*volume {
	all := append(slices.Clone(vs.all()), vs.left...)
	if v := vs.coming.Load(); v != nil && v.workers != nil {
		all = append(all, v)
	}
	return all
}

func (vs *volumes) set(list []*volume) { vs.list.Store(&list) }

// describe asks the file systems for their free space, and does not wait long for those that do not answer.
func (vs *volumes) describe() []datanode.VolumeState {
	all := vs.all()
	questions := make([]*question, len(all))
	for i, v := range all {
		if v.answers() {
			questions[i] = v.askSpace()
		}
	}
	patience := vs.options.Clock.NewTimer(spacePatience)
	defer patience.Stop()
	list := make([]datanode.VolumeState, len(all))
	late := false // one timer for all: once it fired, only those are heeded that have answered
	for i, v := range all {
		if q := questions[i]; q != nil {
			late = !q.wait(patience, late) || late
		}
		list[i] = v.describe()
	}
	return list
}

// describe tells what is known of a volume without asking its disk.
func (v *volume) describe() datanode.VolumeState {
	status := v.health.Status()
	state := datanode.VolumeState{ID: v.id, Directory: v.directory, CapacityBytes: v.capacity.Load(),
		UsedBytes: max(0, v.capacity.Load()-v.free.Load()), ReserveBytes: v.options.ReserveBytes,
		FreeBytes: max(0, v.free.Load()-v.options.ReserveBytes), Replicas: uint64(max(0, v.replicas.Load())),
		Healthy: !status.State.OutOfService(), Error: status.Last, Health: status.State, Errors: status.Errors,
		Since: status.Since, Device: v.device}
	state.Lateness = v.health.Lateness()
	if v.scrubber != nil {
		state.Scrub = v.scrubber.Status()
	}
	if !state.Healthy {
		state.FreeBytes, state.Replicas = 0, 0
	} else if v.draining.Load() {
		state.FreeBytes, state.Health = 0, datanode.VolumeDraining
	}
	return state
}

// candidate is a volume that may get a new replica.
type candidate struct {
	*volume
	room  int64 // bytes above the reserve: 0..
	pages int64 // of its room, if the replica fits: so that the sum over all cannot overflow
	slow  bool
}

// choose chooses a volume for a new replica: healthy, with room for sizeHint above the reserve, in proportion to the
// room, and a slow one only as withoutSlow says. The choice follows from the id, so it repeats as long as the room
// does.
func (vs *volumes) choose(id chunk.ID, sizeHint int64, space func(*volume) (int64, error)) (*volume, error) {
	const op = "place replica"
	all := vs.all()
	candidates := make([]candidate, 0, len(all))
	var most int64
	emptiest := ""
	for _, volume := range all {
		if !volume.placeable() {
			continue
		}
		free, err := space(volume)
		if errors.Is(err, errSpaceUnknown) {
			return nil, err
		}
		if err != nil {
			continue
		}
		c := candidate{volume: volume, room: max(0, free-vs.options.ReserveBytes), slow: volume.health.Slow()}
		if emptiest == "" || c.room > most {
			most, emptiest = c.room, volume.directory
		}
		if c.room >= sizeHint {
			c.pages = c.room >> 12
		}
		candidates = append(candidates, c)
	}
	if len(candidates) == 0 {
		return nil, chunkError(fault.Disk, op, id, "none of %d volumes is healthy: %s", len(all), vs.complaints())
	}
	chosen, total := withoutSlow(candidates)
	if total == 0 {
		return nil, noRoom(op, id,
			fmt.Sprintf("needs %d bytes; of %d healthy disks the emptiest, %s, has %d above its datanode.reserve of %d",
				max(sizeHint, 1), len(candidates), emptiest, most, vs.options.ReserveBytes))
	}
	sum := xxh3.HashSeed(id[:], 1) // not the hash that chooses the worker
	point := int64(sum % uint64(total))
	for _, c := range chosen {
		if point < c.pages {
			return c.volume, nil
		}
		point -= c.pages
	}
	return nil, chunkError(fault.Internal, op, id, "no volume chosen for %x",
		binary.LittleEndian.AppendUint64(nil, sum))
}

// inService are those that are not out of service.
func inService(volumes []*volume) []*volume {
	list := make([]*volume, 0, len(volumes))
	for _, v := range volumes {
		if !v.health.Out() {
			list = append(list, v)
		}
	}
	return list
}

// any is a volume whose workers can be given work: one in service, if there is one.
func (vs *volumes) any() *volume {
	for _, v := range vs.all() {
		if v.answers() {
			return v
		}
	}
	return vs.all()[0]
}

// complaints name the volumes that are out of service, for people.
func (vs *volumes) complaints() string {
	var texts []string
	for _, v := range vs.all() {
		if status := v.health.Status(); status.State.OutOfService() || v.health.Stalled() {
			texts = append(texts, v.directory+" is "+status.State.String()+" ("+status.Last+")")
		}
	}
	return limits.Clip(strings.Join(texts, ", "), limits.ReasonBytesMax)
}

// unlock releases the volumes to other processes.
func (vs *volumes) unlock() error {
	var failures []error
	for _, v := range vs.ever() {
		failures = append(failures, v.close())
	}
	return errors.Join(failures...)
}

// abandon releases the volumes of a store whose goroutines do not end, because a disk does not answer. Those on which
// something is under way stay locked: the disk may still do it. Whoever waited for that does nothing more on the others
// when it goes on. Error: fault.Disk, which names those that stay locked.
func (vs *volumes) abandon() error {
	var failures []error
	for _, v := range vs.ever() {
		hanging := v.health.Retire()
		if hanging == "" {
			failures = append(failures, v.close())
			continue
		}
		failures = append(failures, &fault.Error{Kind: fault.Disk, Op: "close volume", Path: v.directory,
			Reason: hanging, Hint: "the disk is locked until this process has ended; mend or replace it"})
	}
	return errors.Join(failures...)
}
