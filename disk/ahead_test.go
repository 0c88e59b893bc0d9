package disk

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// fileBytes is how many bytes the file of a replica has for data.
func fileBytes(t *testing.T, s *Store, id chunk.ID) int64 {
	r := s.index.lookup(id)
	info, err := s.fs.Stat(r.path())
	require.NoError(t, err)
	return info.Size() - r.disk.DataOffset()
}

func TestASyncedReplicaIsWrittenAhead(t *testing.T) {
	const size = 4 * chunkfile.AheadBytes
	s := openStore(t, testOptions(simdisk.NewMem()))
	w, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: size})
	require.NoError(t, err)
	content := pattern(1, size)
	at := 0
	sync := func(n int) {
		_, err := run(w, Job{Offset: int64(at), Data: content[at : at+n], Sync: true})
		require.NoError(t, err)
		at += n
	}
	sync(100)
	require.EqualValues(t, 100, fileBytes(t, s, testID(1)), "one sync alone gains nothing")
	sync(4096)
	require.EqualValues(t, chunkfile.AheadBytes, fileBytes(t, s, testID(1)))
	for at < chunkfile.AheadBytes-4096 {
		sync(4096)
	}
	require.EqualValues(t, chunkfile.AheadBytes, fileBytes(t, s, testID(1)))
	sync(8192)
	require.EqualValues(t, 2*chunkfile.AheadBytes, fileBytes(t, s, testID(1)))
	for at < size-4096 {
		sync(4096)
	}
	require.EqualValues(t, size, fileBytes(t, s, testID(1)), "not beyond the chunk")
	sync(100)
	mustSeal(t, w)
	require.EqualValues(t, at, fileBytes(t, s, testID(1)), "a sealed file ends where its data end")
	got, err := readVerified(s, testID(1))
	require.NoError(t, err)
	require.Equal(t, content[:at], got)
}

// TestZerosAheadProveNothing: a chunk of zeros is cut and goes on; neither sums
// of what was there before nor the zeros ahead bring bytes back, also when the
// session changes hands before the seal.
func TestZerosAheadProveNothing(t *testing.T) {
	m := simdisk.NewMem()
	s := openStore(t, testOptions(m))
	w := mustCreate(t, s, testID(1))
	mustAppend(t, w, make([]byte, 2*blockBytes), true)
	w, err := s.Resume(testID(1), 1, 2, 100)
	require.NoError(t, err)
	for range 3 {
		mustAppend(t, w, make([]byte, 10), true)
	}
	require.Greater(t, fileBytes(t, s, testID(1)), int64(blockBytes))
	for _, policy := range crashPolicies {
		crashed := openStore(t, testOptions(m.CrashClone(policy)))
		replica, err := crashed.Stat(testID(1))
		require.NoError(t, err)
		require.EqualValues(t, 130, replica.Length)
		require.EqualValues(t, 130, fileBytes(t, crashed, testID(1)))
	}
	w, err = s.Resume(testID(1), 2, 3, 130)
	require.NoError(t, err)
	mustSeal(t, w)
	require.EqualValues(t, 130, fileBytes(t, s, testID(1)))
}

// TestWritingAheadFails: a full disk does not harm the append, any other error
// ends the writer.
func TestWritingAheadFails(t *testing.T) {
	for _, c := range []struct {
		injected error
		kind     fault.Kind
	}{{syscall.ENOSPC, 0}, {syscall.EIO, fault.Disk}} {
		f := simdisk.NewFaulty(simdisk.NewMem())
		s := openStore(t, testOptions(f))
		w := mustCreate(t, s, testID(1))
		mustAppend(t, w, []byte("one"), true)
		// the first is that of the data
		remove := f.Inject(simdisk.Rule{Op: simdisk.OpWrite, From: 2, Times: 1, Err: c.injected})
		_, err := run(w, Job{Offset: 3, Data: []byte("two"), Sync: true})
		require.Equal(t, c.kind, fault.KindOf(err))
		remove()
		if c.kind != 0 {
			_, err = run(w, Job{Offset: 6, Data: []byte("three"), Sync: true})
			require.Equal(t, c.kind, fault.KindOf(err))
			continue
		}
		mustAppend(t, w, []byte("three"), true)
		require.EqualValues(t, 11, fileBytes(t, s, testID(1)), "it is not tried again")
		mustSeal(t, w)
		got, err := readVerified(s, testID(1))
		require.NoError(t, err)
		require.Equal(t, "onetwothree", string(got))
	}
}
