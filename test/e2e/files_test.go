package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
)

const (
	block  = 64 << 10  // span of one stored checksum
	packet = 256 << 10 // payload of one data packet
)

// TestFiles stores, reads, appends to and deletes files through the command
// line, and compares every byte.
func TestFiles(t *testing.T) {
	t.Parallel()
	system := start(t, cluster.Options{})
	t.Run("sizes around a chunk", func(t *testing.T) {
		for _, chunk := range []int{block, packet, 1 << 20} {
			for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3*chunk + 17} {
				storeAndFetch(t, system, size, chunk)
			}
		}
	})
	t.Run("sizes around a packet and a checksum block", func(t *testing.T) {
		for _, edge := range []int{block, packet, 2 * packet} {
			for _, size := range []int{edge - 1, edge, edge + 1} {
				storeAndFetch(t, system, size, 4<<20)
			}
		}
	})
	t.Run("every way in and out", func(t *testing.T) { everyWay(t, system) })
	t.Run("names", func(t *testing.T) { names(t, system) })
	t.Run("appends at every edge", func(t *testing.T) { appends(t, system) })
	t.Run("ranges", func(t *testing.T) { ranges(t, system) })
	t.Run("overwrite and move", func(t *testing.T) { overwriteAndMove(t, system) })
	t.Run("deletion frees the space", func(t *testing.T) { deletion(t, system) })
}

func storeAndFetch(t *testing.T, system *cluster.Cluster, size, chunkSize int) {
	t.Helper()
	name := fmt.Sprintf("/sizes/%d/%d", chunkSize, size)
	content := bytesOf(uint64(size+chunkSize), size)
	mustWW(t, system, "put", "-p", "--chunk-size", strconv.Itoa(chunkSize), localFile(t, content), name)
	target := filepath.Join(t.TempDir(), "fetched")
	mustWW(t, system, "get", name, target)
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	sameBytes(t, content, got, name)
	info, err := system.Client().Stat(t.Context(), name)
	require.NoError(t, err)
	require.EqualValues(t, size, info.Length)
	require.EqualValues(t, chunkSize, info.ChunkSize)
	require.False(t, info.Open)
}

func everyWay(t *testing.T, system *cluster.Cluster) {
	content := bytesOf(7, 3*packet+12345)
	source := localFile(t, content)
	mustWW(t, system, "mkdir", "-p", "/ways")
	mustWW(t, system, "put", source, "/ways/file")
	result := do(t, system, call{arguments: []string{"put", "-", "/ways/stdin"}, stdin: content})
	require.Zero(t, result.code, result.stderr)
	mustWW(t, system, "cp", "/ways/file", "/ways/copy")
	for _, name := range []string{"/ways/file", "/ways/stdin", "/ways/copy"} {
		sameBytes(t, content, []byte(mustWW(t, system, "cat", name)), "cat "+name)
		sameBytes(t, content, []byte(mustWW(t, system, "get", name, "-")), "get - of "+name)
		sameBytes(t, content[:1000], []byte(mustWW(t, system, "head", "-c", "1000", name)), "head of "+name)
		sameBytes(t, content[len(content)-1000:], []byte(mustWW(t, system, "tail", "-c", "1000", name)), "tail of "+
			name)
	}
	sums := map[string]bool{}
	for _, name := range []string{"/ways/file", "/ways/stdin", "/ways/copy"} {
		sums[strings.Fields(mustWW(t, system, "checksum", name))[0]] = true
	}
	require.Len(t, sums, 1, "the same bytes have the same checksum")
	lines := "one\ntwo\nthree\nfour\n"
	result = do(t, system, call{arguments: []string{"put", "-", "/ways/lines"}, stdin: []byte(lines)})
	require.Zero(t, result.code, result.stderr)
	require.Equal(t, "one\ntwo\n", mustWW(t, system, "head", "-n", "2", "/ways/lines"))
	require.Equal(t, "three\nfour\n", mustWW(t, system, "tail", "-n", "2", "/ways/lines"))
	mustWW(t, system, "touch", "/ways/touched")
	require.Empty(t, mustWW(t, system, "cat", "/ways/touched"))
	require.Equal(t, exitOK, ww(t, system, "test", "-f", "/ways/touched").code)
	require.Equal(t, exitOK, ww(t, system, "test", "-d", "/ways").code)
	require.NotEqual(t, exitOK, ww(t, system, "test", "-e", "/ways/none").code)
}

