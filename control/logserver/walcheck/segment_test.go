package walcheck

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/logserver/entry"
)

// FuzzScanSegment gives any bytes to the reader of raft-wal's files.
func FuzzScanSegment(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		info := types.SegmentInfo{ID: 0, BaseIndex: 1, MinIndex: 1, Codec: 1}
		entries := uint64(0)
		scan, err := scanBytes(info, b, func(frame) error { entries++; return nil })
		require.NoError(t, err)
		require.LessOrEqual(t, scan.end, int64(len(b)))
		require.LessOrEqual(t, scan.entries, entries)
		// What was called good stays good when the rest is cut off.
		again, err := scanBytes(info, b[:scan.end], func(frame) error { return nil })
		require.NoError(t, err)
		require.Equal(t, scan.entries, again.entries)
		require.Equal(t, scan.end, again.end)
	})
}

// TestUnfinishedWriteMayLookLikeTwo: in a write of several entries the end of
// one entry (a time, and padding) can have the bytes of a commit frame, and the
// next entry follows it. Unfinished, it is still one write, and nothing that
// was acknowledged is lost with it.
func TestUnfinishedWriteMayLookLikeTwo(t *testing.T) {
	dir := t.TempDir()
	opened, err := wal.Open(dir, wal.WithLogger(hclog.NewNullLogger()))
	require.NoError(t, err)
	// The last byte of the nanoseconds is 3, and two zeros follow.
	at := time.Date(2026, 1, 2, 3, 4, 5, 3, time.FixedZone("zero", 0))
	for _, first := range []uint64{1, 4} {
		var logs []*raft.Log
		for index := first; index < first+3; index++ {
			for fill := range 8 { // until the entry ends three bytes into a word
				e := entry.Entry{Kind: entry.Batch, Epoch: 1, FirstTxid: index,
					Records: [][]byte{make([]byte, 40+fill)}}
				log := &raft.Log{Index: index, Term: 1, Data: e.Encode(), AppendedAt: at}
				var b bytes.Buffer
				require.NoError(t, (&wal.BinaryCodec{}).Encode(log, &b))
				if b.Len()%8 == 3 {
					logs = append(logs, log)
					break
				}
			}
		}
		require.Len(t, logs, 3)
		require.NoError(t, opened.StoreLogs(logs))
	}
	require.NoError(t, opened.Close())
	state, err := readMeta(dir)
	require.NoError(t, err)
	info := state.Segments[0]
	whole, err := os.ReadFile(filepath.Join(dir, segment.FileName(info)))
	require.NoError(t, err)
	drop := func(frame) error { return nil }
	all, err := scanBytes(info, whole, drop)
	require.NoError(t, err)
	require.EqualValues(t, 6, all.entries)
	whole = whole[:all.end+64]
	firstEnd := int64(0)
	for cut := all.end - 1; cut > segmentHeaderBytes; cut-- {
		scan, err := scanBytes(info, whole[:cut], drop)
		require.NoError(t, err)
		require.False(t, scan.certain, "cut at %d: %s", cut, scan.bad)
		if scan.entries == 3 && scan.bad == "" {
			firstEnd = cut
		}
	}
	require.NotZero(t, firstEnd)
	// Damage in the first write is damage, as long as a whole write, or the
	// beginning of one behind the first one's end, follows it.
	for offset := int64(segmentHeaderBytes); offset < firstEnd; offset++ {
		bad := bytes.Clone(whole)
		bad[offset] ^= 0x40
		scan, err := scanBytes(info, bad, drop)
		require.NoError(t, err)
		require.NotEmpty(t, scan.bad, "at %d", offset)
		require.True(t, scan.certain, "at %d: %s", offset, scan.bad)
	}
	// The second write is unfinished, but begins where the first one ends: a bad
	// byte inside an entry of the first one is damage all the same.
	bad := bytes.Clone(whole[:all.end-frameHeaderBytes])
	bad[firstEnd-3*frameHeaderBytes] ^= 0x40
	scan, err := scanBytes(info, bad, drop)
	require.NoError(t, err)
	require.Contains(t, scan.bad, "checksum mismatch")
	require.True(t, scan.certain)
}
