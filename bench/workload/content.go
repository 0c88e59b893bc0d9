package workload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/bench/load"
)

const (
	// pageBytes is the unit of content: each page of each file differs from every other one.
	pageBytes = 4096
	// stampBytes at the start of a page name the file and the page.
	stampBytes = 16
	// poolBytes of random bytes are what pages are cut from; they stay in the
	// processor's cache, so that neither making nor checking content costs much.
	poolBytes = 128 << 10
)

// content makes and checks the bytes of files from a seed. What a byte has to be follows from the seed, the file's
// number and the offset, so nothing is kept. Safe for concurrent use.
type content struct {
	seed uint64
	pool []byte
}

func newContent(seed uint64) *content {
	pool := make([]byte, poolBytes)
	random := rand.NewChaCha8(keyOf(seed))
	_, _ = random.Read(pool) // never fails
	return &content{seed: seed, pool: pool}
}

func keyOf(seed uint64) (key [32]byte) {
	binary.LittleEndian.PutUint64(key[:], seed)
	return key
}

// page is the stamp of a page and the random bytes that follow it.
func (c *content) page(file, number uint64) (stamp [stampBytes]byte, rest []byte) {
	binary.LittleEndian.PutUint64(stamp[:], file^c.seed)
	binary.LittleEndian.PutUint64(stamp[8:], number)
	at := xxh3.Hash(stamp[:]) % (poolBytes - pageBytes)
	return stamp, c.pool[at : at+pageBytes-stampBytes]
}

// fill puts the bytes of a file from an offset on into p.
func (c *content) fill(p []byte, file uint64, offset int64) {
	c.pages(p, file, offset, func(piece, want []byte) bool {
		copy(piece, want)
		return true
	})
}

// check compares p with the bytes of a file from an offset on. Error:
// load.ErrWrongBytes, with the first place that differs.
func (c *content) check(p []byte, file uint64, offset int64) error {
	done := int64(0)
	var err error
	c.pages(p, file, offset, func(piece, want []byte) bool {
		if bytes.Equal(piece, want) {
			done += int64(len(piece))
			return true
		}
		i := 0
		for piece[i] == want[i] {
			i++
		}
		err = fmt.Errorf("%w: file %d, byte %d: %#02x instead of %#02x", load.ErrWrongBytes, file,
			offset+done+int64(i), piece[i], want[i])
		return false
	})
	return err
}

// pages cuts p into what is one stamp or the rest of a page, and pairs it with what it has to be.
func (c *content) pages(data []byte, file uint64, offset int64, each func(piece, want []byte) bool) {
	for len(data) > 0 {
		stamp, rest := c.page(file, uint64(offset/pageBytes))
		at := offset % pageBytes
		var want []byte
		if at < stampBytes {
			want = stamp[at:]
		} else {
			want = rest[at-stampBytes:]
		}
		n := min(len(data), len(want))
		if !each(data[:n], want[:n]) {
			return
		}
		data, offset = data[n:], offset+int64(n)
	}
}

// Source is the content of a file that follows from a seed and the file's number, as a workload would write it.
func Source(seed, file uint64) io.ReaderAt { return source{newContent(seed), file} }

// Checker refuses bytes that are not those of Source: load.ErrWrongBytes.
func Checker(seed, file uint64) io.WriterAt { return checker{content: newContent(seed), file: file} }

// source is the content of one file as an io.ReaderAt without an end.
type source struct {
	*content
	file uint64
}

// ReadAt implements io.ReaderAt.
func (s source) ReadAt(p []byte, offset int64) (int, error) {
	s.fill(p, s.file, offset)
	return len(p), nil
}

// checker is an io.WriterAt that refuses wrong bytes; with check off it drops what comes.
type checker struct {
	*content
	file uint64
	off  bool
}

// WriteAt implements io.WriterAt.
func (k checker) WriteAt(p []byte, offset int64) (int, error) {
	if !k.off {
		if err := k.check(p, k.file, offset); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
