package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTruncateCopyAndLimits cuts, copies and appends by the command line.
func TestTruncateCopyAndLimits(t *testing.T) {
	w := startWoods(t, 3).in(t)
	w.must("put", "--bandwidth", "100MiB", localFile(t, []byte("one\ntwo\nthree\n")), "/f")
	w.must("truncate", "-s", "8", "/f")
	require.Equal(t, "one\ntwo\n", w.must("cat", "--bandwidth", "1MiB", "/f"))
	o := objects(t, w.must("truncate", "--json", "-s", "4", "/f"))
	require.Equal(t, "truncated", o[0]["type"])
	require.InDelta(t, 4, o[0]["length"], 0)
	w.must("cp", "/f", "/copy")
	r := w.run("four\nfive", "append", "--flush-lines", "-", "/copy")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "one\nfour\nfive", w.must("cat", "/copy"))
	require.Equal(t, exitUsage, w.run("", "truncate", "/f").code)
	require.Equal(t, exitUsage, w.run("", "truncate", "-s", "x", "/f").code)
	require.Equal(t, exitUsage, w.run("", "cat", "--bandwidth", "3", "/f").code)
	require.Equal(t, exitUsage, w.run("", "append", "--flush-lines", localFile(t, nil), "/f").code)
	require.Equal(t, exitNotFound, w.run("", "truncate", "-s", "1", "/none").code)
	require.NotZero(t, w.run("", "truncate", "-s", "1GiB", "/f").code)
}
