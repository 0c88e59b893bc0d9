package dataplane

import (
	"errors"

	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// replica is the disk side of a write session: it opens the file on its disk worker, submits packets in order, and
// closes the writer at the end. All methods but storedOnWorker run on the connection's loop.
type replica struct {
	connection *connection
	session    *machine.WriteSession
	writer     *disk.Writer // set by the worker before opened is posted, or at once
	openErr    error
	openEvent  event

	ready    bool         // opened has been delivered
	queue    []*diskWrite // wait for the open, or for a place in the disk's queue
	end      int64        // where the submitted jobs end
	ended    bool         // the job that seals or closes was submitted
	released bool         // the session is over; close the writer
}

// smallWriteBytesMax is the largest write to the page cache that a loop waits for.
const smallWriteBytesMax = 16 << 10

// diskWrite is a packet on its way to the disk and back. It is made once for each packet and used again with it.
type diskWrite struct {
	packet  *machine.Packet
	replica *replica                      // that it goes to; nil between two uses
	done    func(length int64, err error) // calls storedOnWorker
	err     error                         // the disk's answer
	event   event                         // calls stored
}

// small tells that the disk only has to take a few bytes into the page cache.
func (w *diskWrite) small() bool {
	return w.packet.Header.Flags == 0 && w.packet.Header.Length <= smallWriteBytesMax
}

// openReplica starts opening; packets may be appended at once.
func openReplica(conn *connection, session *machine.WriteSession) *replica {
	opening := &replica{connection: conn, session: session, end: session.Open.Offset}
	opening.openEvent.connection = conn
	opening.openEvent.deliver = opening.opened
	server := conn.server
	if opening.openSmall(server.store) {
		opening.ready = true
		conn.machine.OnOpened(session, opening.openErr, server.now())
		return opening
	}
	if err := server.onWorker(session.Chunk, func() {
		opening.writer, opening.openErr = opening.open(server.store)
		conn.loop.post(&opening.openEvent)
	}); err != nil {
		opening.ready, opening.openErr = true, err
		conn.machine.OnOpened(session, err, conn.server.now())
	}
	return opening
}

// openSmall opens a small new replica on the spot, if that takes no I/O.
func (r *replica) openSmall(store *disk.Store) (done bool) {
	o := &r.session.Open
	if o.Mode != wire.ModeCreate {
		return false
	}
	r.writer, done, r.openErr = store.CreateSmall(r.session.Chunk, chunk.Generation(o.Generation),
		disk.CreateOptions{ChunkSize: o.ChunkSize, SizeHint: o.SizeHint})
	return done
}

// open runs on a disk worker.
func (r *replica) open(store *disk.Store) (*disk.Writer, error) {
	o := &r.session.Open
	generation, previous := chunk.Generation(o.Generation), chunk.Generation(o.PreviousGeneration)
	switch o.Mode {
	case wire.ModeAppend:
		return store.Reopen(r.session.Chunk, previous, generation, o.Offset)
	case wire.ModeResume:
		return store.Resume(r.session.Chunk, previous, generation, o.Offset)
	}
	return store.Create(r.session.Chunk, generation, disk.CreateOptions{ChunkSize: o.ChunkSize, SizeHint: o.SizeHint})
}

func (r *replica) opened() {
	r.ready = true
	c := r.connection
	if r.released {
		r.release()
		return
	}
	c.machine.OnOpened(r.session, r.openErr, c.server.now())
	r.submitQueued()
}

// append takes over the packet and a reference to its buffer.
func (r *replica) append(p *machine.Packet) {
	w := p.Carrier.(*diskWrite)
	w.replica = r
	r.queue = append(r.queue, w)
	r.submitQueued()
}

// submitQueued submits what the disk's queue has room for, in order. What is
// left is tried again when a job of this replica ends, and with each tick.
func (r *replica) submitQueued() {
	if !r.ready || r.openErr != nil || r.released {
		return
	}
	server, handed := r.connection.server, 0
	for _, write := range r.queue {
		header := &write.packet.Header
		flags := header.Flags
		job := disk.Job{Offset: header.Offset, Data: write.packet.Payload(), Done: write.done,
			Sync: flags&wire.FlagSync != 0, Seal: flags&wire.FlagSeal != 0, Close: flags&wire.FlagClose != 0}
		server.counters.diskJobs.Add(1)
		server.work.Add(1)
		if err := r.writer.Submit(job); err != nil {
			server.counters.diskJobs.Add(-1)
			server.work.Done()
			if errors.Is(err, fault.Busy) {
				break
			}
			r.drop(r.queue[handed:], err)
			handed = len(r.queue)
			break
		}
		if write.small() {
			r.connection.loop.smallWrites++
		}
		r.end = header.Offset + int64(header.Length)
		r.ended = job.Seal || job.Close
		handed++
	}
	n := copy(r.queue, r.queue[handed:])
	clear(r.queue[n:])
	r.queue = r.queue[:n]
}

// drop reports packets that the disk never got.
func (r *replica) drop(writes []*diskWrite, err error) {
	for _, w := range writes {
		w.replica = nil
		w.packet.Buffer.Release()
		r.connection.machine.OnStored(r.session, w.packet, err, r.connection.server.now())
	}
}

// storedOnWorker runs on the disk worker when a job has ended: the disk's
// reference goes back here, where the last I/O on it ended.
func (r *replica) storedOnWorker(w *diskWrite, err error) {
	server := r.connection.server
	w.err = err
	w.packet.Buffer.Release()
	server.counters.diskJobs.Add(-1)
	r.connection.loop.post(&w.event)
	server.work.Done()
}

// stored tells the machine.
func (r *replica) stored(w *diskWrite) {
	if w.small() {
		r.connection.loop.smallWrites--
	}
	err := w.err
	w.replica, w.err = nil, nil
	r.connection.machine.OnStored(r.session, w.packet, err, r.connection.server.now())
	r.submitQueued()
}

// release ends the writer without sealing: the replica stays open on disk, to be resumed or recovered.
func (r *replica) release() {
	r.released = true
	queue := r.queue
	r.queue = nil
	r.drop(queue, errStopping)
	if !r.ready || r.openErr != nil || r.ended {
		return // opened calls again; or there is nothing to close
	}
	work := &r.connection.server.work
	work.Add(1)
	err := r.writer.Submit(disk.Job{Offset: r.end, Close: true, Done: func(int64, error) { work.Done() }})
	if err != nil {
		work.Done()
	}
	if errors.Is(err, fault.Busy) {
		r.connection.loop.orphans[r] = struct{}{} // the tick tries again
		return
	}
	r.ended = true
	delete(r.connection.loop.orphans, r)
}
