package chunkfile

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

func FuzzRecoverFile(f *testing.F) {
	whole, err := simdisk.NewMem().OpenFile("/a", os.O_RDWR|os.O_CREATE, 0o644)
	require.NoError(f, err)
	var state State
	a, err := Create(whole, Header{ID: testID(1), Layout: Layout{3 * blockBytes}}, 1, 0, &state)
	require.NoError(f, err)
	end, err := a.Append(pattern(1, blockBytes+300), End{Generation: 1}, false)
	require.NoError(f, err)
	require.NoError(f, a.Sync(end))
	_, err = a.Append(pattern(2, 10), end, true)
	require.NoError(f, err)
	info, err := whole.Stat()
	require.NoError(f, err)
	b := make([]byte, info.Size())
	require.NoError(f, vfs.ReadFull(whole, b, 0))
	f.Add(b)
	f.Add(b[:len(b)-200])
	f.Fuzz(func(t *testing.T, b []byte) {
		m := simdisk.NewMem()
		file, err := m.OpenFile("/a", os.O_RDWR|os.O_CREATE, 0o644)
		require.NoError(t, err)
		_, err = file.WriteAt(b, 0)
		require.NoError(t, err)
		got, err := Recover(file, testID(1))
		if err != nil {
			require.True(t, errors.Is(err, ErrNeverSynced) || fault.KindOf(err) != 0, "%v", err)
			return
		}
		require.LessOrEqual(t, got.Length, min(got.ChunkSize, max(0, int64(len(b))-got.DataOffset())))
		if border := got.Length / blockBytes * blockBytes; border < got.Length {
			require.Equal(t, got.Partial, xxh3.Hash(b[got.DataOffset()+border:got.DataOffset()+got.Length]))
		}
	})
}
