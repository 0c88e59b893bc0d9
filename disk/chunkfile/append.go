package chunkfile

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
)

const (
	// AppendBytesMax bounds the data of one Append.
	AppendBytesMax = 1 << 20
	// appendSumsMax: an append of 1 MiB at an odd offset completes at most 16 blocks and one that was begun earlier.
	appendSumsMax = AppendBytesMax/blockBytes + 1
	// AheadBytes of zeros are written ahead of a replica that is synced repeatedly.
	AheadBytes = 256 << 10
)

// End is where a replica ends: what a slot records.
type End struct {
	Generation chunk.Generation
	Length     int64
	Partial    uint64 // sum of the last, partial block at Length; 0 on a border
}

// Appender writes at the end of one chunk file, whose State it keeps up to date. One call at a time. After an
// error nobody knows which bytes the file has: the caller stops, or tries CutBack.
type Appender struct {
	file       vfs.File
	id         chunk.ID
	state      *State
	hasher     xxh3.Hasher // over the bytes since the last block border
	sums       [appendSumsMax * SumBytes]byte
	slot       [SectorBytes]byte
	writtenOut int64 // length up to which write-out was started
	awaited    int64 // length up to which AwaitedWriteOut waited for it: 0..writtenOut
	allocated  int64 // end of the file's bytes that were preallocated or written ahead
	ahead      int64 // zeros reach from the end of the replica to here, an offset in the data
	noAhead    bool  // the disk is full
}

// NewAppender goes on with a file whose state is loaded. VerifyEnd has to come before Append. An earlier
// Appender may have left zeros behind the end.
func NewAppender(f vfs.File, id chunk.ID, state *State) *Appender {
	return &Appender{file: f, id: id, state: state, allocated: state.DataOffset() + state.ChunkSize}
}

// Create begins an empty file: header and a first sync slot that says length 0. If preallocate is not 0, room
// for so much data is reserved. Nothing is durable.
func Create(file vfs.File, header Header, gen chunk.Generation, preallocate int64, state *State) (*Appender, error) {
	appender := &Appender{file: file, id: header.ID, state: state}
	*state = State{Layout: header.Layout, counter: 1, nextSlot: 1, synced: -1, settled: true}
	if preallocate > 0 {
		appender.allocated = state.DataOffset() + preallocate
		if err := file.Preallocate(0, appender.allocated); err != nil {
			return nil, err
		}
	}
	b := make([]byte, preludeBytes)
	putHeader(b, header)
	putSlot(b[SectorBytes:], slot{id: header.ID, counter: 1, End: End{Generation: gen}})
	_, err := file.WriteAt(b, 0)
	return appender, err
}

// WriteWhole writes a sealed file that holds data of at most one block, whose sum is given, and makes it
// durable but for its name.
func WriteWhole(file vfs.File, header Header, generation chunk.Generation, data []byte, sum uint64) (State, error) {
	b := make([]byte, header.DataOffset(), header.DataOffset()+int64(len(data)))
	putHeader(b, header)
	end := End{Generation: generation, Length: int64(len(data)), Partial: sum}
	if len(data)%blockBytes == 0 {
		end.Partial = 0
		if len(data) > 0 {
			binary.LittleEndian.PutUint64(b[sumsOffset:], sum)
		}
	}
	putSlot(b[SectorBytes:], slot{id: header.ID, counter: 1, End: end})
	if _, err := file.WriteAt(append(b, data...), 0); err != nil {
		return State{}, err
	}
	return State{Layout: header.Layout, counter: 1, nextSlot: 1, synced: end.Length, settled: true}, file.Datasync()
}

// Append writes data behind an end, then the sums of the blocks that became full, then the flush slot if the
// data end inside a block. Only then may the new end be shown to readers. A sync slot that follows at once
// makes the flush slot needless: flush is false.
func (a *Appender) Append(data []byte, at End, flush bool) (End, error) {
	if _, err := a.file.WriteAt(data, a.state.DataOffset()+at.Length); err != nil {
		return at, err
	}
	length, count := a.hash(data, at.Length)
	if count > 0 {
		if _, err := a.file.WriteAt(a.sums[:count*SumBytes], a.state.sumAt(at.Length/blockBytes)); err != nil {
			return at, err
		}
	}
	end := End{Generation: at.Generation, Length: length}
	if length%blockBytes != 0 {
		end.Partial = a.hasher.Sum64()
		if flush {
			if err := a.writeSlot(flushSlot, end); err != nil {
				return at, err
			}
		}
	}
	return end, nil
}

