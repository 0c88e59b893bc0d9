package logserver

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/fault"
)

// crashImage gives a directory as it is while the server runs, right after the
// record with txid last was acknowledged, and the directory after an orderly
// end.
func crashImage(t *testing.T, last uint64) (crashed, ended string) {
	t.Helper()
	dir := t.TempDir()
	s, stop := start(t, options(t, dir))
	l := dial(t, s.Addr())
	fill(t, l, last-min(last, 100))
	fillSlowly(t, l, last)
	crashed = copyTree(t, dir)
	stop()
	return crashed, dir
}

// withoutMark takes the knowledge of how far the log went away, which a crash
// within a second after the last append does too.
func withoutMark(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.Remove(filepath.Join(dir, markName)))
}

// tailOf is the path of the last log file and the length of what is in it.
func tailOf(t *testing.T, dir string) (path string, used int64) {
	t.Helper()
	report, err := Verify(dir)
	require.NoError(t, err)
	require.NotNil(t, report.tail)
	return filepath.Join(dir, walDirectory, report.tail.name), report.tail.used
}

func TestTornTailIsACleanPrefix(t *testing.T) {
	crashed, _ := crashImage(t, 120)
	withoutMark(t, crashed)
	path, used := tailOf(t, crashed)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	reached := uint64(0)
	for cut := int64(0); cut <= used; cut += 1 + cut%37 {
		require.NoError(t, os.WriteFile(path, whole[:cut], 0o644))
		report, err := Verify(crashed)
		require.NoError(t, err, "cut at %d", cut)
		require.GreaterOrEqual(t, report.LastTxid, reached, "cut at %d", cut)
		reached = report.LastTxid
	}
	require.NoError(t, os.WriteFile(path, whole, 0o644))

	// Some of them are started for real, go on, and are started again.
	for _, cut := range []int64{0, 10, 32, 100, used / 3, used / 2, used - 300, used - 9, used - 1} {
		dir := copyTree(t, crashed)
		require.NoError(t, os.Truncate(filepath.Join(dir, walDirectory, filepath.Base(path)), cut))
		s, stop := start(t, options(t, dir))
		l := dial(t, s.Addr())
		grant, err := l.AcquireEpoch(within(t), "after")
		require.NoError(t, err, "cut at %d", cut)
		requireRecords(t, l, 1, grant.LastTxid)
		fill(t, l, grant.LastTxid+30)
		stop()
		s, _ = start(t, options(t, dir))
		requireRecords(t, dial(t, s.Addr()), 1, grant.LastTxid+30)
	}
}

// TestUnfinishedWriteMayLookLikeTwo: in a write of several entries the end of
// one entry (a time, and padding) can have the bytes of a commit frame, and the
// next entry follows it. Unfinished, it is still one write, and nothing that
// was acknowledged is lost with it.
func TestUnfinishedWriteMayLookLikeTwo(t *testing.T) {
	dir := t.TempDir()
	w, err := wal.Open(dir, wal.WithLogger(hclogTo(testLogger(t), "wal", slog.LevelWarn)))
	require.NoError(t, err)
	// The last byte of the nanoseconds is 3, and two zeros follow.
	at := time.Date(2026, 1, 2, 3, 4, 5, 3, time.FixedZone("zero", 0))
	for _, first := range []uint64{1, 4} {
		var logs []*raft.Log
		for index := first; index < first+3; index++ {
			for fill := range 8 { // until the entry ends three bytes into a word
				e := entry{kind: entryBatch, epoch: 1, firstTxid: index, records: [][]byte{make([]byte, 40+fill)}}
				log := &raft.Log{Index: index, Term: 1, Data: e.encode(), AppendedAt: at}
				var b bytes.Buffer
				require.NoError(t, (&wal.BinaryCodec{}).Encode(log, &b))
				if b.Len()%8 == 3 {
					logs = append(logs, log)
					break
				}
			}
		}
		require.Len(t, logs, 3)
		require.NoError(t, w.StoreLogs(logs))
	}
	require.NoError(t, w.Close())
	state, err := readMeta(dir)
	require.NoError(t, err)
	info := state.Segments[0]
	whole, err := os.ReadFile(filepath.Join(dir, walsegment.FileName(info)))
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

// TestUnfinishedWriteOfGarbage replaces the last write by what a power failure
// may leave of it: some sectors new, some zero, some old.
func TestUnfinishedWriteOfGarbage(t *testing.T) {
	crashed, _ := crashImage(t, 60)
	withoutMark(t, crashed)
	path, used := tailOf(t, crashed)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		dir := copyTree(t, crashed)
		file, err := os.OpenFile(filepath.Join(dir, walDirectory, filepath.Base(path)), os.O_RDWR, 0)
		require.NoError(t, err)
		garbage := make([]byte, 8+random.IntN(2000))
		for i := range garbage {
			if random.IntN(3) > 0 {
				garbage[i] = byte(random.Uint32())
			}
		}
		garbage[0] = byte(random.IntN(5)) // often a frame's kind
		_, err = file.WriteAt(garbage, used)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		report, err := prepare(dir, testLogger(t))
		require.NoError(t, err)
		require.EqualValues(t, 60, report.LastTxid)
		again, err := Verify(dir)
		require.NoError(t, err)
		require.Zero(t, again.TornBytes, "the unfinished write must be gone")
		require.EqualValues(t, used, again.tail.used)
	}
}

