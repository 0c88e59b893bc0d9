package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestVerbs runs the verbs against one cluster; each subtest has a directory of
// its own there.
func TestVerbs(t *testing.T) {
	system := startWoods(t, 3)
	for name, test := range map[string]func(*testing.T, *woods, string){
		"files come back as they went": testSizes,
		"names":                        testNames,
		"trees":                        testTrees,
		"targets as cp has them":       testTargets,
		"what exists stays":            testExisting,
		"standard input and output":    testStreams,
		"append and tail -f":           testAppend,
		"head and tail":                testEnds,
		"move, copy, remove":           testMoves,
		"questions":                    testQuestions,
		"listings":                     testListings,
		"JSON of every verb":           testJSON,
		"the prompt":                   testShell,
		"completion of paths":          testCompletion,
		"an interrupted transfer":      testInterrupted,
		"bad input":                    testBadInput,
	} {
		directory := "/" + strings.ReplaceAll(strings.ReplaceAll(name, " ", "_"), ",", "")
		t.Run(name, func(t *testing.T) {
			w := system.in(t)
			w.must("mkdir", directory)
			test(t, w, directory)
		})
	}
}

func testSizes(t *testing.T, system *woods, at string) {
	for i, size := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3*chunkBytes + 17} {
		content := bytesOf(byte(i), size)
		name := fmt.Sprintf("%s/%d", at, size)
		system.must("put", localFile(t, content), name)
		target := filepath.Join(t.TempDir(), "got")
		system.must("get", name, target)
		got, err := os.ReadFile(target)
		require.NoError(t, err)
		sameBytes(t, content, got)
		sameBytes(t, content, []byte(system.must("cat", name)))
		for _, s := range [][2]int{{0, size}, {size / 3, size / 2}, {size, 10}, {max(0, size-1), 1}} {
			end := min(size, s[0]+s[1])
			sameBytes(t, content[s[0]:end],
				[]byte(system.must("cat", "--offset", fmt.Sprint(s[0]), "--length", fmt.Sprint(s[1]), name)))
		}
	}
}

func testNames(t *testing.T, system *woods, at string) {
	names := []string{"with space", `it's "quoted"`, "🌲 forest", "new\nline", "tab\t", "-r", "--help", "*", "a\\b",
		"漢字", strings.Repeat("n", 255)}
	for i, name := range names {
		system.must("put", localFile(t, []byte{byte(i)}), at+"/"+name)
	}
	directory := t.TempDir()
	system.must("get", "-r", at, directory)
	var listed []string
	for _, o := range objects(t, system.must("ls", "--json", at)) {
		listed = append(listed, o["name"].(string))
	}
	for i, name := range names {
		got, err := os.ReadFile(filepath.Join(directory, filepath.Base(at), name))
		require.NoError(t, err)
		require.Equal(t, []byte{byte(i)}, got)
	}
	slices.Sort(names)
	require.Equal(t, names, listed)
	lines := strings.Split(strings.TrimSuffix(system.must("ls", at), "\n"), "\n")
	require.Len(t, lines, len(names), "one line for each, whatever its name")
	require.Contains(t, lines, `"new\nline"`)
	require.Contains(t, lines, "🌲 forest")
}

func testTrees(t *testing.T, system *woods, at string) {
	source := filepath.Join(t.TempDir(), "tree")
	want := map[string][]byte{}
	for i := range 60 {
		name := fmt.Sprintf("d%d/e%d/file %d", i%3, i%7, i)
		want[name] = bytesOf(byte(i), i*1500)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(source, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(source, name), want[name], 0o644))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(source, "empty/below"), 0o755))
	system.must("put", "-r", source, at+"/copy")
	system.must("test", "-d", at+"/copy/empty/below")
	system.must("put", "-r", source, at) // below the directory, under its name
	system.must("cp", "-r", at+"/tree", at+"/again")

	target := t.TempDir()
	system.must("get", "-r", at+"/copy", filepath.Join(target, "one"))
	system.must("get", "-r", "--parallel", "3", at+"/again", target)
	for name, content := range want {
		for _, directory := range []string{"one", "again"} {
			got, err := os.ReadFile(filepath.Join(target, directory, name))
			require.NoError(t, err)
			sameBytes(t, content, got)
		}
	}
	info, err := os.Stat(filepath.Join(target, "one", "empty", "below"))
	require.NoError(t, err)
	require.True(t, info.IsDir())

	// A file that fails is named; the others go on.
	require.NoError(t, os.Symlink("/no/such/target", filepath.Join(source, "d0", "dangling")))
	result := system.run("", "put", "-r", source, at+"/broken")
	require.Equal(t, exitNotFound, result.code)
	require.Contains(t, result.stderr, `d0/dangling"`)
	require.Contains(t, result.stderr, "ww put: 1 of ")
	system.must("test", "-f", at+"/broken/d2/e6/file 20")
	// The second time, what is there stays and is named.
	result = system.run("", "put", "-r", source+"/d1", at+"/broken/")
	require.Equal(t, exitExists, result.code)
	require.Contains(t, result.stderr, at+"/broken/d1/e1/file 1")
	system.must("put", "-r", "-f", source+"/d1", at+"/broken/")

	result = system.run("", "get", "-r", at+"/copy", filepath.Join(target, "one"), "--json")
	require.Zero(t, result.code, "below the existing directory: %s", result.stderr)
	last := objects(t, result.stdout)
	require.Equal(t, float64(len(want)), last[len(last)-1]["files"])
	result = system.run("", "get", "-r", at+"/copy", filepath.Join(target, "one"))
	require.Equal(t, exitExists, result.code)
}

