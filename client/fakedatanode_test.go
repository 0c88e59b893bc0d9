package client_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// step is a point in the protocol at which a test can interfere.
type step struct {
	op     wire.Op
	flags  wire.Flags
	seqno  uint64
	chunk  chunk.ID
	offset int64
	length int
}

// What a hook can make a fake datanode do.
var (
	errDrop  = errors.New("drop the connection")                       // nothing more is said
	errStall = errors.New("say nothing until the peer is gone")        // a hung node
	errAlive = errors.New("say that the copy goes on, and do nothing") // OpCopy only: its disk hangs
	errAfter = errors.New("do it, then drop the connection")
	errRot   = errors.New("send rotten bytes") // OpenRead only
	errShort = errors.New("send half the bytes, then drop")
)

// fakeDatanode speaks the data protocol from a map in memory, pipelines included. One goroutine per connection, one
// packet at a time.
type fakeDatanode struct {
	id      string
	address string

	mu       sync.Mutex
	listener net.Listener
	replicas map[chunk.ID]*fakeReplica
	hook     func(step) error
	conns    map[net.Conn]struct{}
	accepted int
	reads    int
	copies   int
	keeps    int // empty packets without flags
	window   int64
	// hopTimeout is how long it waits for the next hop.
	hopTimeout time.Duration
	running    sync.WaitGroup
	stopped    bool
}

type fakeReplica struct {
	data       []byte
	synced     int
	generation uint64
	state      chunk.State
}

func startDatanode(t *testing.T, id string) *fakeDatanode {
	d := &fakeDatanode{id: id, replicas: map[chunk.ID]*fakeReplica{}, conns: map[net.Conn]struct{}{}, window: 1 << 20,
		hopTimeout: 5 * time.Second}
	d.listen(t, "127.0.0.1:0")
	t.Cleanup(d.stop)
	return d
}

func (d *fakeDatanode) listen(t *testing.T, address string) {
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listener, d.address, d.stopped = listener, listener.Addr().String(), false
	d.running.Add(1)
	go func() {
		defer d.running.Done()
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			if d.stopped {
				d.mu.Unlock()
				_ = c.Close()
				return
			}
			d.accepted++
			d.conns[c] = struct{}{}
			d.running.Add(1)
			d.mu.Unlock()
			go func() {
				defer d.running.Done()
				d.serve(c)
				d.mu.Lock()
				delete(d.conns, c)
				d.mu.Unlock()
				_ = c.Close()
			}()
		}
	}()
}

// stop kills the node: its connections break, its replicas stay.
func (d *fakeDatanode) stop() {
	d.mu.Lock()
	d.stopped = true
	_ = d.listener.Close()
	for c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.running.Wait()
}

func (d *fakeDatanode) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *fakeDatanode) replica(id chunk.ID) (fakeReplica, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.replicas[id]
	if !ok {
		return fakeReplica{}, false
	}
	return *r, true
}

func (d *fakeDatanode) at(s step) error {
	d.mu.Lock()
	hook := d.hook
	d.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(s)
}

type fakeSession struct {
	open  wire.OpenWrite
	id    chunk.ID
	down  net.Conn
	downR *wire.PacketReader
}

func (d *fakeDatanode) serve(c net.Conn) {
	r := wire.NewPacketReader(c, wire.PayloadBytesMax)
	var s *fakeSession
	defer func() {
		if s != nil && s.down != nil {
			_ = s.down.Close()
		}
	}()
	for {
		h, payload, err := r.Next()
		if err != nil {
			return
		}
		var stop bool
		switch h.Op {
		case wire.OpOpenWrite:
			s, stop = d.openWrite(c, payload)
		case wire.OpData:
			stop = s == nil || d.data(c, s, h, payload)
			if h.Flags&(wire.FlagSeal|wire.FlagClose) != 0 && !stop {
				if s.down != nil {
					_ = s.down.Close()
				}
				s = nil
			}
		case wire.OpOpenRead:
			stop = d.read(c, payload)
		case wire.OpStat:
			stop = d.stat(c, payload)
		case wire.OpCopy:
			stop = d.copy(c, payload)
		default:
			return
		}
		if stop {
			return
		}
	}
}

func send(c net.Conn, h wire.Header, body any) bool {
	b, err := wire.AppendPacket(nil, h, body)
	if err == nil {
		_, err = c.Write(b)
	}
	return err != nil
}

// stall waits until the peer closes.
func stall(c net.Conn) bool {
	_, _ = io.Copy(io.Discard, c)
	return true
}

func (d *fakeDatanode) own(err error) wire.HopStatus {
	st := wire.StatusOf(d.id, "", err)
	return wire.HopStatus{NodeID: d.id, Code: st.Code, Reason: st.Reason}
}

