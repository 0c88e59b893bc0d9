package scrub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

const stateVersion = 1

// state is what the file of a volume remembers, as JSON. A file that cannot be read costs a pass from the beginning,
// and nothing else.
type state struct {
	Version  int    `json:"version"`
	Passes   uint64 `json:"passes"` // whole ones
	Running  bool   `json:"running"`
	Position string `json:"position"` // the last chunk that the pass under way has verified; "": none
	BeganMs  int64  `json:"began_ms"` // of the pass under way, or the last one, in Unix milliseconds; 0: never
	EndedMs  int64  `json:"ended_ms"` // of the last whole pass; 0: never
	Replicas uint64 `json:"replicas"` // that the pass under way, or the last one, has verified
	Bytes    uint64 `json:"bytes"`    // in them
	Bad      uint64 `json:"bad"`      // among them
	BadTotal uint64 `json:"bad_total"`
	Sum      string `json:"sum"` // xxh3-64, in hex, of the object with an empty sum
}

// encode returns the content of the file.
func (s state) encode() []byte {
	s.Version, s.Sum = stateVersion, ""
	s.Sum = s.sum()
	return s.plain()
}

func (s state) plain() []byte {
	b, err := json.Marshal(s)
	if err != nil { // it has no type that can fail
		panic(err)
	}
	return b
}

func (s state) sum() string {
	s.Sum = ""
	return fmt.Sprintf("%016x", xxh3.Hash(s.plain()))
}

// position is the last chunk that was verified.
func (s state) position() chunk.ID {
	id, err := chunk.ParseID(s.Position)
	if err != nil { // there is none
		return chunk.ID{}
	}
	return id
}

// parseState reads the content of the file. Errors: fault.CorruptData, fault.Version.
func parseState(b []byte) (state, error) {
	const op = "parse scrub state"
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, &fault.Error{Kind: fault.CorruptData, Op: op, Err: err}
	}
	if s.Version != stateVersion {
		return state{}, fault.New(fault.Version, op, "version %d, this program knows %d", s.Version, stateVersion)
	}
	if s.Sum != s.sum() {
		return state{}, fault.New(fault.CorruptData, op, "the file does not match its checksum %s", s.Sum)
	}
	return s, nil
}

// load reads the file; a volume without one was never scrubbed.
func load(fsys vfs.FS, path string) (state, error) {
	file, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	defer file.Close() // opened for reading
	b := make([]byte, stateBytesMax)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return state{}, err
	}
	return parseState(b[:n])
}

// since is the time of a note in milliseconds; the zero time if there is none.
func since(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
