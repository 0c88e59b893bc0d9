package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ww.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := Load(Source{})
	require.NoError(t, err)
	require.Empty(t, c.Origin)
	require.Equal(t, Default(), c.Config)
	require.NoError(t, c.Log.Validate())
	require.NoError(t, c.Namenode.Validate())
	require.NoError(t, c.Client.Validate())
	c.Mini.Dir, c.Logserver.Dir, c.Datanode.Disks = "d", "d", []string{"d"}
	require.NoError(t, c.Mini.Validate())
	require.NoError(t, c.Logserver.Validate())
	require.NoError(t, c.Datanode.Validate())
}

func TestLaterSourcesWin(t *testing.T) {
	file := write(t, "mini:\n  dir: /from/file\n  listen: 127.0.0.1:1\n  chunk_size: 128KiB\nlog: {level: debug}\n")
	c, err := Load(Source{
		File: file,
		Environ: []string{"HOME=/x", "WW_MINI_LISTEN=127.0.0.1:2", "WW_MINI_CHUNK_SIZE=1MiB", "WW_NAMENODE=a:1, b:2",
			"WW_CONFIG=ignored"},
		Flags: map[string]string{"mini.chunk_size": "256KiB"},
	})
	require.NoError(t, err)
	require.Equal(t, "/from/file", c.Mini.Dir)
	require.Equal(t, "127.0.0.1:2", c.Mini.Listen)
	require.Equal(t, Size(256<<10), c.Mini.ChunkSize)
	require.Equal(t, []string{"a:1", "b:2"}, c.Client.Namenodes)
	require.Equal(t, "debug", c.Log.Level)
	require.Equal(t, map[string]string{
		"mini.dir": "file " + file + ":2", "mini.listen": "WW_MINI_LISTEN", "mini.chunk_size": "flag --chunk-size",
		"client.namenodes": "WW_NAMENODE", "log.level": "file " + file + ":5",
	}, c.Origin)
}

func TestListsAndSpans(t *testing.T) {
	c, err := Load(Source{File: write(t,
		"datanode:\n  disks: [/a, /b]\n  trash_delay: 1m30s\n  reserve: 2 GB\n  namenodes: h:1,i:2\nclient:\n")})
	require.NoError(t, err)
	require.Equal(t, []string{"/a", "/b"}, c.Datanode.Disks)
	require.Equal(t, []string{"h:1", "i:2"}, c.Datanode.Namenodes)
	require.Equal(t, Duration(90*time.Second), c.Datanode.TrashDelay)
	require.Equal(t, Size(2e9), c.Datanode.Reserve)
}

func TestBadInputIsRefusedWithItsPlace(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown key": {"# hello\ndatanode:\n  trash_dely: 1s\n",
			`line 3: unknown key "datanode.trash_dely" — did you mean "datanode.trash_delay"?`},
		"far key": {"log: {zzzzzzzzzzzzzzzz: 1}\n", "known: log.format, log.level"},
		"unknown section": {"datanod:\n  listen: x\n",
			`line 1: unknown section "datanod" — did you mean "datanode"?`},
		"not a section":      {"client: 7\n", `line 1: section "client" wants keys`},
		"a list":             {"- a\n", "line 1: wants sections"},
		"bare duration":      {"client: {timeout: 5}\n", `client.timeout (file `},
		"bad size":           {"mini: {chunk_size: lots}\n", `"lots" is not a size`},
		"map for a text":     {"mini: {dir: {a: b}}\n", "wants one value"},
		"list for a text":    {"mini: {dir: [a]}\n", "wants one value"},
		"map in a list":      {"datanode: {disks: [{a: b}]}\n", "wants a list of texts"},
		"nothing":            {"mini: {dir: }\n", "has no value"},
		"bad number":         {"mini: {datanodes: 2.5}\n", `"2.5" is not a whole number`},
		"not YAML":           {"mini: {dir: \n", "is not valid YAML"},
		"the same key twice": {"mini:\n  dir: a\n  dir: b\n", "already"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, test.text)
			_, err := Load(Source{File: path})
			require.ErrorIs(t, err, fault.Invalid)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, path)
		})
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	_, err := Load(Source{File: filepath.Join(t.TempDir(), "none.yaml")})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = Load(Source{File: t.TempDir()})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = Load(Source{File: write(t, string(make([]byte, fileBytesMax+1)))})
	require.ErrorContains(t, err, "more than")
}

func TestUnknownVariables(t *testing.T) {
	_, err := Load(Source{Environ: []string{"WW_DATANODE_LISTN=x"}})
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, `did you mean "WW_DATANODE_LISTEN"?`)
	_, err = Load(Source{Environ: []string{"WW_OTHER=x", "WW_TESTING_SEED=1"}})
	require.NoError(t, err)
}