// names holds names that break programs that pass them through a shell, a
// terminal or a text format.
func names(t *testing.T, system *cluster.Cluster) {
	odd := []string{
		"with space", " leading", "trailing ", "two  spaces", `quote"double`, `quote'single`, "back\\slash",
		"new\nline", "tab\there", "emoji 🌲🌳", "ünïcödé", "漢字", "e\u0301", "é", "-", "--help", "-rf", "*", "?", "[a]",
		"$HOME", "`id`", "%s%n", "a;b", "a|b", "a&b", "<x>", "#hash", "~", "...", ".hidden", "\x01\x7f",
		strings.Repeat("n", 255), strings.Repeat("ü", 127),
	}
	mustWW(t, system, "mkdir", "-p", "/names")
	for i, name := range odd {
		content := bytesOf(uint64(i), 100+i)
		mustWW(t, system, "put", localFile(t, content), "/names/"+name)
		sameBytes(t, content, []byte(mustWW(t, system, "cat", "/names/"+name)), fmt.Sprintf("%q", name))
	}
	entries, err := system.Client().ReadDir(t.Context(), "/names")
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name)
	}
	require.ElementsMatch(t, odd, got)
	require.IsIncreasing(t, got, "a listing is ordered")
	target := t.TempDir()
	mustWW(t, system, "get", "-r", "/names", filepath.Join(target, "all"))
	for i, name := range odd {
		got, err := os.ReadFile(filepath.Join(target, "all", name))
		require.NoError(t, err)
		sameBytes(t, bytesOf(uint64(i), 100+i), got, fmt.Sprintf("%q", name))
	}
	for _, name := range odd {
		mustWW(t, system, "rm", "/names/"+name)
	}
	require.Empty(t, strings.TrimSpace(mustWW(t, system, "ls", "/names")))
}

// appends adds pieces that end before, at and after each edge of the layout.
func appends(t *testing.T, system *cluster.Cluster) {
	const chunkSize = 2 * block
	mustWW(t, system, "mkdir", "-p", "/appends")
	r := do(t, system, call{arguments: []string{"put", "--chunk-size", strconv.Itoa(chunkSize), "-", "/appends/file"}})
	require.Zero(t, r.code, r.stderr)
	var want []byte
	for i, size := range []int{1, 10, 0, block - 12, 1, 1, block - 1, 1, chunkSize, 1, chunkSize - 1,
		3*chunkSize + 17, 5} {
		piece := bytesOf(uint64(100+i), size)
		if i%2 == 0 {
			mustWW(t, system, "append", localFile(t, piece), "/appends/file")
		} else {
			r := do(t, system, call{arguments: []string{"append", "-", "/appends/file"}, stdin: piece})
			require.Zero(t, r.code, r.stderr)
		}
		want = append(want, piece...)
		sameBytes(t, want, []byte(mustWW(t, system, "cat", "/appends/file")),
			fmt.Sprintf("after piece %d of %d bytes", i, size))
	}
}

// ranges reads pieces at random, and across every edge.
func ranges(t *testing.T, system *cluster.Cluster) {
	const chunkSize = 3 * block
	content := bytesOf(11, 5*chunkSize+777)
	mustWW(t, system, "put", "-p", "--chunk-size", strconv.Itoa(chunkSize), localFile(t, content), "/ranges/file")
	reader, err := system.Client().Open(t.Context(), "/ranges/file")
	require.NoError(t, err)
	defer reader.Close()
	check := func(from, to int) {
		p := make([]byte, to-from)
		n, err := reader.ReadAt(p, int64(from))
		if errors.Is(err, io.EOF) && n == len(p) {
			err = nil // ReadAt may say both
		}
		require.NoError(t, err)
		sameBytes(t, content[from:to], p, fmt.Sprintf("bytes %d to %d", from, to))
	}
	for edge := block; edge < len(content); edge += block {
		check(edge-1, edge)
		check(edge, min(edge+1, len(content)))
		check(edge-1, min(edge+1, len(content)))
	}
	check(0, len(content))
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		from := random.IntN(len(content))
		check(from, from+random.IntN(len(content)-from))
	}
	for _, at := range [][2]int{{0, 1}, {block - 1, 2}, {chunkSize - 7, 14}, {len(content) - 3, 3},
		{len(content) - 3, 300}, {len(content), 1}} {
		got := mustWW(t, system, "cat", "--offset", strconv.Itoa(at[0]), "--length",
			strconv.Itoa(at[1]), "/ranges/file")
		sameBytes(t, content[at[0]:min(at[0]+at[1], len(content))], []byte(got),
			fmt.Sprintf("cat of %d bytes at %d", at[1], at[0]))
	}
	_, err = reader.ReadAt(make([]byte, 1), int64(len(content)))
	require.ErrorIs(t, err, io.EOF)
}