func (d *fakeDatanode) openWrite(c net.Conn, payload []byte) (*fakeSession, bool) {
	s := &fakeSession{}
	if wire.DecodeBody(payload, &s.open) != nil || s.open.Validate() != nil {
		return nil, true
	}
	s.id, _ = chunk.IDFrom(s.open.ChunkID)
	refuse := func(hops ...wire.HopStatus) (*fakeSession, bool) {
		send(c, wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: 1, Hops: hops})
		_ = c.(*net.TCPConn).CloseWrite()
		return nil, stall(c) // linger, so that the peer reads the reason
	}
	injected := d.at(step{op: wire.OpOpenWrite, chunk: s.id, offset: s.open.Offset})
	switch {
	case injected == nil, errors.Is(injected, errAfter):
	case errors.Is(injected, errDrop):
		return nil, true
	case errors.Is(injected, errStall):
		return nil, stall(c)
	default:
		return refuse(d.own(injected))
	}
	if err := d.openReplica(s); err != nil {
		return refuse(d.own(err))
	}
	hops := []wire.HopStatus{d.own(nil)}
	window := d.window
	if len(s.open.Downstream) > 0 {
		next := s.open.Downstream[0]
		failed := func(err error) (*fakeSession, bool) {
			st := wire.StatusOf(next.NodeID, "", err)
			return refuse(d.own(nil), wire.HopStatus{NodeID: next.NodeID, Code: st.Code, Reason: st.Reason})
		}
		down, err := net.DialTimeout("tcp", next.Address, time.Second)
		if err != nil {
			return failed(fault.New(fault.Unavailable, "dial", "%v", err))
		}
		s.down, s.downR = down, wire.NewPacketReader(down, 0)
		_ = down.SetReadDeadline(time.Now().Add(d.hopTimeout))
		onward := s.open
		onward.Downstream = s.open.Downstream[1:]
		send(down, wire.Header{Op: wire.OpOpenWrite}, &onward)
		var ack wire.OpenAck
		if _, err := s.downR.Expect(wire.OpOpenAck, &ack); err != nil {
			_ = down.Close()
			return failed(fault.New(fault.Unavailable, "open", "%v", err))
		}
		hops = append(hops, ack.Hops...)
		for _, hop := range ack.Hops {
			if hop.Code != 0 {
				_ = down.Close()
				return refuse(hops...)
			}
		}
		window = min(window, ack.WindowBytes)
	}
	if errors.Is(injected, errAfter) {
		return nil, true
	}
	return s, send(c, wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: 1, WindowBytes: window, Hops: hops})
}

func (d *fakeDatanode) openReplica(s *fakeSession) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.replicas[s.id]
	o := &s.open
	if o.Mode == wire.ModeCreate {
		if r != nil {
			return fault.New(fault.Exists, "create replica", "it is there")
		}
		d.replicas[s.id] = &fakeReplica{generation: o.Generation, state: chunk.Open}
		return nil
	}
	switch {
	case r == nil:
		return fault.New(fault.NotFound, "open replica", "not here")
	case r.generation < o.PreviousGeneration || r.generation > o.Generation ||
		r.generation == o.Generation && r.state == chunk.Sealed:
		return fault.New(fault.StaleGeneration, "open replica", "at %d, wanted %d to %d", r.generation,
			o.PreviousGeneration, o.Generation)
	case int64(len(r.data)) < o.Offset || o.Mode == wire.ModeAppend && int64(len(r.data)) != o.Offset:
		return fault.New(fault.Invalid, "open replica", "has %d, wanted %d", len(r.data), o.Offset)
	}
	r.data, r.generation, r.state = r.data[:o.Offset:o.Offset], o.Generation, chunk.Open
	return nil
}

