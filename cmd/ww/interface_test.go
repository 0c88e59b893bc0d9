package main

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// testJSON holds the keys of every verb's objects: they are an interface.
func testJSON(t *testing.T, system *woods, at string) {
	local := localFile(t, []byte("hello\n"))
	system.must("mkdir", at+"/d")
	for _, test := range []struct {
		args []string
		want []string // "type: keys"
	}{
		{[]string{"put", local, at + "/f"}, []string{"file: bytes seconds source target verb",
			"summary: bytes directories failed files seconds verb"}},
		{[]string{"get", at + "/f", filepath.Join(t.TempDir(), "x")}, []string{"file: bytes seconds source target verb",
			"summary: bytes directories failed files seconds verb"}},
		{[]string{"cp", at + "/f", at + "/g"}, []string{"file: bytes seconds source target verb",
			"summary: bytes directories failed files seconds verb"}},
		{[]string{"append", local, at + "/f"}, []string{"appended: bytes length path seconds"}},
		{[]string{"cat", at + "/f"}, []string{"data: bytes data offset path"}},
		{[]string{"head", at + "/f"}, []string{"data: bytes data offset path"}},
		{[]string{"tail", at + "/f"}, []string{"data: bytes data offset path"}},
		{[]string{"ls", at}, []string{
			"entry: children created directory file_id modified name path",
			"entry: bytes chunk_size created directory file_id modified name open path replication",
			"entry: bytes chunk_size created directory file_id modified name open path replication"}},
		{[]string{"stat", at + "/f"},
			[]string{"entry: bytes chunk_size created directory file_id modified name open path replication"}},
		{[]string{"mv", at + "/g", at + "/h"}, []string{"moved: source target"}},
		{[]string{"touch", at + "/t"}, []string{"touched: created path"}},
		{[]string{"mkdir", at + "/e"}, []string{"directory: path"}},
		{[]string{"rm", at + "/t"}, []string{"removed: bytes directories files path trash_path trashed"}},
		{[]string{"du", "-s", at}, []string{"usage: bytes chunks directories files path stored_bytes"}},
		{[]string{"df"}, []string{
			"node_space: address capacity_bytes free_bytes node used_bytes",
			"node_space: address capacity_bytes free_bytes node used_bytes",
			"node_space: address capacity_bytes free_bytes node used_bytes",
			"total_space: address capacity_bytes free_bytes node used_bytes"}},
		{[]string{"test", "-e", at}, []string{"answer: answer path"}},
		{[]string{"checksum", at + "/f"}, []string{"checksum: checksum path"}},
		{[]string{"locate", at + "/f"}, []string{"chunk: bytes chunk generation index offset open path replicas"}},
		{[]string{"admin", "safemode", "get"}, []string{"safe_mode: reason safe_mode"}},
		{[]string{"admin", "report"},
			[]string{"cluster: admin_address checkpoint chunks cluster_id copies_running copies_waiting " +
				"corrupt_replicas counting default_chunk_size default_replication directories epoch files " +
				"leaving_chunks log_servers missing_chunks namenode nodes open_files safe_mode safe_mode_reason " +
				"scrub server_version status txid unconfirmed_chunks under_replicated_chunks unreported_nodes"}},
		{[]string{"admin", "disk", "list"}, []string{
			diskKeys, diskKeys, diskKeys}},
		{[]string{"fsck", at}, []string{
			"fsck: bytes chunks_by_status directories files files_by_status path status"}},
		{[]string{"why", at + "/f"}, []string{"explained: chunks explained path status"}},
		{[]string{"admin", "node", "list"}, []string{nodeKeys, nodeKeys, nodeKeys}},
		{[]string{"admin", "repair"}, []string{"repair: arrived_bytes arrived_chunks away_chunks bandwidth " +
			"bytes_per_second chunks_per_second copies counting examined_chunks leaving_chunks left_seconds " +
			"missing_chunks node_streams paused queue reasons running streams waiting"}},
		{[]string{"admin", "balance", "--dry-run"}, []string{"balance: bandwidth bytes_per_second ended even " +
			"failed_copies left_bytes mean_percent more moved_bytes moved_chunks moves moving nodes paused running " +
			"running_seconds threshold"}},
		{[]string{"admin", "checkpoint"}, []string{"checkpoint: bytes txid"}},
		{[]string{"admin", "profile", "namenode", "heap", "-o", filepath.Join(t.TempDir(), "heap")},
			[]string{"profile: address bytes file kind node read_with"}},
		{[]string{"version", "--server"}, []string{"version: architecture datanodes go namenode os ww"}},
		{[]string{"completion", "bash"}, []string{"script: script shell"}},
	} {
		r := system.run("", append([]string{"--json"}, test.args...)...)
		require.Zero(t, r.code, "%q: %s", test.args, r.stderr)
		require.Empty(t, r.stderr, "%q", test.args)
		var got []string
		for _, o := range objects(t, r.stdout) {
			delete(o, "revision") // only of a build from a repository
			kind := o["type"]
			delete(o, "type")
			delete(o, "version")
			keys := []string{}
			for k := range o {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			got = append(got, fmt.Sprintf("%s: %s", kind, strings.Join(keys, " ")))
		}
		require.Equal(t, test.want, got, "%q", test.args)
	}
	r := system.run("", "--json", "cat", at+"/none")
	require.Equal(t, exitNotFound, r.code)
	require.Empty(t, r.stdout)
	require.Equal(t, "error", objects(t, r.stderr)[0]["type"])
	r = system.run("", "cat", "--no-such-flag", "--json")
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, "error", objects(t, r.stderr)[0]["type"], "also for an error in the flags")
}