func testTargets(t *testing.T, system *woods, at string) {
	first, b := localFile(t, []byte("a")), localFile(t, []byte("b"))
	second := filepath.Join(filepath.Dir(b), "second")
	require.NoError(t, os.Rename(b, second))
	system.must("put", first, second, at)
	require.Equal(t, "local\nsecond\n", system.must("ls", at))
	system.must("put", "-p", first, at+"/x/y/z")
	system.must("put", first, at+"/x/") // a directory
	require.Equal(t, "a", system.must("cat", at+"/x/local"))
	system.must("put", "-p", first, at+"/new/")
	require.Equal(t, "a", system.must("cat", at+"/new/local"))

	require.Equal(t, exitNotFound, system.run("", "put", first, at+"/none/").code)
	require.Equal(t, exitNotFound, system.run("", "put", first, at+"/none/x").code)
	require.Equal(t, exitNotFound, system.run("", "put", first, second, at+"/none").code)
	require.Equal(t, exitFailed, system.run("", "put", first, second, at+"/second").code)
	require.Equal(t, exitFailed, system.run("", "put", first, at+"/second/x").code)

	target := t.TempDir()
	system.must("get", at+"/local", at+"/second", target)
	system.must("get", at+"/local", filepath.Join(target, "name"))
	system.must("get", "-p", at+"/local", filepath.Join(target, "p", "q"))
	entries, err := os.ReadDir(target)
	require.NoError(t, err)
	require.Len(t, entries, 4, "no part file is left: %v", entries)
	require.Equal(t, exitNotFound, system.run("", "get", at+"/local", filepath.Join(target, "none", "x")).code)
	require.Equal(t, exitNotFound, system.run("", "get", at+"/local", filepath.Join(target, "none")+"/").code)
	require.Equal(t, exitFailed, system.run("", "get", at+"/local", filepath.Join(target, "name", "x")).code)
	system.must("get", at+"/local", "/dev/null")
	info, err := os.Stat("/dev/null")
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeDevice, "a device is written into, not replaced")
}

func testExisting(t *testing.T, system *woods, at string) {
	first, second := localFile(t, []byte("first")), localFile(t, []byte("second"))
	system.must("put", first, at+"/f")
	result := system.run("", "put", second, at+"/f")
	require.Equal(t, exitExists, result.code)
	require.Contains(t, result.stderr, at+"/f")
	require.Contains(t, result.stderr, "-f")
	require.Equal(t, "first", system.must("cat", at+"/f"))
	system.must("put", "-f", second, at+"/f")
	require.Equal(t, "second", system.must("cat", at+"/f"))

	result = system.run("", "get", at+"/f", first)
	require.Equal(t, exitExists, result.code)
	require.Contains(t, result.stderr, first)
	got, err := os.ReadFile(first)
	require.NoError(t, err)
	require.Equal(t, "first", string(got))
	system.must("get", "-f", at+"/f", first)
	got, err = os.ReadFile(first)
	require.NoError(t, err)
	require.Equal(t, "second", string(got))

	system.must("mkdir", at+"/d")
	require.Equal(t, exitExists, system.run("", "mkdir", at+"/d").code)
	system.must("mkdir", "-p", at+"/d")
	result = system.run("", "put", "-f", first, at+"/d/../d")
	require.Equal(t, exitUsage, result.code)
	local := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(local, "f"), 0o755))
	result = system.run("", "get", "-f", at+"/f", local)
	require.Equal(t, exitFailed, result.code, "a directory is never overwritten: %s", result.stderr)
}

