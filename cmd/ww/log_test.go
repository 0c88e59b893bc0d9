package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLogVerbs checks and lists the log of a cluster that has ended, with
// checkpoints and with a damaged one.
func TestLogVerbs(t *testing.T) {
	system := &woods{t: t, directory: t.TempDir()}
	d := system.start(1)
	system.must("mkdir", "/a")
	system.must("admin", "checkpoint")
	log := logDirectory(t, system.directory)
	require.Equal(t, exitUnavailable, system.run("", "log", "verify", log).code, "it is in use")
	system.stop(d)

	require.Regexp(t, `(?s)^log: txids 1 to \d+ in 1 file, epoch 1\ncheckpoint \d{20}\.checkpoint: .*, good\n$`,
		system.must("log", "verify", log))
	o := objects(t, system.must("--json", "log", "verify", log))
	require.Equal(t, "log", o[0]["type"])
	require.Len(t, o[0]["checkpoints"], 1)
	require.Regexp(t, `(?m)^\d+  epoch 1  acquired by `, system.must("log", "dump", log))
	require.Regexp(t, `(?m)^\d+  epoch 1  txid 1  \d+ records?, \d+ bytes$`, system.must("log", "dump", log))
	require.NotEmpty(t, objects(t, system.must("--json", "log", "dump", log)))

	files, err := filepath.Glob(filepath.Join(log, "checkpoints", "*"))
	require.NoError(t, err)
	b, err := os.ReadFile(files[0])
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(files[0], b, 0o600))
	r := system.run("", "log", "verify", log)
	require.Equal(t, exitCorrupt, r.code, r.stderr)
	require.Contains(t, r.stdout, "damaged")
	require.Equal(t, exitNotFound, system.run("", "log", "verify", t.TempDir()).code)
	require.Equal(t, exitUsage, system.run("", "log", "verify").code)
	require.Equal(t, exitUsage, system.run("", "log", "mend").code)
}

// logDirectory finds the log below a mini cluster's directory.
func logDirectory(t *testing.T, directory string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(directory, "*", "node.json"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return filepath.Dir(found[0])
}
