package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
)

// TestBadInput gives ww what people and scripts give it by mistake. Each gets an
// exit code that says what kind of mistake it is, and a line that names it; none
// changes anything.
func TestBadInput(t *testing.T) {
	skipUnderRace(t)
	system := start(t, cluster.Options{})
	content := bytesOf(1, 1000)
	source := localFile(t, content)
	mustWW(t, system, "put", source, "/file")
	mustWW(t, system, "mkdir", "/directory")
	mustWW(t, system, "put", source, "/directory/file")
	before := mustWW(t, system, "ls", "-R", "/")

	deep := strings.Repeat("/d", 4097)
	badPaths := map[string]struct{ path, word string }{
		"an empty path":              {"", "path"},
		"a relative path":            {"file", "begins with /"},
		"a name of 256 bytes":        {"/" + strings.Repeat("n", 256), "255"},
		"a name of 256 bytes within": {"/" + strings.Repeat("n", 256) + "/x", "255"},
		"invalid UTF-8":              {"/a\xff\xfeb", "UTF-8"},
		"dot dot":                    {"/a/../b", ".."},
		"dot":                        {"/a/./b", "."},
		"4,097 elements":             {deep, "4096"},
	}
	for what, bad := range badPaths {
		for _, verb := range [][]string{
			{"put", source, bad.path}, {"cat", bad.path}, {"mkdir", "-p", bad.path}, {"rm", bad.path},
			{"mv", "/file", bad.path}, {"stat", bad.path}, {"ls", bad.path}, {"touch", bad.path},
			{"append", source, bad.path},
		} {
			t.Run(what+" for "+verb[0], func(t *testing.T) {
				refused(t, system, call{arguments: verb}, exitUsage, bad.word)
			})
		}
	}
	// An argument cannot hold a NUL; a name from standard input or the Go API
	// can, and the namenode refuses it itself.
	t.Run("NUL", func(t *testing.T) {
		_, err := system.Client().Stat(t.Context(), "/a\x00b")
		require.ErrorContains(t, err, "NUL")
	})

	for what, bad := range map[string]struct {
		arguments []string
		code      int
		words     []string
	}{
		"missing local source": {[]string{"put", "/no/such/file", "/x"}, exitNotFound,
			[]string{"/no/such/file"}},
		"missing remote source": {[]string{"get", "/none", filepath.Join(t.TempDir(), "x")},
			exitNotFound, []string{"/none"}},
		"missing source of cat": {[]string{"cat", "/none"}, exitNotFound, []string{"/none"}},
		"missing source of append": {[]string{"append", "/no/such/file", "/file"}, exitNotFound,
			[]string{"/no/such/file"}},
		"missing source of mv":       {[]string{"mv", "/none", "/x"}, exitNotFound, []string{"/none"}},
		"missing source of rm":       {[]string{"rm", "/none"}, exitNotFound, []string{"/none"}},
		"missing parent":             {[]string{"put", source, "/no/parent/x"}, exitNotFound, []string{"/no"}},
		"missing parent of mkdir":    {[]string{"mkdir", "/no/parent"}, exitNotFound, []string{"/no"}},
		"existing target without -f": {[]string{"put", source, "/file"}, exitExists, []string{"/file", "exists"}},
		"existing target of mv":      {[]string{"mv", "/file", "/file2", "/file"}, exitFailed, []string{"/file"}},
		"existing target of mkdir":   {[]string{"mkdir", "/directory"}, exitExists, []string{"/directory"}},
		"a file as a directory":      {[]string{"put", source, "/file/x"}, exitFailed, []string{"/file"}},
		"a directory as source of cat": {[]string{"cat", "/directory"}, exitFailed,
			[]string{"/directory", "directory"}},
		"a local directory without -r": {[]string{"put", t.TempDir(), "/x"}, exitFailed, []string{"-r"}},
		"a directory without -r": {[]string{"get", "/directory", filepath.Join(t.TempDir(), "x")},
			exitFailed, []string{"-r"}},
		"rm of a directory": {[]string{"rm", "/directory"}, exitFailed, []string{"/directory", "-r"}},
		"mv of a directory into itself": {[]string{"mv", "/directory", "/directory/x"}, exitUsage,
			[]string{"/directory"}},
		"rm of the root": {[]string{"rm", "-r", "/"}, exitUsage, []string{"/"}},
		"mv of the root": {[]string{"mv", "/", "/x"}, exitUsage, []string{"/"}},
		"chunk size of 1": {[]string{"put", "--chunk-size", "1", source, "/x"},
			exitUsage, []string{"64"}},
		"chunk size beyond the limit": {[]string{"put", "--chunk-size", "2GiB", source, "/x"},
			exitUsage, []string{"1"}},
		"negative replication": {[]string{"put", "--replication", "-1", source, "/x"}, exitUsage,
			[]string{"replication"}},
		"replication above the nodes": {[]string{"put", "--replication", "5", source, "/x"}, exitUnavailable,
			[]string{"5", "4", fmt.Sprintf("127.0.0.1:%d", system.DataPorts[0])}},
		"unknown verb":      {[]string{"putt", source, "/x"}, exitUsage, []string{"putt", "put"}},
		"unknown flag":      {[]string{"put", "--forse", source, "/x"}, exitUsage, []string{"forse"}},
		"too few arguments": {[]string{"put", source}, exitUsage, nil},
		"missing configuration": {[]string{"--config", "/no/such.yaml", "ls", "/"}, exitUsage,
			[]string{"/no/such.yaml"}},
		"configuration with unknown key": {[]string{"--config", localFile(t, []byte("client:\n  namenode: x\n")), "ls",
			"/"}, exitUsage, []string{"namenode", "namenodes"}},
		"configuration that is not YAML": {[]string{"--config", localFile(t, []byte("{{{")), "ls", "/"}, exitUsage,
			nil},
	} {
		t.Run(what, func(t *testing.T) {
			refused(t, system, call{arguments: bad.arguments}, bad.code, bad.words...)
		})
	}
	t.Run("unwritable local file", func(t *testing.T) {
		file := localFile(t, nil)
		refused(t, system, call{arguments: []string{"get", "/file", filepath.Join(file, "x")}}, exitFailed, file)
	})
	t.Run("existing local file", func(t *testing.T) {
		file := localFile(t, []byte("mine"))
		refused(t, system, call{arguments: []string{"get", "/file", file}}, exitExists, file)
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, "mine", string(got))
	})
	t.Run("append keeps what it cannot extend", func(t *testing.T) {
		r := do(t, system, call{arguments: []string{"append", "/no/such/file", "/file"}})
		require.NotZero(t, r.code)
		sameBytes(t, content, []byte(mustWW(t, system, "cat", "/file")), "/file")
	})
	require.Equal(t, before, mustWW(t, system, "ls", "-R", "/"), "nothing of this changed the tree")
}