func overwriteAndMove(t *testing.T, system *cluster.Cluster) {
	old, replacement := bytesOf(1, 100_000), bytesOf(2, 300_000)
	mustWW(t, system, "put", "-p", localFile(t, old), "/moves/a")
	mustWW(t, system, "put", "-f", localFile(t, replacement), "/moves/a")
	sameBytes(t, replacement, []byte(mustWW(t, system, "cat", "/moves/a")), "after overwriting")
	mustWW(t, system, "mv", "/moves/a", "/moves/b")
	refused(t, system, call{arguments: []string{"cat", "/moves/a"}}, exitNotFound, "/moves/a")
	sameBytes(t, replacement, []byte(mustWW(t, system, "cat", "/moves/b")), "after moving")
	mustWW(t, system, "mkdir", "/moves/dir")
	mustWW(t, system, "mv", "/moves/b", "/moves/dir")
	sameBytes(t, replacement, []byte(mustWW(t, system, "cat", "/moves/dir/b")), "after moving into a directory")
	mustWW(t, system, "mv", "/moves/dir", "/moves/renamed")
	sameBytes(t, replacement, []byte(mustWW(t, system, "cat", "/moves/renamed/b")), "after moving its directory")
	mustWW(t, system, "rm", "-r", "/moves")
	refused(t, system, call{arguments: []string{"ls", "/moves"}}, exitNotFound, "/moves")
}

// deletion checks that the bytes of a removed file leave the disks, and that
// those of others do not.
func deletion(t *testing.T, system *cluster.Cluster) {
	content := bytesOf(3, 600_000)
	mustWW(t, system, "put", "-p", localFile(t, content), "/deletion/kept")
	mustWW(t, system, "put", "-p", localFile(t, content), "/deletion/removed")
	chunks, err := system.Client().Locate(t.Context(), "/deletion/removed", 0, -1)
	require.NoError(t, err)
	require.Len(t, chunks, 1)
	require.NotEmpty(t, replicaFiles(t, system, chunks[0].ID.String()))
	mustWW(t, system, "rm", "/deletion/removed")
	err = cluster.Poll(patient(t, 30*time.Second), func() error {
		if left := replicaFiles(t, system, chunks[0].ID.String()); len(left) > 0 {
			return fmt.Errorf("still there: %v", left)
		}
		return nil
	})
	require.NoError(t, err)
	sameBytes(t, content, []byte(mustWW(t, system, "cat", "/deletion/kept")), "the other file")
}

// replicaFiles finds the files that hold a chunk, on all datanodes.
func replicaFiles(t *testing.T, system *cluster.Cluster, id string) []string {
	t.Helper()
	var found []string
	for i := range system.Datanodes {
		for _, disk := range system.Disks(i) {
			err := filepath.WalkDir(disk, func(name string, entry os.DirEntry, err error) error {
				if err == nil && strings.Contains(filepath.Base(name), id) && !entry.IsDir() {
					found = append(found, name)
				}
				return nil // a file may go away meanwhile
			})
			require.NoError(t, err)
		}
	}
	return found
}

// TestOrderlyRestart ends every daemon with SIGTERM and starts it again: for a
// reader nothing has changed.
func TestOrderlyRestart(t *testing.T) {
	t.Parallel()
	system := start(t, cluster.Options{})
	ctx := patient(t, 3*time.Minute)
	want := map[string][]byte{}
	for i := range 10 {
		name := fmt.Sprintf("/restart/%d", i)
		want[name] = bytesOf(uint64(i), i*300_000)
		_, err := system.Client().Store(ctx, name, bytes.NewReader(want[name]), int64(len(want[name])),
			client.StoreOptions{CreateOptions: client.CreateOptions{Parents: true}})
		require.NoError(t, err)
	}
	for round := range 2 {
		require.NoError(t, system.Stop(), "every daemon ends cleanly on SIGTERM")
		require.NoError(t, system.Start(ctx))
		for name, content := range want {
			sameBytes(t, content, []byte(mustWW(t, system, "cat", name)),
				fmt.Sprintf("%s after restart %d", name, round+1))
		}
	}
}
