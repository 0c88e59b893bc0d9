package dataplane

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// readServer serves reads. A read has a goroutine of its own, which holds one of a few slots only while it may wait
// for a disk, not while it waits for its reader: stalled readers keep nobody else waiting.
type readServer struct {
	server *Server
	slots  chan struct{}
}

// copyBytesMax is the longest range that is copied behind its header in one write instead of being sent by sendfile.
const copyBytesMax = 16 << 10

// readTask is one running read.
type readTask struct {
	reads     *readServer
	out       *net.TCPConn // its write side is this task's until done is posted
	request   wire.OpenRead
	cancelled atomic.Bool
	done      event

	err    error // why bytes are missing
	broken bool  // less was sent than promised
}

// duplicate returns a second handle on the connection's socket, which Go's poller watches.
func duplicate(raw gnet.Conn) (*net.TCPConn, error) {
	fd, err := raw.Dup()
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "data connection")
	defer file.Close() // net.FileConn has its own duplicate
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("not a TCP connection")
	}
	return tcp, nil
}

// start begins a read on c's write side. Loop goroutine. Error: fault.Busy.
func (s *readServer) start(conn *connection, out *net.TCPConn, o wire.OpenRead) (*readTask, error) {
	counters := s.server.counters
	if counters.activeReads.Add(1) > int64(s.server.limits.ReadsMax) {
		counters.activeReads.Add(-1)
		return nil, fault.New(fault.Busy, "open read", "%d reads are running, the limit of this datanode",
			s.server.limits.ReadsMax)
	}
	counters.reads.Add(1)
	task := &readTask{reads: s, out: out, request: o}
	task.done.connection = conn
	task.done.deliver = func() { conn.readDone(task) }
	s.server.goroutines.Go(func() {
		task.run()
		if task.err != nil {
			counters.readErrors.Add(1)
		}
		counters.activeReads.Add(-1)
		conn.loop.post(&task.done)
	})
	return task, nil
}

// run serves the read from its lookup to its last byte.
func (t *readTask) run() {
	id, _ := chunk.IDFrom(t.request.ChunkID)
	t.reads.slots <- struct{}{}
	reader, err := t.reads.server.store.OpenReader(id, chunk.Generation(t.request.MinGeneration))
	var span disk.Range
	if err == nil {
		defer func() { _ = reader.Close() }() // it was only read
		if t.request.Background {
			reader.InBackground()
		}
		span, err = reader.Range(t.request.Offset, t.bounded(t.request.Length))
	}
	<-t.reads.slots
	reply := &wire.ReadReply{BodyVersion: wire.BodyVersion}
	if err != nil {
		t.err = err
		reply.Status = wire.StatusOf(t.reads.server.node.ID, id.String(), err)
		t.broken = t.write(t.encode(reply)) != nil
		return
	}
	reply.Generation, reply.ReplicaLength = uint64(span.Generation), span.ReplicaLength
	reply.DataOffset, reply.DataLength = span.DataOffset, span.DataLength
	reply.BlockBytes, reply.Sums, reply.ChunkSize = chunk.ChecksumBlockBytes, span.Sums, span.ChunkSize
	if err := t.sendRange(reader, span, t.encode(reply)); err != nil {
		t.err, t.broken = err, true
	}
}

// bounded cuts a range to what one reply may carry; the client asks again.
func (t *readTask) bounded(length int64) int64 {
	// One block less, as both ends are rounded out.
	const most = (wire.ReadBlocksMax - 1) * chunk.ChecksumBlockBytes
	if length < 0 || length > most {
		return most
	}
	return length
}

func (t *readTask) encode(reply *wire.ReadReply) []byte {
	packet, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpReadReply}, reply)
	if err != nil { // cannot be: the sums are bounded by ReadBlocksMax
		packet, _ = wire.AppendPacket(nil, wire.Header{Op: wire.OpReadReply},
			&wire.ReadReply{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(t.reads.server.node.ID, "", err)})
	}
	return packet
}