func TestLossOfCommittedEntriesIsRefused(t *testing.T) {
	_, ended := crashImage(t, 60)
	path, used := tailOf(t, ended)
	for _, cut := range []int64{0, 40, used / 2, used - 1} {
		dir := copyTree(t, ended)
		require.NoError(t, os.Truncate(filepath.Join(dir, walDirectory, filepath.Base(path)), cut))
		_, err := Start(options(t, dir))
		requireKind(t, fault.CorruptData, err)
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	_, ended := crashImage(t, 16000) // several log files
	report, err := Verify(ended)
	require.NoError(t, err)
	require.Greater(t, len(report.Segments), 1)
	random := rand.New(rand.NewPCG(3, 4))
	for _, segment := range report.Segments {
		path := filepath.Join(ended, walDirectory, segment.Name)
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		for range 12 {
			offset := random.Int64N(segment.Bytes)
			var b [1]byte
			_, err := file.ReadAt(b[:], offset)
			require.NoError(t, err)
			_, err = file.WriteAt([]byte{b[0] ^ 1<<random.IntN(8)}, offset)
			require.NoError(t, err)
			_, err = prepare(ended, testLogger(t))
			require.ErrorIs(t, err, fault.CorruptData, "%s at %d", segment.Name, offset)
			require.Contains(t, err.Error(), segment.Name)
			_, err = file.WriteAt(b[:], offset)
			require.NoError(t, err)
		}
		require.NoError(t, file.Close())
	}
	_, err = Verify(ended)
	require.NoError(t, err)
}

// TestDamageInTheMiddleOfTheOpenFileIsRefused is the case in which raft-wal
// alone would silently drop every write behind the damage.
func TestDamageInTheMiddleOfTheOpenFileIsRefused(t *testing.T) {
	crashed, _ := crashImage(t, 300)
	withoutMark(t, crashed)
	path, used := tailOf(t, crashed)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte{0xff}, used/2)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	dump := uint64(0)
	err = Dump(crashed, func(d DumpEntry) error {
		dump += uint64(len(d.Records))
		return nil
	})
	requireKind(t, fault.CorruptData, err)
	require.NotZero(t, dump)
	_, err = Start(options(t, crashed))
	requireKind(t, fault.CorruptData, err)
	require.Contains(t, err.Error(), filepath.Base(path))
	require.Contains(t, err.Error(), "ww log verify")
}

