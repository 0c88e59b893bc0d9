package walcheck

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/logserver/entry"
)

// walVersion is the raft-wal whose private files this package reads.
const walVersion = "v0.4.2"

func TestTheVersionOfRaftWALIsTheOneThatWasChecked(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "go.mod"))
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^\s*github\.com/hashicorp/raft-wal (\S+)`).FindSubmatch(raw)
	require.NotNil(t, found, "go.mod no longer names raft-wal")
	require.NotContains(t, string(raw), "hashicorp/raft-wal =>",
		"raft-wal is replaced: check its files as for a new version")
	require.Equal(t, walVersion, string(found[1]), `raft-wal is no longer %s: check that
  - the tests of this file pass (they compare every byte of a log with the layout that segment.go expects),
  - segment/writer.go still refuses appends to a full file that is not listed as such (see seal in prepare.go),
  - state.go still finds entries that were cut off in the open file (see store.read in control/logserver),
and then change walVersion and the version in docs/format/log.md`, walVersion)
	format, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "format", "log.md"))
	require.NoError(t, err)
	require.Contains(t, string(format), "raft-wal "+walVersion)
}

// writeLog writes a log with the real raft-wal: single entries and writes of
// many, of every type and length, over several files. It returns its directory,
// its list of files and the entries of each write.
func writeLog(t *testing.T) (directory string, list types.PersistentState, writes [][]*raft.Log) {
	t.Helper()
	directory = t.TempDir()
	opened, err := wal.Open(directory, wal.WithSegmentSize(16<<10), wal.WithLogger(hclog.NewNullLogger()))
	require.NoError(t, err)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	txid := uint64(1)
	for index := uint64(1); index <= 400; {
		var logs []*raft.Log
		for range 1 + len(writes)%5 {
			log := &raft.Log{Index: index, Term: 1 + index/100,
				AppendedAt: at.Add(time.Duration(index) * time.Microsecond)}
			switch index % 7 {
			case 0:
				log.Type, log.Data = raft.LogNoop, []byte{}
			case 1:
				log.Type, log.Data, log.Extensions = raft.LogConfiguration, []byte("members"), []byte("more")
			default:
				e := entry.Entry{Kind: entry.Batch, Epoch: 1, FirstTxid: txid,
					Records: [][]byte{bytes.Repeat([]byte{byte(index)}, 1+int(index*37%500))}}
				txid++
				log.Data = e.Encode()
			}
			logs = append(logs, log)
			index++
		}
		require.NoError(t, opened.StoreLogs(logs))
		writes = append(writes, logs)
	}
	require.NoError(t, opened.Close())
	var db metadb.BoltMetaDB
	list, err = db.Load(directory)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.Greater(t, len(list.Segments), 3, "several files were to be written")
	return directory, list, writes
}

func TestOurParserReadsWhatRaftWALWrites(t *testing.T) {
	directory, list, writes := writeLog(t)
	own, err := readMeta(directory)
	require.NoError(t, err)
	require.Equal(t, list, own, "the list of files")
	names, err := segmentFiles(directory)
	require.NoError(t, err)
	require.Len(t, names, len(list.Segments))

	var want []*raft.Log
	for _, logs := range writes {
		want = append(want, logs...)
	}
	read := 0
	for i, info := range list.Segments {
		require.Equal(t, names[i], segment.FileName(info))
		scan, _, err := scanSegment(directory, info, nil, func(f frame) error {
			require.Equal(t, want[read].Index, f.index)
			requireLog(t, want[read], &f.log)
			name, offset := Locate(directory, f.index)
			require.Equal(t, names[i], name)
			require.Equal(t, f.offset, offset)
			read++
			return nil
		})
		require.NoError(t, err)
		require.Empty(t, scan.bad)
		last := i == len(list.Segments)-1
		require.Equal(t, last, info.SealTime.IsZero())
		require.Equal(t, !last, scan.sealed)
		require.Equal(t, info.IndexStart, scan.indexStart)
		if !last {
			require.Equal(t, info.MaxIndex, info.BaseIndex+scan.entries-1)
		}
	}
	require.Len(t, want, read, "every entry is read")

	// raft-wal itself, opened again, reads the same.
	w, err := wal.Open(directory, wal.WithLogger(hclog.NewNullLogger()))
	require.NoError(t, err)
	defer w.Close()
	for _, log := range want {
		var got raft.Log
		require.NoError(t, w.GetLog(log.Index, &got))
		requireLog(t, log, &got)
	}
}

// requireLog compares two entries; a time need not have the same location.
func requireLog(t *testing.T, want, got *raft.Log) {
	t.Helper()
	require.True(t, want.AppendedAt.Equal(got.AppendedAt), "entry %d: appended at %s, not %s", want.Index,
		got.AppendedAt,
		want.AppendedAt)
	require.Equal(t, fmt.Sprintf("%d %d %d %x %x", want.Index, want.Term, want.Type, want.Data, want.Extensions),
		fmt.Sprintf("%d %d %d %x %x", got.Index, got.Term, got.Type, got.Data, got.Extensions))
}

// TestEveryByteOfRaftWALsFilesIsUnderstood builds each file from the layout that
// segment.go and docs/format/log.md describe, without the library, and compares.
func TestEveryByteOfRaftWALsFilesIsUnderstood(t *testing.T) {
	directory, list, writes := writeLog(t)
	for _, info := range list.Segments {
		file := binary.LittleEndian.AppendUint64(nil, segmentMagic)
		for _, number := range []uint64{info.BaseIndex, info.ID, info.Codec} {
			file = binary.LittleEndian.AppendUint64(file, number)
		}
		require.Len(t, file, segmentHeaderBytes)
		sealed := !info.SealTime.IsZero()
		start := 0
		var offsets []byte // of the entry frames: the index of a full file
		for len(writes) > 0 && (!sealed || writes[0][0].Index <= info.MaxIndex) {
			for _, log := range writes[0] {
				offsets = binary.LittleEndian.AppendUint32(offsets, uint32(len(file)))
				file = appendFrame(file, frameEntry, encodeLog(t, log))
			}
			fills := sealed && writes[0][len(writes[0])-1].Index == info.MaxIndex
			if fills {
				require.EqualValues(t, info.IndexStart, len(file)+frameHeaderBytes)
				file = appendFrame(file, frameIndex, offsets)
			}
			sum := crc32.Checksum(file[start:], crc32.MakeTable(crc32.Castagnoli))
			file = append(file, frameCommit, 0, 0, 0)
			file = binary.LittleEndian.AppendUint32(file, sum)
			start = len(file)
			writes = writes[1:]
		}
		got, err := os.ReadFile(filepath.Join(directory, segment.FileName(info)))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got), len(file))
		if !bytes.Equal(file, got[:len(file)]) {
			at := 0
			for file[at] == got[at] {
				at++
			}
			t.Fatalf("%s differs from the layout at offset %d: %x, not %x", segment.FileName(info), at,
				got[at:min(at+16, len(got))], file[at:min(at+16, len(file))])
		}
		require.Empty(t, bytes.Trim(got[len(file):], "\x00"), "nothing but zeros follows the last write")
	}
	require.Empty(t, writes)
}

// appendFrame appends a frame with its payload, padded.
func appendFrame(b []byte, kind byte, payload []byte) []byte {
	b = append(b, kind, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	return append(b, make([]byte, padding(int64(len(payload))))...)
}

// encodeLog is raft-wal's form of an entry.
func encodeLog(t *testing.T, log *raft.Log) []byte {
	t.Helper()
	var b []byte
	for _, number := range []uint64{log.Index, log.Term, uint64(log.Type)} {
		b = binary.AppendUvarint(b, number)
	}
	for _, part := range [][]byte{log.Data, log.Extensions} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	at, err := log.AppendedAt.MarshalBinary()
	require.NoError(t, err)
	return append(b, at...)
}
