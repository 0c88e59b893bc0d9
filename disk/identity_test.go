package disk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

func goldenIdentity() volumeIdentity {
	return volumeIdentity{Version: 1, NodeID: "n1", VolumeID: "v1", ClusterID: "c1", HighestEpoch: 7, HighestTxid: 99}
}

func TestGoldenIdentity(t *testing.T) {
	require.Equal(t, goldenIdentityText, string(goldenIdentity().encode()), "version 1 is still read")
	second := goldenIdentity()
	second.Version = 2
	second.Volumes = []volumeRecord{{VolumeID: "v1", Directory: "/disk/a", MountPoint: true},
		{VolumeID: "v2", Directory: "/b"}}
	require.Equal(t, goldenIdentitySecond, string(second.encode()))
	got, err := parseIdentity([]byte(goldenIdentitySecond))
	require.NoError(t, err)
	require.Equal(t, second.Volumes, got.Volumes)
}

func TestIdentityIsRefused(t *testing.T) {
	good := goldenIdentity().encode()
	got, err := parseIdentity(good)
	require.NoError(t, err)
	got.Sum = ""
	require.Equal(t, goldenIdentity(), got)
	for at := range len(good) - 1 {
		bad := append([]byte(nil), good...)
		bad[at] ^= 1
		if same, err := parseIdentity(bad); err == nil {
			same.Sum = ""
			require.Equal(t, goldenIdentity(), same, "byte %d", at)
		}
	}
	future := goldenIdentity()
	future.Version = identityVersionChanged + 1
	_, err = parseIdentity(future.encode())
	require.ErrorIs(t, err, fault.Version)
	nobody := goldenIdentity()
	nobody.NodeID = ""
	_, err = parseIdentity(nobody.encode())
	require.ErrorIs(t, err, fault.CorruptData)
}

func FuzzIdentity(f *testing.F) {
	f.Add(goldenIdentity().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseIdentity(b)
		if err != nil {
			return
		}
		back, err := parseIdentity(v.encode())
		require.NoError(t, err)
		require.Equal(t, v, back)
	})
}

const goldenIdentitySecond = "{\n  \"version\": 2,\n  \"node_id\": \"n1\",\n  \"volume_id\": \"v1\",\n  " +
	"\"cluster_id\": \"c1\",\n  \"highest_epoch\": 7,\n  \"highest_txid\": 99,\n  \"volumes\": [\n    {\n      " +
	"\"volume_id\": \"v1\",\n      \"directory\": \"/disk/a\",\n      \"mount_point\": true\n    },\n    {\n      " +
	"\"volume_id\": \"v2\",\n      \"directory\": \"/b\",\n      \"mount_point\": false\n    }\n  ],\n  " +
	"\"sum\": \"e11990ea26ca6183\"\n}\n"

const goldenIdentityText = "{\n  \"version\": 1,\n  \"node_id\": \"n1\",\n  \"volume_id\": \"v1\",\n  " +
	"\"cluster_id\": \"c1\",\n  \"highest_epoch\": 7,\n  \"highest_txid\": 99,\n  \"sum\": \"b4757de112a0320e\"\n}\n"
