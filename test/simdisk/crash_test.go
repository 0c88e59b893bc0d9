package simdisk_test

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/test/simdisk"
)

// content of a file after a crash; ok is false if it is not there.
func content(t *testing.T, m *simdisk.Mem, name string, policy simdisk.CrashPolicy) (text string, ok bool) {
	t.Helper()
	clone := m.CrashClone(policy)
	if _, err := clone.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	return read(t, open(t, clone, name, 0)), true
}

var drop = simdisk.CrashPolicy{Mode: simdisk.CrashDropUnsynced}

func TestPowerFailureKeepsWhatWasSynced(t *testing.T) {
	memory := simdisk.NewMem()
	require.NoError(t, memory.MkdirAll("/d", 0o755))
	file := open(t, memory, "/d/a", create)
	write(t, file, "one", 0)
	require.NoError(t, file.Datasync())
	_, ok := content(t, memory, "/d/a", drop)
	require.False(t, ok, "the name was not synced")
	require.NoError(t, memory.SyncDir("/d"))
	_, ok = content(t, memory, "/d/a", drop)
	require.False(t, ok, "the directory's own name was not synced")
	require.NoError(t, memory.SyncDir("/"))
	write(t, file, "TWO", 3)
	text, _ := content(t, memory, "/d/a", drop)
	require.Equal(t, "one", text)
	text, _ = content(t, memory, "/d/a", simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})
	require.Equal(t, "oneTWO", text)
	text, _ = content(t, memory, "/d/a", simdisk.CrashPolicy{Mode: simdisk.CrashTornLast})
	require.Equal(t, "one", text, "a write inside one sector is kept whole or not at all")
	require.NoError(t, file.Truncate(1))
	text, _ = content(t, memory, "/d/a", drop)
	require.Equal(t, "one", text)
	require.NoError(t, file.Sync())
	text, _ = content(t, memory, "/d/a", drop)
	require.Equal(t, "o", text)
}

func TestPowerFailureSeesARenameBeforeOrAfterItsSync(t *testing.T) {
	memory := simdisk.NewMem()
	require.NoError(t, memory.MkdirAll("/d", 0o755))
	require.NoError(t, memory.MkdirAll("/e", 0o755))
	require.NoError(t, memory.SyncDir("/"))
	open(t, memory, "/d/a", create)
	require.NoError(t, memory.SyncDir("/d"))
	require.NoError(t, memory.Rename("/d/a", "/e/b"))
	outcomes := map[string]int{}
	for seed := range uint64(50) {
		clone := memory.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashSubset, Seed: seed})
		var names []string
		for _, name := range []string{"/d/a", "/e/b"} {
			if _, err := clone.Stat(name); err == nil {
				names = append(names, name)
			}
		}
		outcomes[strings.Join(names, " ")]++
	}
	require.Len(t, outcomes, 2, "exactly one of the names: %v", outcomes)
	require.NoError(t, memory.SyncDir("/e"))
	_, ok := content(t, memory, "/e/b", drop)
	require.True(t, ok)
	_, ok = content(t, memory, "/d/a", drop)
	require.False(t, ok)
}

func TestSubsetTearsWritesAtSectorsAndPages(t *testing.T) {
	memory := simdisk.NewMem()
	f := open(t, memory, "/a", create)
	require.NoError(t, memory.SyncDir("/"))
	write(t, f, strings.Repeat("a", 16384), 0)
	require.NoError(t, f.Sync())
	write(t, f, strings.Repeat("b", 8192), 4096)
	write(t, f, strings.Repeat("c", 3000), 100)
	outcomes := map[string]bool{}
	for seed := range uint64(200) {
		policy := simdisk.CrashPolicy{Mode: simdisk.CrashSubset, Seed: seed}
		text, ok := content(t, memory, "/a", policy)
		require.True(t, ok)
		again, _ := content(t, memory, "/a", policy)
		require.Equal(t, text, again, "the same policy gives the same outcome")
		require.Len(t, text, 16384)
		for at := 4096; at < 12288; at += 4096 {
			require.Equal(t, 4096, strings.Count(text[at:at+4096], text[at:at+1]),
				"pages of the first write are kept whole or not")
		}
		outcomes[text] = true
	}
	require.Greater(t, len(outcomes), 10)
}

func TestCrashCloneIsFreeOfTheOriginal(t *testing.T) {
	m := simdisk.NewMem()
	f := open(t, m, "/a", create)
	write(t, f, "one", 0)
	held, err := m.Lock("/lock")
	require.NoError(t, err)
	clone := m.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})
	write(t, f, "two", 0)
	require.Equal(t, "one", read(t, open(t, clone, "/a", 0)))
	again, err := clone.Lock("/lock")
	require.NoError(t, err, "a lock ends with its process")
	require.NoError(t, again.Close())
	require.NoError(t, held.Close())
}

func TestAProcessCrashMakesNothingDurable(t *testing.T) {
	memory := simdisk.NewMem()
	f := open(t, memory, "/a", create)
	require.NoError(t, memory.SyncDir("/"))
	write(t, f, "one", 0)
	require.NoError(t, f.Sync())
	write(t, f, "TWO", 0)
	require.NoError(t, memory.Rename("/a", "/b"))
	clone := memory.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashKeepAll})
	require.Equal(t, "TWO", read(t, open(t, clone, "/b", 0)))
	text, _ := content(t, clone, "/a", drop)
	require.Equal(t, "one", text)
	require.NoError(t, clone.SyncDir("/"))
	require.NoError(t, open(t, clone, "/b", 0).Sync())
	text, _ = content(t, clone, "/b", drop)
	require.Equal(t, "TWO", text)
	text, _ = content(t, memory, "/a", drop)
	require.Equal(t, "one", text, "the original is not touched")
}

func TestFullMemoryDiskWritesShort(t *testing.T) {
	m := simdisk.NewMem()
	m.SetCapacity(10)
	f := open(t, m, "/a", create)
	write(t, f, "12345678", 0)
	n, err := f.WriteAt([]byte("abcd"), 8)
	require.Equal(t, 2, n)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, "12345678ab", read(t, f))
	write(t, f, "overwrite!", 0)
}

func TestOnChangeSeesEveryChange(t *testing.T) {
	memory := simdisk.NewMem()
	var seen []string
	memory.OnChange(func(op simdisk.Op, name string) { seen = append(seen, op.String()+" "+path.Base(name)) })
	f := open(t, memory, "/a", create)
	write(t, f, "x", 0)
	require.NoError(t, f.Datasync())
	require.NoError(t, f.Truncate(0))
	require.NoError(t, memory.Rename("/a", "/b"))
	require.NoError(t, memory.SyncDir("/"))
	require.NoError(t, memory.Remove("/b"))
	require.Equal(t, []string{"open a", "write a", "datasync a", "truncate a", "rename b", "syncdir /", "remove b"},
		seen)
}