// hash goes over data that follow length, leaves the sums of the blocks that became full in a.sums and
// returns the new length and their number.
func (a *Appender) hash(data []byte, length int64) (end int64, count int) {
	end = length
	for len(data) > 0 {
		piece := min(blockBytes-end%blockBytes, int64(len(data)))
		var sum uint64
		whole := piece == blockBytes
		if whole {
			sum = xxh3.Hash(data[:piece])
		} else {
			_, _ = a.hasher.Write(data[:piece]) // never fails
		}
		end += piece
		data = data[piece:]
		if end%blockBytes != 0 {
			break
		}
		if !whole {
			sum = a.hasher.Sum64()
			a.hasher.Reset()
		}
		binary.LittleEndian.PutUint64(a.sums[count*SumBytes:], sum)
		count++
	}
	return end, count
}

// SkipWriteOut begins the steps of WriteOut at a length.
func (a *Appender) SkipWriteOut(length int64) { a.writtenOut, a.awaited = length, length }

// WriteOut starts write-out up to length, once at least step bytes wait for it.
func (a *Appender) WriteOut(length, step int64) error {
	waiting := length - a.writtenOut
	if waiting < step {
		return nil
	}
	if err := a.file.SyncRange(a.state.DataOffset()+a.writtenOut, waiting); err != nil {
		return err
	}
	a.writtenOut = length
	return nil
}

// AwaitedWriteOut is WriteOut, and waits for the step before the one that it starts: the disk has two at most, and
// others who use it wait for no more.
func (a *Appender) AwaitedWriteOut(length, step int64) error {
	before := a.writtenOut
	if err := a.WriteOut(length, step); err != nil || a.writtenOut == before || a.awaited == before {
		return err
	}
	err := a.file.AwaitRange(a.state.DataOffset()+a.awaited, before-a.awaited)
	a.awaited = before
	return err
}

// WriteAhead makes room behind the end of a replica that is synced repeatedly: zeros that are really written,
// so that the next syncs neither change the file's size nor allocate, and the file system has no journal to
// commit. Zeros behind the end prove nothing at a recovery: no slot covers them, and the sums there are 0,
// which is not the sum of any zeros. Trim cuts them off. A full disk is no error.
func (a *Appender) WriteAhead(zeros []byte, end int64) error {
	if end <= a.ahead || a.noAhead {
		return nil
	}
	target := min((end/AheadBytes+1)*AheadBytes, a.state.ChunkSize)
	for at := end; at < target; {
		n := min(target-at, int64(len(zeros)))
		if _, err := a.file.WriteAt(zeros[:n], a.state.DataOffset()+at); vfs.IsFull(err) {
			a.noAhead = true // only an optimisation
			break
		} else if err != nil {
			return err
		}
		at += n
	}
	a.ahead = target
	a.allocated = max(a.allocated, a.state.DataOffset()+target)
	return nil
}

// Ahead is where the zeros behind the end of the replica end.
func (a *Appender) Ahead() int64 { return a.ahead }

// Sync makes everything up to the present end durable: the older sync slot, then fdatasync. It does nothing
// if the newest durable slot has that length.
func (a *Appender) Sync(end End) error {
	if a.state.synced == end.Length {
		return nil
	}
	if !a.state.settled {
		if err := a.file.Datasync(); err != nil {
			return err
		}
		a.state.settled = true
	}
	index := a.state.nextSlot
	if err := a.writeSlot(index, end); err != nil {
		return err
	}
	if err := a.file.Datasync(); err != nil {
		return err
	}
	a.state.nextSlot, a.state.synced = 1-index, end.Length
	return nil
}

// Flush writes the flush slot for an end inside a block.
func (a *Appender) Flush(end End) error {
	if end.Length%blockBytes == 0 {
		return nil
	}
	return a.writeSlot(flushSlot, end)
}