// TestWrongAddress: nobody there, nobody at that port, somebody else at that
// port, a port that accepts and says nothing.
func TestWrongAddress(t *testing.T) {
	skipUnderRace(t)
	system := start(t, cluster.Options{Datanodes: 1, Replication: 1})
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := free.Addr().String()
	require.NoError(t, free.Close())

	talker, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { talker.Close() })
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	serve := func(l net.Listener, greeting string) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(greeting)) // the peer may be gone
			defer conn.Close()                  // it stays open as long as the listener
		}
	}
	go serve(talker, "220 mail.example ESMTP ready\r\n")
	go serve(silent, "")

	for what, address := range map[string]string{
		"nobody there":           nobody,
		"another protocol":       talker.Addr().String(),
		"a silent port":          silent.Addr().String(),
		"the data port":          fmt.Sprintf("127.0.0.1:%d", system.DataPorts[0]),
		"the log server's port":  fmt.Sprintf("127.0.0.1:%d", system.LogPort),
		"a name without address": "no-such-host.invalid:7700",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel() // each waits for its own deadline
			started := time.Now()
			refused(t, system, call{namenode: address, arguments: []string{"ls", "/"}}, exitUnavailable, address)
			require.Less(t, time.Since(started), time.Minute, "it gives up in a time that a person waits")
		})
	}
	t.Run("no port", func(t *testing.T) {
		refused(t, system, call{namenode: "127.0.0.1", arguments: []string{"ls", "/"}}, exitUsage, "127.0.0.1")
	})
}

// TestTooFewNodes kills datanodes until fewer live than a file wants copies.
func TestTooFewNodes(t *testing.T) {
	t.Parallel()
	skipUnderRace(t)
	system := start(t, cluster.Options{Datanodes: 2, Replication: 2})
	source := localFile(t, bytesOf(1, 1000))
	refused(t, system, call{arguments: []string{"put", "--replication", "3", source, "/x"}}, exitUnavailable,
		"3", "2", fmt.Sprintf("127.0.0.1:%d", system.DataPorts[0]), fmt.Sprintf("127.0.0.1:%d", system.DataPorts[1]))
	mustWW(t, system, "put", source, "/two")
	mustWW(t, system, "put", "--replication", "1", source, "/one")
	refused(t, system, call{arguments: []string{"stat", "/x"}}, exitNotFound, "/x")
}

// TestFullLocalDisk fetches into a file system that is too small: the command
// says so, and leaves no half file behind.
func TestFullLocalDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: fetching onto a full local disk needs root, to mount a small file system")
	}
	mount := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(mount, syscall.MNT_DETACH)) })
	system := start(t, cluster.Options{Datanodes: 1, Replication: 1})
	content := bytesOf(1, 5<<20)
	mustWW(t, system, "put", localFile(t, content), "/big")
	target := filepath.Join(mount, "big")
	refused(t, system, call{arguments: []string{"get", "/big", target}}, exitFailed, target, "space")
	left, err := os.ReadDir(mount)
	require.NoError(t, err)
	require.Empty(t, left, "no half file under any name")
	r := do(t, system, call{arguments: []string{"get", "-f", "/big", target}})
	require.Equal(t, exitFailed, r.code, r.stderr)
	sameBytes(t, content, []byte(mustWW(t, system, "cat", "/big")), "the file is still whole in the cluster")
}