func testStreams(t *testing.T, system *woods, at string) {
	content := bytesOf(9, 5*chunkBytes+5)
	require.Zero(t, system.run(string(content), "put", "-", at+"/s").code)
	sameBytes(t, content, []byte(system.must("get", at+"/s", "-")))
	sameBytes(t, append(slices.Clone(content), content...), []byte(system.must("cat", at+"/s", at+"/s")))
	require.Equal(t, exitUsage, system.run("x", "put", "-", at).code)
	require.Equal(t, exitUsage, system.run("x", "put", "-", localFile(t, nil), at).code)
	require.Equal(t, exitExists, system.run("x", "put", "-", at+"/s").code)
	r := system.run("", "cat", at+"/none", at+"/s")
	require.Equal(t, exitNotFound, r.code)
	sameBytes(t, content, []byte(r.stdout))
	require.Equal(t, exitFailed, system.run("", "cat", at).code)
	require.Equal(t, exitUsage, system.run("", "cat", "--offset", "99999999", at+"/s").code)
	require.Equal(t, exitUsage, system.run("", "cat", "--offset", "-1", at+"/s").code)
}

// waitFor is a writer that tells when what was written holds a text.
type waitFor struct {
	text  string
	found chan struct{}
	seen  bytes.Buffer
	once  bool
}

func (w *waitFor) Write(p []byte) (int, error) {
	w.seen.Write(p)
	if !w.once && strings.Contains(w.seen.String(), w.text) {
		w.once = true
		close(w.found)
	}
	return len(p), nil
}