func TestMissingFilesAreRefused(t *testing.T) {
	_, ended := crashImage(t, 16000)
	report, err := Verify(ended)
	require.NoError(t, err)
	require.Greater(t, len(report.Segments), 2)
	for _, name := range []string{
		filepath.Join(walDirectory, report.Segments[0].Name),
		filepath.Join(walDirectory, report.Segments[1].Name),
		filepath.Join(walDirectory, report.Segments[len(report.Segments)-1].Name),
		filepath.Join(walDirectory, metadb.FileName),
		identityName,
	} {
		dir := copyTree(t, ended)
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
		_, err := Start(options(t, dir))
		requireKind(t, fault.CorruptData, err)
		require.FileExists(t, filepath.Join(dir, walDirectory, report.Segments[2].Name), "nothing may be deleted")
	}
	dir := copyTree(t, ended)
	require.NoError(t, os.WriteFile(filepath.Join(dir, walDirectory, metadb.FileName), []byte("not a database at all"), 0o644))
	_, err = Start(options(t, dir))
	requireKind(t, fault.CorruptData, err)
}

// TestCrashBetweenFillingAFileAndListingIt: raft-wal alone refuses every
// append after such a crash.
func TestCrashBetweenFillingAFileAndListingIt(t *testing.T) {
	_, dir := crashImage(t, 16000)
	report, err := Verify(dir)
	require.NoError(t, err)
	n := len(report.Segments)
	require.Greater(t, n, 2)
	walDir := filepath.Join(dir, walDirectory)
	// Undo the last listing, and the file that followed it.
	require.NoError(t, os.Remove(filepath.Join(walDir, report.Segments[n-1].Name)))
	withoutMark(t, dir)
	var db metadb.BoltMetaDB
	state, err := db.Load(walDir)
	require.NoError(t, err)
	state.Segments = state.Segments[:n-1]
	last := &state.Segments[n-2]
	ends := last.MaxIndex
	last.SealTime, last.IndexStart, last.MaxIndex = last.SealTime.AddDate(-9999, 0, 0), 0, 0
	last.SealTime = report.meta.Segments[n-1].SealTime // zero
	require.NoError(t, db.CommitState(state))
	require.NoError(t, db.Close())

	alone := copyTree(t, dir)
	w, err := wal.Open(filepath.Join(alone, walDirectory), wal.WithLogger(hclogTo(testLogger(t), "wal", slog.LevelWarn)))
	require.NoError(t, err)
	require.ErrorIs(t, w.StoreLog(&raft.Log{Index: ends + 1, Term: 1}), wal.ErrSealed, "raft-wal has learned it: prepare need not do it any more")
	require.NoError(t, w.Close())

	report, err = Verify(dir)
	require.NoError(t, err)
	require.Equal(t, ends, report.LastIndex)
	s, stop := start(t, options(t, dir))
	l := dial(t, s.Addr())
	requireRecords(t, l, 1, report.LastTxid)
	fill(t, l, report.LastTxid+50)
	stop()
	s, _ = start(t, options(t, dir))
	requireRecords(t, dial(t, s.Addr()), 1, report.LastTxid+50)
}

// TestDamageUnderARunningServer: a reader is refused, the server is not ready
// any more, appends go on.
func TestDamageUnderARunningServer(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, options(t, dir))
	l := dial(t, s.Addr())
	fill(t, l, 200)
	name, offset := locate(filepath.Join(dir, walDirectory), 20)
	file, err := os.OpenFile(filepath.Join(dir, walDirectory, name), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte{0xff, 0xff}, offset+frameHeaderBytes+80)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	w, grant, watch := open(t, l, "nn")
	good := uint64(0)
	err = l.Replay(within(t), 1, 200, func(b editlog.Batch) error {
		for _, got := range b.Records {
			good++
			require.Equal(t, record(good), got)
		}
		return nil
	})
	requireKind(t, fault.CorruptData, err)
	require.Contains(t, err.Error(), name)
	requireKind(t, fault.CorruptData, s.Ready())
	require.NoError(t, w.TryAppend(grant.LastTxid+1, recordsOf(grant.LastTxid+1, 3)))
	watch.until(t, grant.LastTxid+3)
}