// diskKeys and nodeKeys are those of a disk and a datanode in JSON.
const diskKeys = "disk: address busy capacity_bytes directory disk error errors free_bytes live name node replicas " +
	"reserve_bytes scrub since state used_bytes"

const nodeKeys = "node: active_reads active_writes address admin_address capacity_bytes cpu disk_stalled duty " +
	"duty_done duty_since duty_until free_bytes last_heartbeat_seconds live name needed_chunks needed_open_chunks " +
	"node rack " +
	"received_bytes_per_second registrations replicas sent_bytes_per_second server_version slow_reason slow_seconds " +
	"state used_bytes"

func testShell(t *testing.T, system *woods, at string) {
	local := localFile(t, []byte("hello\n"))
	script := strings.Join([]string{
		"# a comment", "", "cd " + at, "pwd", "mkdir 'a b'", "put " + local + ` "a b/x y"`, "cat a\\ b/x\\ y",
		"cd a\\ b", "ls", "cd ..", "ls",
		"cat none", "ls --json a\\ b", "nonsense", "cd none", "pwd",
	}, "\n")
	r := system.run(script, "shell")
	require.Zero(t, r.code, "the last verb went well: %s", r.stderr)
	require.Contains(t, r.stdout, at+"\nhello\nx y\na b/\n{")
	require.True(t, strings.HasSuffix(r.stdout, at+"\n"), r.stdout)
	require.Contains(t, r.stderr, `ww cat: "`+at+`/none"`)
	require.Contains(t, r.stderr, `no verb "nonsense"`)
	require.Contains(t, r.stderr, `ww cd: "`+at+`/none"`)
	require.Equal(t, exitNotFound, system.run("ls "+at+"\ncat "+at+"/none\n", "shell").code)
	require.Equal(t, exitOK, system.run("exit\ncat "+at+"/none\n", "shell").code)
	require.Equal(t, exitUsage, system.run("cat 'x", "shell").code)
	require.Equal(t, exitUsage, system.run("mini --dir /x", "shell").code, "no daemons at the prompt")
	require.NotEmpty(t, objects(t, system.run("pwd\nstat "+at+"\n", "shell", "--json").stdout),
		"flags of the shell hold for its verbs")
}

func testCompletion(t *testing.T, system *woods, at string) {
	system.must("mkdir", "-p", at+"/dir one", at+"/other")
	system.must("touch", at+"/dir two")
	complete := func(args ...string) []string {
		out := system.must(append([]string{"__complete"}, args...)...)
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		return lines[:len(lines)-1] // the last one is the directive
	}
	require.Equal(t, []string{at + "/dir one/", at + "/dir two"}, complete("cat", at+"/d"))
	require.Equal(t, []string{at + "/other/"}, complete("get", at+"/o"))
	require.Empty(t, complete("put", at+"/o"), "the first argument is a local file")
	require.Equal(t, []string{at + "/other/"}, complete("put", "x", at+"/o"))
	require.Contains(t, strings.Join(complete("m"), " "), "mkdir")

	program := &app{environ: []string{"WW_CONFIG=" + filepath.Join(system.directory, "client.yaml")},
		shell: true, directory: at}
	defer program.close()
	program.global.values = map[string]string{}
	head, found, tail := program.completeLine("cat dir rest", 7)
	require.Equal(t, []any{"cat ", []string{`dir\ one/`, `dir\ two`}, " rest"}, []any{head, found, tail})
	head, found, _ = program.completeLine(`cat dir\ o`, 10)
	require.Equal(t, []any{"cat ", []string{`dir\ one/`}}, []any{head, found})
	_, found, _ = program.completeLine("chec", 4)
	require.Equal(t, []string{"checksum "}, found)
}

