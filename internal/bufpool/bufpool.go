// Package bufpool provides pooled byte buffers of fixed capacity classes on top of valyala/bytebufferpool.
//
// A Buffer has one owner at a time; passing it on moves the ownership. Only pipeline fan-out (disk and downstream use
// one packet at once) holds counted references: Retain adds one, Release gives one back, and the last Release returns
// the memory. Under internal/invariants a released buffer is scribbled over, and releasing or using it again panics.
//
// The package runs no goroutine. It does not bound how much is in use: its users do, by a window, a budget or a count.
package bufpool

import (
	"sync"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"

	"github.com/whispering-woods/ww/internal/invariants"
)

// Pool provides buffers and counts them. Safe for concurrent use.
type Pool struct {
	classes  [classCount]class
	wrappers sync.Pool // *Buffer, empty

	outstanding      atomic.Int64 // buffers
	outstandingBytes atomic.Int64 // sum of their capacities
	oversize         atomic.Int64 // buffers ever made above the largest class
}

// class pools the buffers of one capacity.
type class struct {
	capacity int
	pool     atomic.Pointer[bytebufferpool.Pool]
	puts     atomic.Uint32
}

// New returns an empty pool.
func New() *Pool {
	p := &Pool{}
	for i := range p.classes {
		c := &p.classes[i]
		c.capacity = capacityMin<<i + HeadroomBytes
		c.pool.Store(&bytebufferpool.Pool{})
	}
	p.wrappers.New = func() any { return new(Buffer) }
	return p
}

// Get returns a buffer of n bytes with undefined content and one reference, which the caller must Release. n above
// the largest class (1 MiB + HeadroomBytes) works, but such memory is not pooled.
func (p *Pool) Get(size int) *Buffer {
	var buffer *Buffer
	if invariants.Enabled {
		buffer = new(Buffer) // never reused, so that a stale holder is caught forever
	} else {
		buffer = p.wrappers.Get().(*Buffer)
	}
	buffer.pool = p
	buffer.class = p.classFor(size)
	if buffer.class == nil {
		p.oversize.Add(1)
		buffer.memory = &bytebufferpool.ByteBuffer{B: make([]byte, size)}
	} else {
		buffer.memory = buffer.class.get()
	}
	buffer.memory.B = buffer.memory.B[:size]
	buffer.references.Store(1)
	p.outstanding.Add(1)
	p.outstandingBytes.Add(int64(cap(buffer.memory.B)))
	return buffer
}

// Outstanding is the number of buffers in use: 0 when nothing leaks and nothing runs.
func (p *Pool) Outstanding() int64 { return p.outstanding.Load() }

// OutstandingBytes is the memory behind the outstanding buffers.
func (p *Pool) OutstandingBytes() int64 { return p.outstandingBytes.Load() }

// Oversize is how many buffers were ever too large to be pooled.
func (p *Pool) Oversize() int64 { return p.oversize.Load() }

// ClassBytes is the payload that a buffer for a packet of n payload bytes has room for: n rounded up to a power of
// two, at least 4 KiB. The memory that such a packet takes is this plus HeadroomBytes.
func ClassBytes(n int) int {
	size := capacityMin
	for size < n {
		size <<= 1
	}
	return size
}

func (p *Pool) classFor(n int) *class {
	for i := range p.classes {
		if n <= p.classes[i].capacity {
			return &p.classes[i]
		}
	}
	return nil
}

func (c *class) get() *bytebufferpool.ByteBuffer {
	m := c.pool.Load().Get()
	if cap(m.B) < c.capacity { // the pool was empty
		m.B = make([]byte, c.capacity)
	}
	return m
}

// put gives memory back. bytebufferpool recalibrates itself after 42,000 puts, and then makes new buffers of the
// next power of two: twice the size of ours, which are a power of two plus a packet header. So the pool of a class
// is renewed before that; what it held is left to the garbage collector.
func (c *class) put(m *bytebufferpool.ByteBuffer) {
	if c.puts.Add(1) == putsPerPool {
		c.pool.Store(&bytebufferpool.Pool{})
		c.puts.Store(0)
	}
	c.pool.Load().Put(m)
}

// Buffer is pooled memory. Methods other than Retain and Release are for the
// owner alone, or for holders that only read.
type Buffer struct {
	pool       *Pool
	class      *class // nil: too large to be pooled
	memory     *bytebufferpool.ByteBuffer
	references atomic.Int32
}

// Bytes is the buffer's content, valid until the holder's Release.
func (b *Buffer) Bytes() []byte {
	if invariants.Enabled {
		invariants.Assert(b.references.Load() > 0, "bufpool: bytes of a released buffer")
	}
	return b.memory.B
}

// Retain adds a reference for another holder. The caller must hold one.
func (b *Buffer) Retain() {
	n := b.references.Add(1)
	invariants.Assert(n > 1, "bufpool: retain of a released buffer")
}

// Release gives up the caller's reference. The last one returns the memory.
func (b *Buffer) Release() {
	n := b.references.Add(-1)
	if n > 0 {
		return
	}
	invariants.Assert(n == 0, "bufpool: buffer released twice")
	pool, memory, class := b.pool, b.memory, b.class
	pool.outstanding.Add(-1)
	pool.outstandingBytes.Add(-int64(cap(memory.B)))
	if invariants.Enabled {
		whole := memory.B[:cap(memory.B)]
		for i := range whole {
			whole[i] = poison
		}
	}
	b.pool, b.memory, b.class = nil, nil, nil
	if class != nil {
		class.put(memory)
	}
	if !invariants.Enabled {
		pool.wrappers.Put(b)
	}
}
