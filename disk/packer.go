package disk

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// packer appends the records of one volume: it gathers what waits, writes it in
// one piece, syncs once, and completes every job of the batch. While it syncs
// the next batch gathers in the queue, so nobody waits for a timer.
//
// A segment in which a write or a sync failed is never appended to again: what
// was acknowledged in it stays, what was not fails.
type packer struct {
	store  *Store
	volume *volume
	queue  chan *packJob

	// owned by the packer's goroutine
	sequence uint64 // of the last segment made
	current  *growing
	jobs     []*packJob
	batch    []byte
	zeros    []byte
}

// growing is the segment that is appended to.
type growing struct {
	*segment
	file   *filecache.File
	end    int64 // acknowledged records end here, durably
	zeroed int64 // zeros were written up to here
	named  bool  // its name is durable
}

// packJob is a record to be written. Whoever submits it holds the replica's io
// lock, and the packer releases it when the job is done: until then the replica
// belongs to the job.
type packJob struct {
	record
	replica *replica
	data    []byte
	// done is called on the packer's goroutine with the segment that has the
	// record, durably, or an error; it unlocks the replica. It must not block.
	done func(j *packJob, g *segment, err error)
	// of a seal
	writer *Writer
	told   func(int64, error)
}

func newPacker(s *Store, v *volume) *packer {
	return &packer{store: s, volume: v, queue: make(chan *packJob, packQueueDepth)}
}

// run works until the queue is closed and empty.
func (p *packer) run(group *sync.WaitGroup) {
	defer group.Done()
	for j := range p.queue {
		p.gather(j)
		for jobs := p.jobs; len(jobs) > 0; {
			n, g, err := p.commit(jobs)
			for _, j := range jobs[:n] {
				j.done(j, g, err)
			}
			jobs = jobs[n:]
		}
		clear(p.jobs)
	}
	p.closeSegment(true)
}

// gather takes what waits behind j.
func (p *packer) gather(j *packJob) {
	p.jobs = append(p.jobs[:0], j)
	for len(p.jobs) < packBatchMax {
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

// commit writes the first n jobs, as many as the segment has room for, and
// makes them durable.
func (p *packer) commit(jobs []*packJob) (n int, g *segment, err error) {
	if p.current != nil && p.current.end+recordBytes(int64(len(jobs[0].data))) > p.store.options.PackSegmentBytes {
		p.closeSegment(true)
	}
	if p.current == nil {
		if err := p.openNext(); err != nil {
			return len(jobs), nil, p.failed("create segment", p.volume.path(packsDirectory), err)
		}
	}
	n = p.stage(jobs)
	o := p.current
	if op, err := p.write(o); err != nil {
		p.closeSegment(vfs.IsFull(err) && op != opSync)
		return n, nil, p.failed(op, o.path(), err)
	}
	o.end += int64(len(p.batch))
	for _, j := range jobs[:n] {
		p.volume.pack.grow(o.segment, j.end(), j.bytes())
	}
	return n, o.segment, nil
}

// stage lays records out in p.batch.
func (p *packer) stage(jobs []*packJob) (n int) {
	o := p.current
	p.batch = p.batch[:0]
	for _, j := range jobs {
		j.length = int64(len(j.data))
		j.offset, j.durable = o.end+int64(len(p.batch)), o.end
		if n > 0 && j.end() > p.store.options.PackSegmentBytes {
			break
		}
		j.sum = xxh3.Hash(j.data)
		at := len(p.batch)
		p.batch = append(p.batch, make([]byte, chunkfile.SectorBytes)...)
		p.batch = append(p.batch, j.data...)
		p.batch = append(p.batch, make([]byte, int(j.bytes())-chunkfile.SectorBytes-len(j.data))...)
		putRecord(p.batch[at:], o.name, j.record)
		n++
	}
	return n
}

const opSync = "sync segment"

// write makes the batch durable. Before the records come to where no zeros were
// written yet it writes some ahead: a sync of blocks that the file has had
// before does not wait for the file system's journal (tuning.md#pack).
func (p *packer) write(o *growing) (op string, err error) {
	if end := o.end + int64(len(p.batch)); end > o.zeroed {
		zeros := p.zeros[:min(int64(len(p.zeros)), max(0, p.store.options.PackSegmentBytes-end))]
		if _, err := o.file.WriteAt(zeros, end); err != nil && !vfs.IsFull(err) {
			return "write ahead in segment", err
		}
		o.zeroed = end + int64(len(zeros)) // also when the disk is full: it is tried once
	}
	if _, err := o.file.WriteAt(p.batch, o.end); err != nil {
		return "append to segment", err
	}
	if err := o.file.Datasync(); err != nil {
		return opSync, err
	}
	if !o.named {
		if err := p.volume.fs.SyncDir(p.volume.path(packsDirectory)); err != nil {
			return opSync, err
		}
		o.named = true
	}
	return "", nil
}

// openNext begins a segment.
func (p *packer) openNext() error {
	var key [8]byte
	if err := p.store.random(key[:]); err != nil {
		return err
	}
	p.sequence++
	g, f, err := p.store.createSegment(p.volume, segmentName{sequence: p.sequence, key: binary.LittleEndian.Uint64(key[:])})
	if err != nil {
		return err
	}
	p.volume.pack.add(g)
	p.current = &growing{segment: g, file: f, end: chunkfile.SectorBytes, zeroed: chunkfile.SectorBytes}
	if p.zeros == nil {
		p.zeros = make([]byte, packZeroBytes)
	}
	return nil
}

// closeSegment ends the segment. With cut, what is behind the acknowledged
// records is given back; after a failed write or sync the file is left as it is.
func (p *packer) closeSegment(cut bool) {
	o := p.current
	if o == nil {
		return
	}
	p.current = nil
	if cut {
		if err := o.file.Truncate(o.end); err != nil { // costs only room
			p.volume.noteError(err)
		}
	}
	p.store.files.Release(o.file)
	p.volume.pack.close(o.segment)
}

func (p *packer) failed(op, path string, err error) error {
	failure := diskError(op, path, chunk.ID{}, err)
	p.volume.noteError(failure)
	return failure
}

// random fills b; packers of several volumes share the source.
func (s *Store) random(b []byte) error {
	s.identity.Lock()
	defer s.identity.Unlock()
	if _, err := io.ReadFull(s.options.Random, b); err != nil {
		return &fault.Error{Kind: fault.Internal, Op: "make segment key", Err: err}
	}
	return nil
}
