package disk

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

func TestDamagedSegmentServesTheRest(t *testing.T) {
	m := simdisk.NewMem()
	o := packOptions(m)
	o.PackSegmentBytes = 1 << 20
	s := openStore(t, o)
	for i := range 3 {
		storeSmall(t, s, testID(i), pattern(uint64(i), 700))
	}
	require.NoError(t, s.Close())
	name := "/d/packs/" + segments(t, s)[0]
	f, err := m.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 600), 512+1536)
	require.NoError(t, err)
	s = openStore(t, o)
	require.Len(t, s.Replicas(), 2)
	require.Contains(t, s.Volumes()[0].Error, "damaged")
	requireContent(t, s, testID(0), pattern(0, 700))
	requireContent(t, s, testID(2), pattern(2, 700))
	// A version that this program does not know is not touched.
	b := make([]byte, chunkfile.SectorBytes)
	require.NoError(t, vfs.ReadFull(f, b, 512))
	b[8] = 2
	key, err := strconv.ParseUint(segments(t, s)[0][17:33], 16, 64) // it seeds the sums of the records
	require.NoError(t, err)
	const body = chunkfile.SectorBytes - chunkfile.SumBytes
	binary.LittleEndian.PutUint64(b[body:], xxh3.HashSeed(b[:body], key))
	_, err = f.WriteAt(b, 512)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = Open(o)
	require.ErrorIs(t, err, fault.Version)
	_, err = f.WriteAt(bytes.Repeat([]byte{1}, 512), 512)
	require.NoError(t, err)
	require.NoError(t, vfs.ReadFull(f, b, 0))
	b[8] = 2
	chunkfile.SealSector(b)
	_, err = f.WriteAt(b, 0)
	require.NoError(t, err)
	_, err = Open(o)
	require.ErrorIs(t, err, fault.Version)
}

func TestForeignFilesInPacksAreLeftAlone(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, packOptions(m))
	for _, name := range []string{"notes", "0000000000000000_0000000000000001.pack", "1_2.pack"} {
		f, err := m.OpenFile("/d/packs/"+name, os.O_RDWR|os.O_CREATE, 0o644)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	s = reopenStore(t, s)
	require.Len(t, segments(t, s), 3)
}

func TestCompactionLeavesWhatItCannotSee(t *testing.T) {
	o := packOptions(simdisk.NewMem())
	s := openStore(t, o)
	var ids []chunk.ID
	for n := range 40 {
		storeSmall(t, s, testID(n), pattern(uint64(n), patrolSmall))
		ids = append(ids, testID(n))
	}
	segment := s.volumes.all()[0].packs.Closed()[0]
	var inside []int
	for n, id := range ids {
		if s.index.lookup(id).snapshot().place.segment == segment {
			inside = append(inside, n)
		}
	}
	require.Greater(t, len(inside), 2)
	flipAt(t, o.FS, segment.Path(), s.index.lookup(testID(inside[1])).snapshot().place.offset+40)
	err := s.compactor.Compact(segment, func(int64) bool { return true })
	require.ErrorIs(t, err, fault.CorruptData)
	_, err = o.FS.Stat(segment.Path())
	require.NoError(t, err, "a replica is in it")
	require.EqualValues(t, 1, scrubAll(t, s).Bad)
	require.NoError(t, s.compactor.Compact(segment, func(int64) bool { return true }))
	_, err = o.FS.Stat(segment.Path())
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, n := range inside {
		if n != inside[1] {
			requireContent(t, s, testID(n), pattern(uint64(n), patrolSmall))
		}
	}
	require.Len(t, files(t, s, testID(inside[1])), 1, "its bytes are kept")
}

func TestASegmentWithADamagedNameIsNotRemoved(t *testing.T) {
	p := startPatrolled(t)
	name, _ := p.path(13)
	require.NoError(t, p.Close())
	other := strings.Replace(name, "_", "_f", 1)[:len(name)-5] + ".pack"
	require.NoError(t, p.m.Rename(name, other))
	s := openStore(t, p.options)
	require.Len(t, s.Replicas(), patrolFiles)
	_, err := p.m.Stat(other)
	require.NoError(t, err)
	scrubAll(t, s)
	require.Len(t, setAside(t, p.m, path.Base(other)), 1)
}

// setAside lists the files in quarantine that had a name.
func setAside(t *testing.T, fsys vfs.FS, name string) (found []string) {
	t.Helper()
	entries, err := fsys.ReadDir("/d/quarantine")
	require.NoError(t, err)
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), "_"+name+forgottenSuffix) {
			found = append(found, entry.Name())
		}
	}
	return found
}

// TestNothingInQuarantineIsReplaced: the directory was removed, and two files with one damaged name come one after the
// other.
func TestNothingInQuarantineIsReplaced(t *testing.T) {
	p := startPatrolled(t)
	stray := p.options.Directories[0] + "/chunks/ff/stray"
	require.NoError(t, p.m.Remove("/d/quarantine"))
	for range 2 {
		file, err := p.m.OpenFile(stray, os.O_RDWR|os.O_CREATE, 0o644)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		require.NoError(t, p.quarantine.setAside(p.volumes.all()[0], "chunks/ff/stray"))
	}
	require.Len(t, setAside(t, p.m, "stray"), 2)
}
