package disk

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// starting decides what a start does about volumes that do not work.
type starting struct {
	*env
	volumes  *volumes
	failures []error // of the volumes that it goes on without
}

// open opens the volumes, or notes that they are missing or broken.
func (s *starting) open(roll *roll) error {
	for _, v := range s.volumes.all() {
		err := roll.missing(v)
		if err != nil {
			v.health.Condemn(datanode.VolumeMissing, err.Error())
		} else {
			err = v.open()
		}
		if err := s.tolerate(v, err); err != nil {
			return err
		}
	}
	return nil
}

// tolerate takes a volume out of service if err says that its disk is bad, and returns the error if the store cannot
// start without it. Other errors are the operator's to decide about.
func (s *starting) tolerate(volume *volume, err error) error {
	if err == nil {
		return nil
	}
	if kind := fault.KindOf(err); kind != fault.Disk {
		return err
	}
	state := datanode.VolumeFailed
	if errors.Is(err, syscall.EROFS) {
		state = datanode.VolumeReadOnly
	}
	volume.health.Condemn(state, err.Error())
	volume.unindexed.Store(true)
	s.failures = append(s.failures, err)
	count, all := len(s.failures), len(s.volumes.all())
	tolerated := TolerableFailures(s.options.FailedVolumesTolerated, all)
	if count <= tolerated {
		return nil
	}
	if all == 1 {
		return err
	}
	failure := &fault.Error{Kind: fault.Disk, Op: "open chunk store", Err: errors.Join(s.failures...),
		Reason: fmt.Sprintf("%d of %d volumes cannot be used, %d may fail (failed_volumes_tolerated)",
			count, all, tolerated)}
	var first *fault.Error
	if errors.As(s.failures[0], &first) {
		failure.Path, failure.Hint = first.Path, first.Hint
	}
	return failure
}