// testBadInput: what people and scripts give by mistake gets a clear error and
// the right code.
func testBadInput(t *testing.T, system *woods, at string) {
	source := localFile(t, []byte("x"))
	for _, test := range []struct {
		what, path, word string
	}{
		{"no name", "", "empty"}, {"a relative path", "file", "begins with /"},
		{"a long name", at + "/" + strings.Repeat("n", 256), "255"}, {"invalid UTF-8", at + "/a\xff", "UTF-8"},
		{"dot dot", at + "/../x", ".."}, {"dot", at + "/./x", "."}, {"NUL", at + "/a\x00b", "NUL"},
		{"a deep path", strings.Repeat("/d", 4097), "4096"},
	} {
		for _, verb := range [][]string{{"put", source, test.path}, {"cat", test.path}, {"mkdir", "-p", test.path},
			{"rm", test.path}, {"stat", test.path}, {"mv", test.path, at + "/y"}} {
			r := system.run("", verb...)
			require.Equal(t, exitUsage, r.code, "%s of %s: %s", verb[0], test.what, r.stderr)
			require.Contains(t, r.stderr, test.word)
			require.True(t, strings.HasPrefix(r.stderr, "ww "+verb[0]+": "), r.stderr)
		}
	}
	for _, test := range []struct {
		args  []string
		code  int
		words []string
	}{
		{[]string{"put", "/no/such/file", at + "/x"}, exitNotFound, []string{"/no/such/file"}},
		{[]string{"put", t.TempDir(), at + "/x"}, exitFailed, []string{"-r"}},
		{[]string{"put", "--replication", "4", source, at + "/x"}, exitUnavailable, []string{"4", "3", "127.0.0.1:"}},
		{[]string{"put", "--replication", "-1", source, at + "/x"}, exitUsage, []string{"replication"}},
		{[]string{"put", "--chunk-size", "1", source, at + "/x"}, exitUsage, []string{"64"}},
		{[]string{"put", "--chunk-size", "lots", source, at + "/x"}, exitUsage, []string{"lots"}},
		{[]string{"put", "--parallel", "0", source, at + "/x"}, exitUsage, []string{"parallel"}},
		{[]string{"put", source}, exitUsage, []string{"2 arguments", "--help"}},
		{[]string{"putt", source}, exitUsage, []string{"putt", "put"}},
		{[]string{"put", "--forse"}, exitUsage, []string{"forse"}},
		{[]string{"get", ""}, exitUsage, []string{"empty"}},
		{[]string{"get", at, ""}, exitUsage, []string{"empty"}},
		{[]string{"admin", "frobnicate"}, exitUsage, []string{"frobnicate"}},
		{[]string{"admin", "disk", "list", "nobody"}, exitNotFound, []string{"nobody", "ww admin node list"}},
		{[]string{"admin", "node", "decommission", "nobody"}, exitNotFound, []string{"nobody", "ww admin node list"}},
		{[]string{"admin", "node", "forget", "nobody"}, exitNotFound, []string{"nobody", "ww admin node list"}},
		{[]string{"admin", "profile", "nobody"}, exitNotFound, []string{"nobody", "ww admin node list"}},
		{[]string{"admin", "profile", "namenode", "speed"}, exitUsage, []string{"speed", "cpu"}},
		{[]string{"admin", "profile", "namenode", "cpu", "10"}, exitUsage, []string{"10s"}},
		{[]string{"admin", "profile", "namenode", "cpu", "3m"}, exitUsage, []string{"2m0s"}},
		{[]string{"admin", "profile", "127.0.0.1:1", "heap", "-o", filepath.Join(source, "x")},
			exitFailed, []string{source}},
		{[]string{"admin", "profile", "127.0.0.1:1", "heap", "-o", filepath.Join(t.TempDir(), "x")}, exitUnavailable,
			[]string{"admin_listen"}},
		{[]string{"admin", "safemode", "maybe"}, exitUsage, []string{"maybe"}},
		{[]string{"admin", "repair", "set"}, exitUsage, []string{"--streams", "--bandwidth"}},
		{[]string{"admin", "balance", "--threshold", "0"}, exitUsage, []string{"--threshold 0"}},
		{[]string{"admin", "balance", "--bandwidth", "0"}, exitUsage, []string{"--bandwidth"}},
		{[]string{"admin", "balance", "--stop", "--dry-run"}, exitUsage, []string{"stop", "dry-run"}},
		{[]string{"admin", "repair", "set", "--streams", "0"}, exitUsage, []string{"--streams 0"}},
		{[]string{"admin", "repair", "set", "--bandwidth", "1KiB"}, exitUsage, []string{"--bandwidth", "64KiB"}},
		{[]string{"--config", "/no/such.yaml", "ls"}, exitUsage, []string{"/no/such.yaml"}},
		{[]string{"--config", localFile(t, []byte("client: {namenode: x}\n")), "ls"}, exitUsage,
			[]string{"client.namenodes"}},
		{[]string{"--namenode", "nonsense", "ls"}, exitUsage, []string{"nonsense", "host:port"}},
		{[]string{"--timeout", "5", "ls"}, exitUsage, []string{"--timeout", "10s"}},
		{[]string{"--log-level", "loud", "ls"}, exitUsage, []string{"loud"}},
		{[]string{"mini"}, exitUsage, []string{"mini.dir", "--dir"}},
		{[]string{"mini", "--dir", t.TempDir(), "--datanodes", "0"}, exitUsage, []string{"mini.datanodes"}},
		{[]string{"datanode"}, exitUsage, []string{"--disk"}},
		{[]string{"mini", "--dir", system.directory}, exitUnavailable, []string{"another process"}},
		{[]string{"mini", "--dir", filepath.Join(source, "x")}, exitFailed, []string{source}},
	} {
		r := system.run("", test.args...)
		require.Equal(t, test.code, r.code, "%q: %s", test.args, r.stderr)
		for _, word := range test.words {
			require.Contains(t, r.stderr, word, "%q", test.args)
		}
		require.Empty(t, r.stdout)
	}
}

