package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

// What is written is read back, whatever form the value had.
func TestEncodedSettingsAreLoaded(t *testing.T) {
	text, err := Encode(map[string]any{
		"namenode.listen": "127.0.0.1:1", "namenode.chunk_size": int64(1 << 20), "namenode.dead_after": 4 * time.Second,
		"namenode.batch_bytes": Size(3 << 20), "namenode.safe_mode_threshold": 0.5, "namenode.batch_records": "77",
		"datanode.disks": []string{"/a b", "c: #d"}, "datanode.namenodes": "h:1, i:2", "logserver.id": "8",
	})
	require.NoError(t, err)
	loaded, err := Load(Source{File: write(t, string(text))})
	require.NoError(t, err)
	want := Default()
	want.Namenode.Listen, want.Namenode.ChunkSize, want.Namenode.DeadAfter = "127.0.0.1:1", 1<<20,
		Duration(4*time.Second)
	want.Namenode.BatchBytes, want.Namenode.SafeModeThreshold, want.Namenode.BatchRecords = 3<<20, 0.5, 77
	want.Datanode.Disks, want.Datanode.Namenodes = []string{"/a b", "c: #d"}, []string{"h:1", "i:2"}
	want.Logserver.ID = "8"
	require.Equal(t, want, loaded.Config)
}

func TestOnlySettingsAreEncoded(t *testing.T) {
	for key, value := range map[string]any{
		"namenode.lisen": "x", "namenode": "x", "namenode.dead_after": "5", "namenode.listen": []string{"x"},
		"client.parallel_chunks": "many",
	} {
		_, err := Encode(map[string]any{key: value})
		require.ErrorIs(t, err, fault.Invalid, key)
		require.ErrorContains(t, err, key)
	}
}
