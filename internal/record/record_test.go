package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

// file is a record file under construction.
type file struct{ b []byte }

func (f *file) add(t *testing.T, w byte, sequence uint64, payload []byte) int64 {
	t.Helper()
	offset := int64(len(f.b))
	b, err := AppendFrame(f.b, Header{Writer: WriterID{w}, Sequence: sequence, Offset: offset}, payload)
	require.NoError(t, err)
	f.b = b
	return offset
}

// tear cuts the last bytes off and begins again on the raster, as a writer does
// that takes over.
func (f *file) tear(bytesLost int) {
	f.b = f.b[:len(f.b)-bytesLost]
	f.pad()
}

func (f *file) pad() {
	next := NextStart(int64(len(f.b)))
	f.b = append(f.b, make([]byte, next-int64(len(f.b)))...)
}

func (f *file) scan() *Scanner {
	return NewScanner(bytes.NewReader(f.b), 0, func() (int64, error) { return int64(len(f.b)), nil })
}

func all(t *testing.T, s *Scanner) []string {
	t.Helper()
	var got []string
	for {
		r, err := s.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		require.NoError(t, err)
		got = append(got, fmt.Sprintf("%d/%d:%s", r.Writer[0], r.Sequence, r.Payload[:min(8, len(r.Payload))]))
	}
}

func TestFrameGolden(t *testing.T) {
	b, err := AppendFrame(nil, Header{Writer: WriterID{1, 2, 3}, Sequence: 7, Offset: 65536}, []byte("woods"))
	require.NoError(t, err)
	require.Equal(t, "b057d581e2b4264b57775231010100000500000000000000"+
		"0102030000000000000000000000000007000000000000000000010000000000"+"776f6f6473", hex.EncodeToString(b))
}

func TestScannerSkipsTornRecordsAndDuplicates(t *testing.T) {
	var f file
	f.add(t, 1, 1, []byte("a1"))
	f.add(t, 2, 1, []byte("b1"))
	f.add(t, 1, 2, bytes.Repeat([]byte("x"), 200_000))
	f.tear(1000)
	f.add(t, 1, 2, []byte("a2 again"))
	f.add(t, 2, 1, []byte("b1"))
	f.add(t, 2, 2, nil)
	s := f.scan()
	require.Equal(t, []string{"1/1:a1", "2/1:b1", "1/2:a2 again", "2/2:"}, all(t, s))
	require.EqualValues(t, 1, s.Duplicates())
	require.Positive(t, s.Skipped())
}

func TestScannerWaitsForARecordThatIsStillBeingWritten(t *testing.T) {
	var f file
	f.add(t, 1, 1, bytes.Repeat([]byte("y"), 300_000))
	whole := f.b
	visible := int64(0)
	s := NewScanner(bytes.NewReader(whole), 0, func() (int64, error) { return visible, nil })
	for ; visible < int64(len(whole)); visible += 4099 {
		_, err := s.Next()
		require.ErrorIs(t, err, io.EOF, "at %d", visible)
	}
	visible = int64(len(whole))
	r, err := s.Next()
	require.NoError(t, err)
	require.Len(t, r.Payload, 300_000)
}

// A record whose payload holds frames of its own file is torn: the frames
// inside carry offsets of elsewhere and must not come out as records.
func TestScannerDoesNotTakeEmbeddedFramesForRecords(t *testing.T) {
	var inner file
	for i := range 3000 {
		inner.add(t, 9, uint64(i+1), bytes.Repeat([]byte("z"), 64))
	}
	var f file
	f.add(t, 1, 1, inner.b)
	f.tear(10)
	f.add(t, 1, 1, []byte("real"))
	require.Equal(t, []string{"1/1:real"}, all(t, f.scan()))
}

func TestScannerFindsEveryWholeRecordAfterAnyTear(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		var contents file
		var want []string
		sequence := uint64(0)
		for range 1 + random.IntN(6) {
			sequence++
			payload := make([]byte, random.IntN(150_000))
			contents.add(t, 1, sequence, payload)
			if random.IntN(2) == 0 {
				contents.tear(1 + random.IntN(HeaderBytes+len(payload)-1))
				contents.add(t, 1, sequence, payload)
			}
			want = append(want, fmt.Sprintf("1/%d:%s", sequence, payload[:min(8, len(payload))]))
		}
		require.Equal(t, want, all(t, contents.scan()), "round %d", round)
	}
}

func TestAppendFrameRefusesAnOversizedRecord(t *testing.T) {
	_, err := AppendFrame(nil, Header{}, make([]byte, PayloadBytesMax+1))
	require.ErrorIs(t, err, fault.Invalid)
}

func FuzzScanner(f *testing.F) {
	var seed file
	seed.b, _ = AppendFrame(nil, Header{Writer: WriterID{1}, Sequence: 1}, []byte("one"))
	f.Add(seed.b)
	f.Add(append(seed.b, make([]byte, 70_000)...))
	f.Add(make([]byte, HeaderBytes))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := NewScanner(bytes.NewReader(data), 0, func() (int64, error) { return int64(len(data)), nil })
		for {
			record, err := s.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := AppendFrame(nil, record.Header, record.Payload)
			if err != nil || !bytes.Equal(again, data[record.Offset:record.Offset+int64(len(again))]) {
				t.Fatalf("record at %d does not encode to its own bytes: %v", record.Offset, err)
			}
		}
	})
}