// TestWrongAddress: nobody there, or somebody else.
func TestWrongAddress(t *testing.T) {
	gone, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := gone.Addr().String()
	require.NoError(t, gone.Close())
	talker, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := talker.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("220 mail.example ESMTP\r\n")) // the peer may be gone
			_ = conn.Close()
		}
	}()
	for what, address := range map[string]string{"nobody": nobody, "another protocol": talker.Addr().String()} {
		begin := time.Now()
		r := runWW(t.Context(), strings.NewReader(""), nil, "--namenode", address, "--timeout", "1s", "ls", "/")
		require.Equal(t, exitUnavailable, r.code, "%s: %s", what, r.stderr)
		require.Contains(t, r.stderr, address, what)
		require.Less(t, time.Since(begin), 10*time.Second, what)
	}
	require.NoError(t, talker.Close())
	<-served
}

// TestHelp: every verb explains itself, with examples, and a global flag never
// hides a verb's own.
func TestHelp(t *testing.T) {
	root := newRoot(&app{stdin: strings.NewReader(""), global: globalFlags{values: map[string]string{}}})
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Name() != "help" {
			require.NotEmpty(t, cmd.Short, cmd.CommandPath())
			if cmd.Runnable() && cmd.Name() != "admin" {
				require.NotEmpty(t, cmd.Example, cmd.CommandPath())
			}
			r := runWW(t.Context(), strings.NewReader(""), nil,
				append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
			require.Zero(t, r.code, cmd.CommandPath())
			require.Contains(t, r.stdout, "Usage:", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(root)
	r := runWW(t.Context(), strings.NewReader(""), nil)
	require.Zero(t, r.code)
	require.Contains(t, r.stdout, "Exit codes:")
	var parsed map[string]any
	require.NoError(t, json.Unmarshal([]byte(runWW(t.Context(), strings.NewReader(""), nil, "version",
		"--json").stdout), &parsed))
}