func testAppend(t *testing.T, system *woods, at string) {
	system.must("put", localFile(t, []byte("one\n")), at+"/f")
	require.Zero(t, system.run("two\n", "append", "-", at+"/f").code)
	system.must("append", localFile(t, []byte("three\n")), localFile(t, []byte("four\n")), at+"/f")
	require.Equal(t, "one\ntwo\nthree\nfour\n", system.must("cat", at+"/f"))
	require.Equal(t, exitNotFound, system.run("x", "append", "-", at+"/none").code)
	require.Zero(t, system.run("x", "append", "--create", "-", at+"/new").code)
	require.Equal(t, "x", system.must("cat", at+"/new"))
	require.Equal(t, exitNotFound, system.run("", "append", "/no/such", at+"/f").code)
	require.Equal(t, exitFailed, system.run("", "append", t.TempDir(), at+"/f").code)
	require.Equal(t, exitFailed, system.run("x", "append", "-", at).code)

	// tail -f sees what a writer has flushed while it still writes.
	environ := []string{"WW_CONFIG=" + filepath.Join(system.directory, "client.yaml")}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	interrupt := func(context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	seen := &waitFor{text: "five\n", found: make(chan struct{})}
	follower := &app{stdin: strings.NewReader(""), stdout: seen, stderr: io.Discard, environ: environ,
		interrupt: interrupt}
	followed := make(chan int, 1)
	go func() {
		defer follower.close()
		followed <- follower.run([]string{"tail", "-f", "--every", "20ms", "-n", "1", at + "/f"})
	}()
	source, sink := io.Pipe()
	appended := make(chan ran, 1)
	go func() { appended <- runWW(t.Context(), source, environ, "append", "-", at+"/f") }()
	_, err := sink.Write([]byte("five\n"))
	require.NoError(t, err)
	select {
	case <-seen.found:
	case r := <-appended:
		t.Fatalf("append ended: %+v", r)
	case <-time.After(20 * time.Second):
		t.Fatal("tail -f does not see flushed bytes")
	}
	require.Contains(t, system.must("stat", at+"/f"), "written by:")
	require.NoError(t, sink.Close())
	require.Zero(t, (<-appended).code)
	cancel()
	require.Equal(t, exitInterrupted, <-followed)
	require.Equal(t, "four\nfive\n", seen.seen.String())
}

func testEnds(t *testing.T, system *woods, at string) {
	var text strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	whole := text.String()
	system.must("put", localFile(t, []byte(whole)), at+"/f")
	system.must("put", localFile(t, []byte("a\nb\nno end")), at+"/g")
	system.must("touch", at+"/empty")
	lines := strings.SplitAfter(whole, "\n")
	lines = lines[:len(lines)-1]
	for _, n := range []int{0, 1, 10, 7000, 30000} {
		k := min(n, len(lines))
		require.Equal(t, strings.Join(lines[:k], ""), system.must("head", "-n", fmt.Sprint(n), at+"/f"))
		require.Equal(t, strings.Join(lines[len(lines)-k:], ""), system.must("tail", "-n", fmt.Sprint(n), at+"/f"))
	}
	require.Equal(t, whole[:70000], system.must("head", "-c", "70000", at+"/f"))
	require.Equal(t, whole[len(whole)-70000:], system.must("tail", "-c", "70000", at+"/f"))
	require.Equal(t, strings.Join(lines[:10], ""), system.must("head", at+"/f"))
	require.Equal(t, "b\nno end", system.must("tail", "-n", "2", at+"/g"))
	require.Equal(t, "a\nb\nno end", system.must("head", "-n", "9", at+"/g"))
	require.Empty(t, system.must("tail", at+"/empty")+system.must("head", at+"/empty"))
	require.Equal(t, exitUsage, system.run("", "head", "-n", "-1", at+"/f").code)
	require.Equal(t, exitUsage, system.run("", "head", "-n", "1", "-c", "1", at+"/f").code)
	require.Equal(t, exitUsage, system.run("", "tail", "-f", at+"/f", at+"/g").code)
}

func testMoves(t *testing.T, system *woods, at string) {
	system.must("put", localFile(t, []byte("1")), at+"/one")
	system.must("put", localFile(t, []byte("2")), at+"/two")
	system.must("mkdir", at+"/d")
	system.must("mv", at+"/one", at+"/uno")
	system.must("mv", at+"/uno", at+"/two", at+"/d")
	require.Equal(t, "two\nuno\n", system.must("ls", at+"/d"))
	result := system.run("", "mv", at+"/d/uno", at+"/d/two")
	require.Equal(t, exitExists, result.code)
	require.Contains(t, result.stderr, "-f")
	system.must("mv", "-f", at+"/d/uno", at+"/d/two")
	require.Equal(t, "1", system.must("cat", at+"/d/two"))
	require.Equal(t, exitNotFound, system.run("", "mv", at+"/none", at+"/x").code)
	require.Equal(t, exitUsage, system.run("", "mv", at+"/d", at+"/d/x").code)

	system.must("cp", at+"/d/two", at+"/copy")
	require.Equal(t, "1", system.must("cat", at+"/copy"))
	require.Equal(t, exitExists, system.run("", "cp", at+"/d/two", at+"/copy").code)
	require.Equal(t, exitFailed, system.run("", "cp", at+"/d", at+"/e").code)
	require.Equal(t, exitUsage, system.run("", "cp", "-r", at+"/d", at+"/d/e").code)
	require.Equal(t, exitUsage, system.run("", "cp", at+"/copy", at+"/copy").code)

	result = system.run("", "rm", at+"/d")
	require.Equal(t, exitFailed, result.code)
	require.Contains(t, result.stderr, "-r")
	require.Equal(t, exitNotFound, system.run("", "rm", at+"/none").code)
	system.must("rm", "-f", at+"/none")
	require.Equal(t, exitUsage, system.run("", "rm", "-r", "/").code)
	result = system.run("", "rm", at+"/none", at+"/copy")
	require.Equal(t, exitNotFound, result.code)
	require.Contains(t, result.stderr, "1 of 2 failed")
	system.must("delete", "-r", at+"/d")
	require.Empty(t, system.must("ls", at))
	system.must("mkdir", at+"/empty")
	system.must("rm", at+"/empty")
}

func testQuestions(t *testing.T, system *woods, at string) {
	system.must("touch", at+"/f")
	system.must("touch", at+"/f", at) // no error, nothing changes
	for _, test := range []struct {
		flag, path string
		code       int
	}{
		{"-e", at + "/f", 0}, {"-f", at + "/f", 0}, {"-d", at + "/f", 1}, {"-e", at + "/none", 1},
		{"-d", at, 0}, {"-f", at, 1},
		{"-e", at + "/f/below", 1}, {"-d", "/", 0},
	} {
		r := system.run("", "test", test.flag, test.path)
		require.Equal(t, ran{code: test.code}, r, "%+v", test)
	}
	require.Equal(t, exitUsage, system.run("", "test", at).code)
	require.Equal(t, exitUsage, system.run("", "test", "-e", "-f", at).code)

	content := localFile(t, bytesOf(3, 2*chunkBytes+100))
	system.must("put", content, at+"/a")
	system.must("put", content, at+"/b")
	system.must("put", localFile(t, bytesOf(4, 2*chunkBytes+100)), at+"/c")
	sums := strings.Fields(system.must("checksum", at+"/a", at+"/b", at+"/c"))
	require.Equal(t, sums[0], sums[2])
	require.NotEqual(t, sums[0], sums[4])

	located := objects(t, system.must("locate", "--json", at+"/a"))
	require.Len(t, located, 3)
	require.Len(t, located[0]["replicas"], 3)
	require.Len(t, objects(t, system.must("locate", "--json", "--offset", fmt.Sprint(chunkBytes),
		"--length", "1", at+"/a")), 1)
	require.Contains(t, system.must("locate", at+"/a"), "3 chunks")
	require.Contains(t, system.must("stat", at+"/a"), "bytes:       131172")
	system.must("setrep", "-w", "2", at+"/a")
	system.must("setrep", "-w", "3", at+"/a")
	require.Contains(t, system.must("admin", "report"), "datanodes: 3 live of 3")
	require.Regexp(t, `\nStatus: healthy\n$`, system.must("admin", "report", "--wait", "healthy"))
	require.Equal(t, exitUsage, system.run("", "admin", "report", "--wait", "missing").code)
	require.Equal(t, exitUsage, system.run("", "admin", "report", "--timeout", "-1s").code)
	system.must("admin", "report", "--timeout", "1m")
	require.Equal(t, "off\n", system.must("admin", "safemode", "get"))
	require.Regexp(t, `^checkpoint of txid \d+, [\d.]+ \w+\n$`, system.must("admin", "checkpoint"))
	require.Regexp(t, `(?m)^checkpoint: txid \d+, .* ago, \d+ records? since$`, system.must("admin", "report"))
	for _, node := range []string{"namenode", "logserver", "log1"} {
		file := filepath.Join(t.TempDir(), "p")
		require.Contains(t, system.must("admin", "profile", node, "cpu", "1s", "-o", file), "go tool pprof")
		profile, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, []byte{0x1f, 0x8b}, profile[:2], "pprof files are gzipped")
	}
	require.Contains(t, system.must("df", "-h"), "total")
	require.Contains(t, system.must("version", "--server"), "datanode")
}

