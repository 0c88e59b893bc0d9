package demo

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/internal/fault"
)

// amount is the size of a tree.
type amount struct {
	files, bytes int64
	took         time.Duration
}

// entries maps the paths below a tree to sizes; -1 for directories. The tree itself is "".
func entries(tree string) (map[string]int64, error) {
	if resolved, err := filepath.EvalSymlinks(tree); err == nil {
		tree = resolved
	}
	found := map[string]int64{}
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, tree), "/")
		if entry.IsDir() {
			found[name] = -1
			return nil
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		found[name] = info.Size()
		return nil
	})
	if err != nil {
		return nil, transfer.LocalError("demo", tree, err)
	}
	return found, nil
}

// measure counts a local tree.
func measure(tree string) (amount, error) {
	found, err := entries(tree)
	var a amount
	for _, size := range found {
		if size >= 0 {
			a.files++
			a.bytes += size
		}
	}
	return a, err
}

// differs is the error of a byte or name that is not what it should be.
func differs(path, format string, args ...any) error {
	return fault.WithPath(fault.New(fault.CorruptData, "demo", format, args...), path)
}

// sameEntries compares names, kinds and sizes.
func sameEntries(want, got map[string]int64) error {
	for name, size := range want {
		other, there := got[name]
		switch {
		case !there:
			return differs(name, "is missing")
		case other != size:
			return differs(name, "has %d bytes, not %d", other, size)
		}
	}
	for name := range got {
		if _, wanted := want[name]; !wanted {
			return differs(name, "was never stored")
		}
	}
	return nil
}

// sameNames compares ww's listing of a stored tree with its source.
func (s *show) sameNames(ctx context.Context, remote string) error {
	want, err := entries(s.o.Tree)
	if err != nil {
		return err
	}
	output, err := s.ww(ctx, "ls", "-R", "--json", remote)
	if err != nil {
		return err
	}
	got := map[string]int64{"": -1}
	lines := bufio.NewScanner(strings.NewReader(output))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct {
			Path      string
			Directory bool
			Bytes     int64
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			return differs(remote, "ls printed %q: %v", lines.Text(), err)
		}
		if entry.Directory {
			entry.Bytes = -1
		}
		got[strings.TrimPrefix(entry.Path, remote+"/")] = entry.Bytes
	}
	return sameEntries(want, got)
}

// fetchTree fetches the stored tree, compares it with its source and removes the copy.
func (s *show) fetchTree(ctx context.Context) (amount, error) {
	copied := s.path("tree")
	_, took, err := s.timed(ctx, "get", "-r", "/tree", copied)
	if err != nil {
		return amount{}, err
	}
	want, err := entries(s.o.Tree)
	if err != nil {
		return amount{}, err
	}
	got, err := entries(copied)
	if err != nil {
		return amount{}, err
	}
	if err := sameEntries(want, got); err != nil {
		return amount{}, err
	}
	sum := amount{took: took}
	for name, size := range want {
		if size < 0 {
			continue
		}
		if err := same(filepath.Join(s.o.Tree, name), filepath.Join(copied, name)); err != nil {
			return amount{}, err
		}
		sum.files++
		sum.bytes += size
	}
	return sum, os.RemoveAll(copied)
}

// fetchFile fetches the big file, compares it with its source and removes the copy.
func (s *show) fetchFile(ctx context.Context) (time.Duration, error) {
	copied := s.path("big-copy")
	_, took, err := s.timed(ctx, "get", "/big", copied)
	if err != nil {
		return 0, err
	}
	if err := same(s.path("big"), copied); err != nil {
		return 0, err
	}
	return took, os.Remove(copied)
}

// same compares the content of two files by SHA-256.
func same(want, got string) error {
	var sums [2][sha256.Size]byte
	for i, path := range []string{want, got} {
		file, err := os.Open(path)
		if err != nil {
			return transfer.LocalError("demo", path, err)
		}
		hash := sha256.New()
		_, err = io.Copy(hash, file)
		if err = errors.Join(err, file.Close()); err != nil {
			return transfer.LocalError("demo", path, err)
		}
		hash.Sum(sums[i][:0])
	}
	if sums[0] != sums[1] {
		return differs(got, "differs from %s", want)
	}
	return nil
}

// generate writes size bytes that depend on the seed and look random.
func generate(path string, seed uint64, size int64) error {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	source := rand.NewChaCha8(key)
	file, err := os.Create(path)
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Path: path, Err: err}
	}
	_, err = io.Copy(file, io.LimitReader(source, size))
	if err = errors.Join(err, file.Close()); err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Path: path, Err: err}
	}
	return nil
}

// join adds the content of a second file to the first.
func join(path, more string) error {
	text, err := os.ReadFile(more)
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Err: err}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Err: err}
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err != nil {
		return &fault.Error{Kind: fault.Disk, Op: "demo", Path: path, Err: err}
	}
	return nil
}
