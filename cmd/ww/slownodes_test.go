package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
)

func TestSlowNodesSayWhatBytesWaitFor(t *testing.T) {
	r := record{}
	addSlow(r, nil)
	require.Empty(t, r)
	addSlow(r, []client.SlowNode{{NodeID: "a", Address: "h:1", BytesPerSecond: 9.5e5, Link: true}, {NodeID: "b"}})
	require.Equal(t, []record{
		{"node": "a", "address": "h:1", "bytes_per_second": int64(950_000), "waits_for": "link"},
		{"node": "b", "address": "", "bytes_per_second": int64(0), "waits_for": "disk"},
	}, r["slow_nodes"])
}