func (d *fakeDatanode) data(c net.Conn, s *fakeSession, h wire.Header, payload []byte) (stop bool) {
	ack := func(seqno uint64, length int64, hops ...wire.HopStatus) bool {
		return send(c, wire.Header{Op: wire.OpAck, Seqno: seqno}, &wire.Ack{BodyVersion: 1, Seqno: seqno,
			Length: length, Hops: hops})
	}
	injected := d.at(step{wire.OpData, h.Flags, h.Seqno, s.id, h.Offset, len(payload)})
	switch {
	case injected == nil, errors.Is(injected, errAfter):
	case errors.Is(injected, errDrop):
		return true
	case errors.Is(injected, errStall):
		return stall(c)
	default:
		ack(h.Seqno-1, h.Offset, d.own(injected))
		_ = c.(*net.TCPConn).CloseWrite()
		return stall(c)
	}
	if h.Flags == 0 && len(payload) == 0 {
		d.set(func() { d.keeps++ })
	}
	if err := d.store(s, h, payload); err != nil {
		ack(h.Seqno-1, h.Offset, d.own(err))
		_ = c.(*net.TCPConn).CloseWrite()
		return stall(c)
	}
	hops := []wire.HopStatus{d.own(nil)}
	if s.down != nil {
		next := s.open.Downstream[0]
		packet := make([]byte, wire.HeaderBytes, wire.HeaderBytes+len(payload))
		wire.PutHeader(packet, h)
		packet = append(packet, payload...)
		wire.Seal(packet)
		_ = s.down.SetDeadline(time.Now().Add(d.hopTimeout))
		_, err := s.down.Write(packet)
		var down wire.Ack
		if err == nil {
			_, err = s.downR.Expect(wire.OpAck, &down)
		}
		if err != nil {
			st := wire.StatusOf(next.NodeID, "", fault.New(fault.Unavailable, "write", "%v", err))
			ack(h.Seqno-1, h.Offset, d.own(nil), wire.HopStatus{NodeID: next.NodeID, Code: st.Code, Reason: st.Reason})
			_ = c.(*net.TCPConn).CloseWrite()
			return stall(c)
		}
		hops = append(hops, down.Hops...)
		for _, hop := range down.Hops {
			if hop.Code != 0 {
				ack(h.Seqno-1, h.Offset, hops...)
				_ = c.(*net.TCPConn).CloseWrite()
				return stall(c)
			}
		}
	}
	if errors.Is(injected, errAfter) {
		return true
	}
	return ack(h.Seqno, h.Offset+int64(len(payload)), hops...)
}

func (d *fakeDatanode) store(s *fakeSession, h wire.Header, payload []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.replicas[s.id]
	switch {
	case r == nil || r.generation != s.open.Generation || r.state != chunk.Open:
		return fault.New(fault.StaleGeneration, "write", "fenced")
	case int64(len(r.data)) != h.Offset:
		return fault.New(fault.Protocol, "write", "offset %d, have %d", h.Offset, len(r.data))
	case h.Offset+int64(len(payload)) > s.open.ChunkSize:
		return fault.New(fault.Protocol, "write", "beyond the chunk")
	}
	r.data = append(r.data, payload...)
	if h.Flags&(wire.FlagSync|wire.FlagSeal) != 0 {
		r.synced = len(r.data)
	}
	if h.Flags&wire.FlagSeal != 0 {
		r.state = chunk.Sealed
	}
	return nil
}

