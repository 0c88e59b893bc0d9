package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTruncateCopyAndLimits cuts, copies and appends by the command line.
func TestTruncateCopyAndLimits(t *testing.T) {
	system := startWoods(t, 3).in(t)
	system.must("put", "--bandwidth", "100MiB", localFile(t, []byte("one\ntwo\nthree\n")), "/f")
	system.must("truncate", "-s", "8", "/f")
	require.Equal(t, "one\ntwo\n", system.must("cat", "--bandwidth", "1MiB", "/f"))
	o := objects(t, system.must("truncate", "--json", "-s", "4", "/f"))
	require.Equal(t, "truncated", o[0]["type"])
	require.InDelta(t, 4, o[0]["length"], 0)
	system.must("cp", "/f", "/copy")
	r := system.run("four\nfive", "append", "--flush-lines", "-", "/copy")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "one\nfour\nfive", system.must("cat", "/copy"))
	require.Equal(t, exitUsage, system.run("", "truncate", "/f").code)
	require.Equal(t, exitUsage, system.run("", "truncate", "-s", "x", "/f").code)
	require.Equal(t, exitUsage, system.run("", "cat", "--bandwidth", "3", "/f").code)
	require.Equal(t, exitUsage, system.run("", "append", "--flush-lines", localFile(t, nil), "/f").code)
	require.Equal(t, exitNotFound, system.run("", "truncate", "-s", "1", "/none").code)
	require.NotZero(t, system.run("", "truncate", "-s", "1GiB", "/f").code)
}