// writeSlot writes a slot; it is not durable yet.
func (a *Appender) writeSlot(index int, end End) error {
	a.state.counter++
	putSlot(a.slot[:], slot{id: a.id, index: index, counter: a.state.counter, promised: a.state.promised, End: end})
	_, err := a.file.WriteAt(a.slot[:], SectorBytes*int64(1+index))
	return err
}

// VerifyEnd checks the bytes of the block that length falls into, up to the replica's end, against their sum, and
// returns the sum of those before length, from where Append may go on. Error: fault.CorruptData, or that of the read.
func (a *Appender) VerifyEnd(length int64, end End) (partial uint64, err error) {
	a.hasher.Reset()
	inside := length % blockBytes
	if inside == 0 {
		return 0, nil
	}
	block := length / blockBytes
	want, verified := end.Partial, end.Length
	if border := (block + 1) * blockBytes; border <= end.Length {
		verified = border
		sum, err := a.state.ReadSums(a.file, block*blockBytes, End{Length: border})
		if err != nil {
			return 0, err
		}
		want = SumIn(sum, 0)
	}
	b := make([]byte, verified-block*blockBytes)
	if err := vfs.ReadFull(a.file, b, a.state.DataOffset()+block*blockBytes); err != nil {
		return 0, err
	}
	if got := xxh3.Hash(b); got != want {
		return 0, corrupt("verify last block", a.id, "block %d has sum %016x, recorded is %016x", block, got, want)
	}
	_, _ = a.hasher.Write(b[:inside]) // never fails
	return a.hasher.Sum64(), nil
}

// Cut shortens a file whose end Sync has made durable, so that no crash brings the rest back: no more sums of
// blocks that end behind it, truncation, fdatasync. The bytes behind do not come back, and zeros written
// ahead later are not taken for them.
func (a *Appender) Cut(length int64) error {
	if err := a.clearSums(length); err != nil {
		return err
	}
	if err := a.truncate(length); err != nil {
		return err
	}
	return a.file.Datasync()
}

// CutBack undoes an Append that failed half way on a full disk: the file ends at the acknowledged end again.
// step is what could not be done.
func (a *Appender) CutBack(end End) (step string, err error) {
	if err := a.truncate(end.Length); err != nil {
		return "cut chunk back", err
	}
	if err := a.clearSums(end.Length); err != nil {
		return "clear sums", err
	}
	partial, err := a.VerifyEnd(end.Length, end)
	if err == nil && partial != end.Partial {
		err = corrupt("read back", a.id, "partial block has sum %016x, expected %016x", partial, end.Partial)
	}
	if err != nil {
		return "read chunk back", err
	}
	// The failed append may have torn the flush slot.
	return "write flush slot", a.Flush(end)
}

// Trim cuts off what was preallocated or written ahead behind length.
func (a *Appender) Trim(length int64) error {
	size := a.state.DataOffset() + length
	if a.allocated <= size {
		return nil
	}
	if err := a.file.Truncate(size); err != nil {
		return err
	}
	a.allocated = 0
	return nil
}

func (a *Appender) truncate(length int64) error {
	err := a.file.Truncate(a.state.DataOffset() + length)
	if err == nil {
		a.allocated, a.ahead = 0, 0
	}
	return err
}

// clearSums takes back the sums of all blocks that end behind length.
func (a *Appender) clearSums(length int64) error {
	first := length / blockBytes
	if first == a.state.blocks() {
		return nil
	}
	_, err := a.file.WriteAt(make([]byte, SumBytes*(a.state.blocks()-first)), a.state.sumAt(first))
	return err
}

// ReadSums reads the sums of the blocks that begin at or behind the block border start and before end, which
// is a border or where the replica ends.
func (l Layout) ReadSums(f io.ReaderAt, start int64, end End) ([]byte, error) {
	full := (end.Length - start) / blockBytes
	b := make([]byte, SumBytes*full, SumBytes*(full+1))
	if len(b) > 0 {
		if _, err := f.ReadAt(b, l.sumAt(start/blockBytes)); errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
	}
	if end.Length%blockBytes != 0 {
		b = binary.LittleEndian.AppendUint64(b, end.Partial)
	}
	return b, nil
}

// SumIn is the sum of block index in a list of sums.
func SumIn(sums []byte, index int64) uint64 { return binary.LittleEndian.Uint64(sums[index*SumBytes:]) }
