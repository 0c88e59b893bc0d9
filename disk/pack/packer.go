package pack

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/vfs"
)

// packer appends the records of one volume: it gathers what waits, writes it in one piece, syncs once, and completes
// every job of the batch. While it syncs the next batch gathers in the queue, so nobody waits for a timer.
//
// A segment in which a write or a sync failed is never appended to again: what was acknowledged in it stays,
// what was not fails.
type packer struct {
	set   *Set
	queue chan *Job

	// owned by the packer's goroutine
	sequence uint64 // of the last segment made
	current  *growing
	jobs     []*Job
	batch    []byte
	zeros    []byte
}

// growing is the segment that is appended to.
type growing struct {
	*Segment
	file   *filecache.File
	end    int64 // acknowledged records end here, durably
	zeroed int64 // zeros were written up to here
	named  bool  // its name is durable
}

// Job is a record to be written. Whoever submits it holds the lock of its replica, and Done releases it:
// until then the replica belongs to the job.
type Job struct {
	Record // with ID, Generation and ChunkSize; Length, Sum and Offset are set before Done
	Data   []byte
	// Done is called on the packer's goroutine with the segment that has the record, durably, or an error. It
	// must not block.
	Done func(g *Segment, err error)
}

// run works until the queue is closed and empty.
func (p *packer) run() {
	for j := range p.queue {
		p.gather(j)
		for jobs := p.jobs; len(jobs) > 0; {
			n, g, err := p.commit(jobs)
			for _, j := range jobs[:n] {
				j.Done(g, err)
			}
			jobs = jobs[n:]
		}
		clear(p.jobs)
	}
	p.closeSegment(true)
}

// gather collects the jobs that wait behind j.
func (p *packer) gather(j *Job) {
	p.jobs = append(p.jobs[:0], j)
	for len(p.jobs) < batchMax {
		select {
		case more, open := <-p.queue:
			if !open {
				return
			}
			p.jobs = append(p.jobs, more)
		default:
			return
		}
	}
}

// commit writes the first n jobs, as many as the segment has room for, and makes them durable.
func (p *packer) commit(jobs []*Job) (count int, g *Segment, err error) {
	switch {
	case p.current == nil:
	case p.set.lost(p.current.Segment):
		p.closeSegment(false)
	case p.current.end+RecordBytes(int64(len(jobs[0].Data))) > p.set.options.SegmentBytes:
		p.closeSegment(true)
	}
	if p.current == nil {
		if err := p.openNext(); err != nil {
			return len(jobs), nil, p.set.failure("create segment", p.set.options.Directory, err)
		}
	}
	count = p.stage(jobs)
	o := p.current
	if op, err := p.write(o); err != nil {
		p.closeSegment(vfs.IsFull(err) && op != opSync)
		return count, nil, p.set.failure(op, o.Path(), err)
	}
	o.end += int64(len(p.batch))
	p.set.update(o.Segment, func() { o.bytes, o.live = o.end, o.live+int64(len(p.batch)) })
	return count, o.Segment, nil
}

// stage lays records out in p.batch.
func (p *packer) stage(jobs []*Job) (count int) {
	current := p.current
	p.batch = p.batch[:0]
	for _, j := range jobs {
		j.Length = int64(len(j.Data))
		j.Offset, j.durable = current.end+int64(len(p.batch)), current.end
		if count > 0 && j.end() > p.set.options.SegmentBytes {
			break
		}
		j.Sum = xxh3.Hash(j.Data)
		at := len(p.batch)
		p.batch = append(p.batch, make([]byte, chunkfile.SectorBytes)...)
		p.batch = append(p.batch, j.Data...)
		p.batch = append(p.batch, make([]byte, int(j.bytes())-chunkfile.SectorBytes-len(j.Data))...)
		putRecord(p.batch[at:], current.name, j.Record)
		count++
	}
	return count
}

const opSync = "sync segment"

// write makes the batch durable. Before the records come to where no zeros were written yet it writes some ahead: a
// sync of blocks that the file has had before does not wait for the file system's journal (tuning.md#pack).
func (p *packer) write(current *growing) (op string, err error) {
	if end := current.end + int64(len(p.batch)); end > current.zeroed {
		zeros := p.zeros[:min(int64(len(p.zeros)), max(0, p.set.options.SegmentBytes-end))]
		if _, err := current.file.WriteAt(zeros, end); err != nil && !vfs.IsFull(err) {
			return "write ahead in segment", err
		}
		current.zeroed = end + int64(len(zeros)) // also when the disk is full: it is tried once
	}
	if _, err := current.file.WriteAt(p.batch, current.end); err != nil {
		return "append to segment", err
	}
	if err := current.file.Datasync(); err != nil {
		return opSync, err
	}
	if !current.named {
		if err := p.set.options.FS.SyncDir(p.set.options.Directory); err != nil {
			return opSync, err
		}
		current.named = true
	}
	return "", nil
}

// openNext begins a segment.
func (p *packer) openNext() error {
	var key [8]byte
	if err := p.set.options.Random(key[:]); err != nil {
		return err
	}
	p.sequence++
	g, f, err := p.set.create(segmentName{sequence: p.sequence, key: binary.LittleEndian.Uint64(key[:])})
	if err != nil {
		return err
	}
	p.current = &growing{Segment: g, file: f, end: chunkfile.SectorBytes, zeroed: chunkfile.SectorBytes}
	if p.zeros == nil {
		p.zeros = make([]byte, p.set.options.ZeroBytes)
	}
	return nil
}

// closeSegment ends the segment. With cut, what is behind the acknowledged records is given back; after a
// failed write or sync the file is left as it is.
func (p *packer) closeSegment(cut bool) {
	current := p.current
	if current == nil {
		return
	}
	p.current = nil
	if cut {
		if err := current.file.Truncate(current.end); err != nil { // costs only room
			p.set.options.OnError(err)
		}
	}
	p.set.options.Files.Release(current.file)
	p.set.update(current.Segment, func() { current.closed = true })
}
