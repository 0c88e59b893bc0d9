package logserver

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/fault"
)

// crashImage returns a directory as it is while the server runs, right after the
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
	require.NoError(t, os.Remove(filepath.Join(dir, "mark")))
}

// tailOf is the path of the last log file and the length of what is in it.
func tailOf(t *testing.T, dir string) (path string, used int64) {
	t.Helper()
	report, err := walcheck.Verify(dir)
	require.NoError(t, err)
	last := report.Segments[len(report.Segments)-1]
	require.False(t, last.Sealed)
	return filepath.Join(dir, walcheck.Directory, last.Name), last.Bytes + report.TornBytes
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
		report, err := walcheck.Verify(crashed)
		require.NoError(t, err, "cut at %d", cut)
		require.GreaterOrEqual(t, report.LastTxid, reached, "cut at %d", cut)
		reached = report.LastTxid
	}
	require.NoError(t, os.WriteFile(path, whole, 0o644))

	// Some of them are started for real, go on, and are started again.
	for _, cut := range []int64{0, 10, 32, 100, used / 3, used / 2, used - 300, used - 9, used - 1} {
		dir := copyTree(t, crashed)
		require.NoError(t, os.Truncate(filepath.Join(dir, walcheck.Directory, filepath.Base(path)), cut))
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

// TestUnfinishedWriteOfGarbage replaces the last write by what a power failure
// may leave of it: some sectors new, some zero, some old.
func TestUnfinishedWriteOfGarbage(t *testing.T) {
	crashed, _ := crashImage(t, 60)
	withoutMark(t, crashed)
	path, used := tailOf(t, crashed)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		dir := copyTree(t, crashed)
		file, err := os.OpenFile(filepath.Join(dir, walcheck.Directory, filepath.Base(path)), os.O_RDWR, 0)
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
		report, err := walcheck.Prepare(dir, testLogger(t))
		require.NoError(t, err)
		require.EqualValues(t, 60, report.LastTxid)
		again, err := walcheck.Verify(dir)
		require.NoError(t, err)
		require.Zero(t, again.TornBytes, "the unfinished write must be gone")
		require.EqualValues(t, used, again.Segments[len(again.Segments)-1].Bytes)
	}
}

func TestLossOfCommittedEntriesIsRefused(t *testing.T) {
	_, ended := crashImage(t, 60)
	path, used := tailOf(t, ended)
	for _, cut := range []int64{0, 40, used / 2, used - 1} {
		dir := copyTree(t, ended)
		require.NoError(t, os.Truncate(filepath.Join(dir, walcheck.Directory, filepath.Base(path)), cut))
		_, err := Start(options(t, dir))
		requireKind(t, fault.CorruptData, err)
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	_, ended := crashImage(t, 16000) // several log files
	report, err := walcheck.Verify(ended)
	require.NoError(t, err)
	require.Greater(t, len(report.Segments), 1)
	random := rand.New(rand.NewPCG(3, 4))
	for _, segment := range report.Segments {
		path := filepath.Join(ended, walcheck.Directory, segment.Name)
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		for range 12 {
			offset := random.Int64N(segment.Bytes)
			var b [1]byte
			_, err := file.ReadAt(b[:], offset)
			require.NoError(t, err)
			_, err = file.WriteAt([]byte{b[0] ^ 1<<random.IntN(8)}, offset)
			require.NoError(t, err)
			_, err = walcheck.Prepare(ended, testLogger(t))
			require.ErrorIs(t, err, fault.CorruptData, "%s at %d", segment.Name, offset)
			require.Contains(t, err.Error(), segment.Name)
			_, err = file.WriteAt(b[:], offset)
			require.NoError(t, err)
		}
		require.NoError(t, file.Close())
	}
	_, err = walcheck.Verify(ended)
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
	err = walcheck.Dump(crashed, func(d walcheck.DumpEntry) error {
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
	report, err := walcheck.Verify(ended)
	require.NoError(t, err)
	require.Greater(t, len(report.Segments), 2)
	for _, name := range []string{
		filepath.Join(walcheck.Directory, report.Segments[0].Name),
		filepath.Join(walcheck.Directory, report.Segments[1].Name),
		filepath.Join(walcheck.Directory, report.Segments[len(report.Segments)-1].Name),
		filepath.Join(walcheck.Directory, metadb.FileName),
		identityName,
	} {
		dir := copyTree(t, ended)
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
		_, err := Start(options(t, dir))
		requireKind(t, fault.CorruptData, err)
		require.FileExists(t, filepath.Join(dir, walcheck.Directory, report.Segments[2].Name), "nothing may be deleted")
	}
	dir := copyTree(t, ended)
	require.NoError(t, os.WriteFile(filepath.Join(dir, walcheck.Directory, metadb.FileName),
		[]byte("not a database at all"), 0o644))
	_, err = Start(options(t, dir))
	requireKind(t, fault.CorruptData, err)
}

// TestCrashBetweenFillingAFileAndListingIt: raft-wal alone refuses every
// append after such a crash.
func TestCrashBetweenFillingAFileAndListingIt(t *testing.T) {
	_, dir := crashImage(t, 16000)
	report, err := walcheck.Verify(dir)
	require.NoError(t, err)
	n := len(report.Segments)
	require.Greater(t, n, 2)
	walDir := filepath.Join(dir, walcheck.Directory)
	// Undo the last listing, and the file that followed it.
	require.NoError(t, os.Remove(filepath.Join(walDir, report.Segments[n-1].Name)))
	withoutMark(t, dir)
	var db metadb.BoltMetaDB
	state, err := db.Load(walDir)
	require.NoError(t, err)
	state.Segments = state.Segments[:n-1]
	last := &state.Segments[n-2]
	ends := last.MaxIndex
	last.SealTime, last.IndexStart, last.MaxIndex = time.Time{}, 0, 0
	require.NoError(t, db.CommitState(state))
	require.NoError(t, db.Close())

	alone := copyTree(t, dir)
	w, err := wal.Open(filepath.Join(alone, walcheck.Directory),
		wal.WithLogger(hclogTo(testLogger(t), "wal", slog.LevelWarn)))
	require.NoError(t, err)
	require.ErrorIs(t, w.StoreLog(&raft.Log{Index: ends + 1, Term: 1}), wal.ErrSealed,
		"raft-wal has learned it: prepare need not do it any more")
	require.NoError(t, w.Close())

	report, err = walcheck.Verify(dir)
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
	server, _ := start(t, options(t, dir))
	l := dial(t, server.Addr())
	fill(t, l, 200)
	name, offset := walcheck.Locate(filepath.Join(dir, walcheck.Directory), 20)
	file, err := os.OpenFile(filepath.Join(dir, walcheck.Directory, name), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte{0xff, 0xff}, offset+88)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	writer, grant, watch := open(t, l, "nn")
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
	requireKind(t, fault.CorruptData, server.Ready())
	require.NoError(t, writer.TryAppend(grant.LastTxid+1, recordsOf(grant.LastTxid+1, 3)))
	watch.until(t, grant.LastTxid+3)
}