func (d *fakeDatanode) find(id []byte, minimum uint64) (*fakeReplica, error) {
	key, err := chunk.IDFrom(id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.replicas[key]
	if r == nil {
		return nil, fault.New(fault.NotFound, "find replica", "not here")
	}
	if r.generation < minimum {
		return nil, fault.New(fault.StaleGeneration, "find replica", "at %d, wanted %d", r.generation, minimum)
	}
	copied := *r
	return &copied, nil
}

func (d *fakeDatanode) read(c net.Conn, payload []byte) (stop bool) {
	var q wire.OpenRead
	if wire.DecodeBody(payload, &q) != nil || q.Validate() != nil {
		return true
	}
	id, _ := chunk.IDFrom(q.ChunkID)
	d.set(func() { d.reads++ })
	injected := d.at(step{op: wire.OpOpenRead, chunk: id, offset: q.Offset, length: int(q.Length)})
	switch {
	case injected == nil, errors.Is(injected, errRot), errors.Is(injected, errShort):
	case errors.Is(injected, errDrop), errors.Is(injected, errAfter):
		return true
	case errors.Is(injected, errStall):
		return stall(c)
	default:
		return send(c, wire.Header{Op: wire.OpReadReply}, &wire.ReadReply{BodyVersion: 1,
			Status: wire.StatusOf(d.id, "", injected)})
	}
	r, err := d.find(q.ChunkID, q.MinGeneration)
	if err != nil {
		return send(c, wire.Header{Op: wire.OpReadReply}, &wire.ReadReply{BodyVersion: 1,
			Status: wire.StatusOf(d.id, "", err)})
	}
	const block = chunk.ChecksumBlockBytes
	length := int64(len(r.data))
	begin := min(q.Offset, length) / block * block
	end := length
	if q.Length >= 0 {
		end = min(length, (q.Offset+q.Length+block-1)/block*block)
	}
	end = min(end, begin+5*block) // a longer read is answered in part
	if q.Offset >= length {
		begin, end = length/block*block, length/block*block
	}
	data := append([]byte(nil), r.data[begin:end]...)
	var sums []byte
	for i := 0; i < len(data); i += block {
		sums = binary.LittleEndian.AppendUint64(sums, xxh3.Hash(data[i:min(i+block, len(data))]))
	}
	if errors.Is(injected, errRot) && len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	if send(c, wire.Header{Op: wire.OpReadReply}, &wire.ReadReply{BodyVersion: 1, Generation: r.generation,
		ReplicaLength: length, DataOffset: begin, DataLength: int64(len(data)), BlockBytes: block, Sums: sums}) {
		return true
	}
	if errors.Is(injected, errShort) {
		_, _ = c.Write(data[:len(data)/2])
		return true
	}
	_, err = c.Write(data)
	return err != nil
}

func (d *fakeDatanode) stat(c net.Conn, payload []byte) (stop bool) {
	var q wire.StatReplica
	if wire.DecodeBody(payload, &q) != nil {
		return true
	}
	id, _ := chunk.IDFrom(q.ChunkID)
	switch injected := d.at(step{op: wire.OpStat, chunk: id}); {
	case injected == nil:
	case errors.Is(injected, errDrop):
		return true
	case errors.Is(injected, errStall):
		return stall(c)
	default:
		return send(c, wire.Header{Op: wire.OpStatReply}, &wire.StatReply{BodyVersion: 1,
			Status: wire.StatusOf(d.id, "", injected)})
	}
	r, err := d.find(q.ChunkID, 0)
	if err != nil {
		return send(c, wire.Header{Op: wire.OpStatReply}, &wire.StatReply{BodyVersion: 1,
			Status: wire.StatusOf(d.id, "", err)})
	}
	return send(c, wire.Header{Op: wire.OpStatReply}, &wire.StatReply{BodyVersion: 1, Generation: r.generation,
		Length: int64(len(r.data)), State: uint8(r.state), Digest: xxh3.Hash(r.data)})
}

// copy pulls a replica from another fake, like a real one does.
func (d *fakeDatanode) copy(c net.Conn, payload []byte) (stop bool) {
	var q wire.CopyRange
	if wire.DecodeBody(payload, &q) != nil || q.Validate() != nil {
		return true
	}
	d.set(func() { d.copies++ })
	id, _ := chunk.IDFrom(q.ChunkID)
	answer := func(err error) bool {
		return send(c, wire.Header{Op: wire.OpCopyReply}, &wire.CopyReply{BodyVersion: 1,
			Status: wire.StatusOf(d.id, "", err), Length: q.Length})
	}
	injected := d.at(step{op: wire.OpCopy, chunk: id, length: int(q.Length)})
	switch {
	case injected == nil, errors.Is(injected, errAfter):
	case errors.Is(injected, errDrop):
		return true
	case errors.Is(injected, errStall):
		return stall(c)
	case errors.Is(injected, errAlive):
		often := time.NewTicker(wire.AliveEvery)
		defer often.Stop()
		for !send(c, wire.Header{Op: wire.OpAlive}, &wire.Alive{BodyVersion: 1, Progress: 1}) {
			<-often.C
		}
		return true
	default:
		return answer(injected)
	}
	source := q.SourceChunkID
	if len(source) == 0 {
		source = q.ChunkID
	}
	var data []byte
	err := fault.New(fault.Unavailable, "copy", "no source")
	for _, hop := range q.Sources {
		if data, err = pull(hop.Address, source, q.SourceMinGeneration, q.Length); err == nil {
			break
		}
	}
	if err != nil {
		return answer(err)
	}
	state, synced := chunk.Open, 0
	if q.Seal {
		state, synced = chunk.Sealed, len(data)
	}
	d.set(func() {
		d.replicas[id] = &fakeReplica{data: data, synced: synced, generation: q.Generation, state: state}
	})
	if errors.Is(injected, errAfter) {
		return true
	}
	return answer(nil)
}

// pull reads the first bytes of a replica.
func pull(address string, id []byte, minimum uint64, length int64) ([]byte, *fault.Error) {
	failed := func(err error) ([]byte, *fault.Error) {
		return nil, fault.New(fault.Unavailable, "pull", "%v", err)
	}
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return failed(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	r := wire.NewPacketReader(c, 0)
	var data []byte
	for int64(len(data)) < length {
		send(c, wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{BodyVersion: 1, ChunkID: id, MinGeneration: minimum,
			Offset: int64(len(data)), Length: length - int64(len(data))})
		var reply wire.ReadReply
		if _, err := r.Expect(wire.OpReadReply, &reply); err != nil {
			return failed(err)
		}
		if err := reply.Status.Err("pull", address); err != nil || reply.DataLength == 0 {
			return failed(errors.Join(err, errShort))
		}
		b := make([]byte, reply.DataLength)
		if _, err := io.ReadFull(r, b); err != nil {
			return failed(err)
		}
		data = append(data[:reply.DataOffset], b...)
	}
	return data[:length:length], nil
}