func testListings(t *testing.T, system *woods, at string) {
	system.must("mkdir", "-p", at+"/d/e")
	system.must("put", localFile(t, bytesOf(1, 2000)), at+"/d/f")
	system.must("put", "--replication", "1", localFile(t, bytesOf(1, 3<<20)), at+"/g")
	require.Equal(t, "d/\ng\n", system.must("ls", at))
	require.Equal(t, at+"/d/\n"+at+"/d/e/\n"+at+"/d/f\n"+at+"/g\n", system.must("ls", "-R", at))
	require.Equal(t, at+"/g\n", system.must("ls", at+"/g"))
	require.Equal(t, at+"/\n", system.must("ls", "-d", at))
	require.Equal(t, at+"/d:\ne/\nf\n"+at+"/g\n", system.must("ls", at+"/d", at+"/g"))
	require.Regexp(t, `^d  -              -  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  d/\n-  1        3145728  .*  g\n$`,
		system.must("ls", "-l", at))
	require.Regexp(t, `3\.0 MiB`, system.must("ls", "-l", "-h", at))
	require.Equal(t, exitNotFound, system.run("", "ls", at+"/none").code)
	require.Contains(t, system.must("ls"), strings.TrimPrefix(at, "/")+"/\n")

	require.Regexp(t, `2000 +6000 +1  `+at+`/d\n +3145728 +3145728 +1  `+at+`/g\n +3147728 +3151728 +2  `+at+`\n$`,
		system.must("du", at))
	require.Regexp(t, `3147728 +3151728 +2  `+at+`\n$`, system.must("du", "-s", at))
	require.Contains(t, system.must("du", "-sh", at), "3.0 MiB")
}

func testInterrupted(t *testing.T, system *woods, at string) {
	ctx, cancel := context.WithCancel(t.Context())
	source, sink := io.Pipe()
	ended := make(chan ran, 1)
	environ := []string{"WW_CONFIG=" + filepath.Join(system.directory, "client.yaml")}
	go func() { ended <- runWW(ctx, source, environ, "put", "-", at+"/half") }()
	_, err := sink.Write(bytesOf(1, 3*chunkBytes))
	require.NoError(t, err)
	cancel()
	result := <-ended
	require.NoError(t, sink.Close()) // ends the Read that was left behind
	require.Equal(t, exitInterrupted, result.code)
	require.Equal(t, "ww put: interrupted\n", result.stderr)
	require.Equal(t, exitFailed, system.run("", "test", "-e", at+"/half").code)

	system.must("put", localFile(t, bytesOf(1, 3*chunkBytes)), at+"/whole")
	target := t.TempDir()
	result = runWW(ctx, strings.NewReader(""), environ, "get", at+"/whole", filepath.Join(target, "x"))
	require.Equal(t, exitInterrupted, result.code)
	left, err := os.ReadDir(target)
	require.NoError(t, err)
	require.Empty(t, left)
}