func (t *readTask) sendRange(reader *disk.Reader, span disk.Range, header []byte) error {
	counters := t.reads.server.counters
	file, base := reader.File()
	if file == nil || span.DataLength <= copyBytesMax {
		return t.sendCopied(reader, span, header)
	}
	if err := t.write(header); err != nil {
		return err
	}
	sent, err := t.sendFile(reader, file, base, span)
	counters.bytesSendfile.Add(uint64(sent))
	return err
}

// sendCopied is for short ranges, and for stores without real files.
func (t *readTask) sendCopied(reader *disk.Reader, span disk.Range, header []byte) error {
	server := t.reads.server
	piece := min(int64(256<<10), span.DataLength)
	buffer := server.node.Buffers.Get(len(header) + int(piece))
	defer buffer.Release()
	filled := copy(buffer.Bytes(), header)
	for done := int64(0); ; {
		part := buffer.Bytes()[filled:]
		part = part[:min(int64(len(part)), span.DataLength-done)]
		if len(part) > 0 {
			t.reads.slots <- struct{}{}
			n, err := reader.ReadAt(part, span.DataOffset+done)
			<-t.reads.slots
			if n < len(part) {
				if err == nil {
					err = io.ErrUnexpectedEOF
				}
				return &fault.Error{Kind: fault.Disk, Op: "read chunk", Err: err}
			}
		}
		if err := t.write(buffer.Bytes()[:filled+len(part)]); err != nil {
			return err
		}
		server.counters.bytesCopied.Add(uint64(len(part)))
		done += int64(len(part))
		filled = 0
		if done == span.DataLength {
			return nil
		}
	}
}

// write sends b within the send timeout.
func (t *readTask) write(b []byte) error {
	t.renewDeadline()
	_, err := t.out.Write(b)
	return err
}

func (t *readTask) renewDeadline() {
	if !t.cancelled.Load() {
		_ = t.out.SetWriteDeadline(time.Now().Add(t.reads.server.limits.SendTimeout))
	}
	if t.cancelled.Load() { // cancelled meanwhile: its deadline must win
		_ = t.out.SetWriteDeadline(time.Unix(1, 0))
	}
}

// sendFile sends a range of a chunk by sendfile(2); base is where byte 0 of the chunk is in file. It waits for the
// reader in Go's poller, without a slot, and gives up when the reader has taken nothing for the send timeout.
func (t *readTask) sendFile(reader *disk.Reader, file *os.File, base int64, span disk.Range) (sent int64, err error) {
	raw, err := t.out.SyscallConn()
	if err != nil {
		return 0, err
	}
	source := int(file.Fd())
	defer runtime.KeepAlive(file)
	t.renewDeadline()
	progress := false
	var failed error
	err = raw.Write(func(target uintptr) (done bool) {
		for sent < span.DataLength {
			if t.cancelled.Load() {
				failed = os.ErrDeadlineExceeded
				return true
			}
			offset, end := span.DataOffset+sent, span.DataOffset+span.DataLength
			ready := end - offset
			if t.request.Background {
				if ready, failed = reader.Ahead(offset, end); failed != nil {
					return true
				}
			}
			position := base + offset
			piece := int(min(ready, int64(t.reads.server.limits.SendPieceBytes)))
			t.reads.slots <- struct{}{}
			// The socket does not block: only the disk can.
			count, sendErr := reader.Watch("sendfile", func() (int, error) {
				return unix.Sendfile(int(target), source, &position, piece)
			})
			<-t.reads.slots
			if count > 0 {
				sent += int64(count)
				progress = true
			}
			switch {
			case errors.Is(sendErr, unix.EAGAIN):
				if progress {
					t.renewDeadline()
					progress = false
				}
				return false // called again when the socket has room
			case errors.Is(sendErr, unix.EINTR):
			case errors.Is(sendErr, syscall.EIO):
				failed = &fault.Error{Kind: fault.Disk, Op: "read chunk", Err: sendErr}
				return true
			case errors.Is(sendErr, fault.Disk):
				failed = sendErr
				return true
			case sendErr != nil:
				failed = os.NewSyscallError("sendfile", sendErr)
				return true
			case count == 0:
				failed = fault.New(fault.Disk, "read chunk", "the replica ends %d bytes early", span.DataLength-sent)
				return true
			}
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	return sent, err
}