func TestValidateNamesEverythingThatIsWrong(t *testing.T) {
	err := Mini{Listen: "nonsense", Datanodes: 0, ChunkSize: 1000}.Validate()
	require.ErrorIs(t, err, fault.Invalid)
	for _, key := range []string{"mini.dir", "mini.listen", "mini.datanodes", "mini.chunk_size"} {
		require.ErrorContains(t, err, key)
	}
	require.ErrorContains(t, Mini{Dir: "d", Listen: "a:0", Datanodes: 2, Replication: 3,
		ChunkSize: 64 << 10}.Validate(), "more than the 2 datanodes")
	require.ErrorContains(t, Datanode{Listen: "a:1", Disks: []string{"x", "x"}, Namenodes: []string{"n"}}.Validate(),
		"named twice")
	require.ErrorContains(t, Logserver{ID: "l", Dir: "d", Listen: "a:1", RaftListen: "a:70000",
		Peers: []string{"b", "c=h:1"}}.Validate(), "id=RAFT/GRPC")
	require.NoError(t, Logserver{ID: "l", Dir: "d", Listen: "a:1", Peers: []string{"b=h:1/h:2"}, RaftListen: "a:2",
		Connections: 16}.Validate())
	require.ErrorContains(t, Mini{Dir: "d", Listen: ":7700", Datanodes: 1, ChunkSize: 64 << 10}.Validate(),
		"mini.advertise")
	require.ErrorContains(t, Datanode{Listen: "0.0.0.0:1", Disks: []string{"x"}, Namenodes: []string{"n:1"}}.Validate(),
		"datanode.advertise")
	named := Default().Namenode
	named.ID = strings.Repeat("n", 65)
	require.ErrorContains(t, named.Validate(), "namenode.id: has 65 bytes")
	runtime := Default().Datanode
	runtime.Disks, runtime.AdminListen, runtime.GCPercent, runtime.MemoryLimit = []string{"x"}, "nowhere", 5, 1<<20
	for _, key := range []string{"datanode.admin_listen", "datanode.gc_percent", "datanode.memory_limit"} {
		require.ErrorContains(t, runtime.Validate(), key)
	}
	runtime.AdminListen, runtime.GCPercent, runtime.MemoryLimit = "", 0, 0
	require.NoError(t, runtime.Validate())
	runtime.MemoryLimit = runtime.Budget + 64<<20 - 1
	require.ErrorContains(t, runtime.Validate(), "datanode.memory_limit")
	runtime.MemoryLimit++
	require.NoError(t, runtime.Validate())
	for _, count := range []int{0, 15, 65_537} {
		c := Default()
		c.Logserver.Connections, c.Namenode.Connections, c.Datanode.Connections = count, count, count
		require.ErrorContains(t, c.Logserver.Validate(), "logserver.connections")
		require.ErrorContains(t, c.Namenode.Validate(), "namenode.connections")
		require.ErrorContains(t, c.Datanode.Validate(), "datanode.connections")
	}
	disks := Default().Datanode
	disks.Disks, disks.ErrorsMax, disks.HangAfter = []string{"x"}, 0, Duration(time.Second)
	for _, key := range []string{"datanode.disk_errors_max", "datanode.disk_hang_after"} {
		require.ErrorContains(t, disks.Validate(), key)
	}
	disks.ErrorsMax, disks.HangAfter = 1, Duration(5*time.Second)
	require.NoError(t, disks.Validate())
	batches := Default().Namenode
	require.NoError(t, batches.Validate())
	batches.BatchRecords, batches.BatchBytes, batches.BatchesInFlight = 0, 1<<20, 65
	for _, key := range []string{"namenode.batch_records", "namenode.batch_bytes", "namenode.batches_in_flight"} {
		require.ErrorContains(t, batches.Validate(), key)
	}
	checkpoints := Default().Namenode
	checkpoints.CheckpointRecords, checkpoints.CheckpointBytes, checkpoints.CheckpointEvery = 0, 0, 0
	for _, key := range []string{"namenode.checkpoint_records", "namenode.checkpoint_bytes",
		"namenode.checkpoint_interval"} {
		require.ErrorContains(t, checkpoints.Validate(), key)
	}
	require.ErrorContains(t, Log{Level: "loud", Format: "auto"}.Validate(), "loud")
}

func TestSizesRoundTrip(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "4096": 4096, "64MiB": 64 << 20, "1.5 GiB": 3 << 29, "2kb": 2000,
		"7B": 7, "1M": 1 << 20} {
		got, err := ParseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := ParseSize(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for _, text := range []string{"", "MiB", "-1", "1.3B", "1XB", "99999999TiB", "1 2"} {
		_, err := ParseSize(text)
		require.Error(t, err, text)
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	seen := map[string]string{}
	for _, f := range Fields("") {
		require.NotEmpty(t, f.Usage, f.Key)
		require.Empty(t, seen[f.Env], "%s and %s share a variable", f.Key, seen[f.Env])
		seen[f.Env] = f.Key
	}
}
