package disk

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

func FuzzRecoverFile(f *testing.F) {
	m := vfs.NewMem()
	seed, err := Open(testOptions(m))
	require.NoError(f, err)
	w := mustCreate(f, seed, testID(1))
	mustAppend(f, w, pattern(1, blockBytes+300), true)
	mustAppend(f, w, pattern(2, 10), false)
	require.NoError(f, seed.Close())
	whole, err := m.OpenFile(seed.lookup(testID(1)).path(), os.O_RDONLY, 0)
	require.NoError(f, err)
	info, err := whole.Stat()
	require.NoError(f, err)
	b := make([]byte, info.Size())
	require.NoError(f, vfs.ReadFull(whole, b, 0))
	f.Add(b)
	f.Add(b[:len(b)-200])
	f.Fuzz(func(t *testing.T, b []byte) {
		m := vfs.NewMem()
		file, err := m.OpenFile("/a", os.O_RDWR|os.O_CREATE, 0o644)
		require.NoError(t, err)
		_, err = file.WriteAt(b, 0)
		require.NoError(t, err)
		got, err := chunkfile.Recover(file, testID(1))
		if err != nil {
			require.True(t, errors.Is(err, chunkfile.ErrNeverSynced) || fault.KindOf(err) != 0, "%v", err)
			return
		}
		require.LessOrEqual(t, got.Length, min(got.ChunkSize, max(0, int64(len(b))-got.DataOffset)))
		if border := got.Length / blockBytes * blockBytes; border < got.Length {
			require.Equal(t, got.Partial, xxh3.Hash(b[got.DataOffset+border:got.DataOffset+got.Length]))
		}
	})
}
