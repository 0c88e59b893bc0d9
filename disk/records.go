package disk

import (
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
)

// sealJob makes a small replica a record. It holds the replica's lock.
type sealJob struct {
	pack.Job
	writer *Writer
	answer func(int64, error) // of the Writer's job
}

// done ends the job: the replica is a record, or gone.
func (j *sealJob) done(segment *pack.Segment, err error) {
	writer := j.writer
	replica := writer.replica
	replica.endSessionLocked()
	length := int64(0)
	if err != nil {
		writer.sessions.index.loseLocked(replica)
	} else {
		length = j.Length
		replica.updateLocked(func(v *snapshot) {
			v.state, v.hidden, v.readable, v.layout = chunk.Sealed, false, true, replica.disk.Layout
			v.Length, v.Partial, v.place = j.Length, j.Sum, recordAt(segment, j.Offset)
		})
		writer.length.Store(length)
		replica.reportLocked(Stored, "")
	}
	replica.io.Unlock()
	if j.answer != nil {
		j.answer(length, err)
	}
}

// claims says which records are replicas, for the compactor.
type claims struct {
	index      *index
	quarantine *quarantine
}

// Claim locks the replica of a record.
func (c *claims) Claim(g *pack.Segment, rec pack.Record) pack.Claim {
	r, err := c.index.lock("claim record", rec.ID)
	if err != nil {
		return nil // its replica is gone
	}
	if r.view.place != recordAt(g, rec.Offset) {
		r.io.Unlock()
		return nil
	}
	return claim{c.quarantine, r}
}

// Left counts the replicas in a segment.
func (c *claims) Left(g *pack.Segment) (count int) {
	for _, r := range c.index.all() {
		if v := r.snapshot(); v.place.kind == inRecord && v.place.segment == g {
			count++
		}
	}
	return count
}

// claim is a packed replica, with its io lock, while its record is moved.
type claim struct {
	quarantine *quarantine
	replica    *replica
}

func (c claim) Moved(to *pack.Segment, offset int64) {
	c.replica.updateLocked(func(v *snapshot) { v.place = recordAt(to, offset) })
}

func (c claim) Corrupt(reason error) error {
	if c.replica.view.state != chunk.Corrupt {
		c.quarantine.putLocked(c.replica, reason.Error())
	}
	if c.replica.view.place.kind != inRecord {
		return nil // it is out of the way
	}
	return reason
}

func (c claim) Release() { c.replica.io.Unlock() }
