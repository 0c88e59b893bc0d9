package copies

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/record"
)

// recorder appends records to a file that others append to as well.
type recorder struct {
	judge  *judge
	random *rand.Rand
	serial *atomic.Int64 // of the file that all recorders append to
	pieces map[string][]piece

	path     string
	stream   *client.RecordAppender // nil: none is open
	sequence uint64                 // records that were given to stream
}

func (r *recorder) step(ctx context.Context, user *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if r.stream == nil {
		return r.open(user)
	}
	if r.random.IntN(15) == 0 {
		return r.end()
	}
	payload := noise(r.random, 1+r.random.IntN(32<<10))
	r.sequence++
	begun := time.Now()
	offset, err := r.stream.Append(ctx, payload)
	if err != nil {
		_ = r.end() // the error is known
		return err
	}
	frame, err := record.AppendFrame(nil, record.Header{Writer: r.stream.WriterID(), Sequence: r.sequence,
		Offset: offset}, payload)
	if err != nil {
		return err
	}
	r.pieces[r.path] = append(r.pieces[r.path], piece{offset, frame})
	err = r.judge.accept(ctx, acknowledgement{what: "record", path: r.path, pieces: r.pieces[r.path], from: offset,
		length: -1, begun: begun})
	if offset > fileBytesMax || err != nil {
		r.serial.CompareAndSwap(r.number(), r.number()+1)
		_ = r.end() // every record was acknowledged
	}
	return err
}

// number of the present file.
func (r *recorder) number() (number int64) {
	_, _ = fmt.Sscanf(r.path, "/records/%d", &number)
	return number
}

func (r *recorder) open(user *client.Client) error {
	r.path = fmt.Sprintf("/records/%d", r.serial.Load())
	stream, err := user.OpenRecords(context.Background(), r.path, client.RecordOptions{
		Create: true, New: client.CreateOptions{Parents: true, ChunkSize: 256 << 10}, Sync: r.random.IntN(2) == 0})
	if err != nil {
		return err
	}
	r.stream, r.sequence = stream, 0
	return nil
}

func (r *recorder) end() error {
	err := r.stream.Close()
	r.stream = nil
	return err
}

func (r *recorder) leave(context.Context) error {
	if r.stream == nil {
		return nil
	}
	return r.end()
}

func (r *recorder) verify(ctx context.Context, user *client.Client) error {
	for path, pieces := range r.pieces {
		got, err := readAll(ctx, user, path)
		if err != nil {
			return lost(path, "%d bytes read: %v", len(got), err)
		}
		for _, p := range pieces {
			if p.end() > int64(len(got)) || !bytes.Equal(got[p.offset:p.end()], p.data) {
				return lost(path, "the record at %d is not there; %d bytes are", p.offset, len(got))
			}
		}
	}
	return nil
}
