package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestADatanodeIsFoundByWhatPeopleCallIt(t *testing.T) {
	nodes := []client.NodeStatus{
		{NodeID: "0192aaaa", Name: "dn1", Address: "h1:7720"},
		{NodeID: "0192bbbb", Name: "h2:7720", Address: "h2:7720"},
		{NodeID: "0193cccc", Name: "twin", Address: "h3:7720"},
		{NodeID: "dn1dddd", Name: "twin", Address: "h4:7720"},
	}
	for name, id := range map[string]string{"dn1": "0192aaaa", "h1:7720": "0192aaaa", "h2:7720": "0192bbbb",
		"0193": "0193cccc", "0192aaaa": "0192aaaa", "dn1d": "dn1dddd"} {
		n, err := findNode(nodes, name)
		require.NoError(t, err, name)
		require.Equal(t, id, n.NodeID, name)
	}
	for name, kind := range map[string]fault.Kind{"nobody": fault.NotFound, "": fault.Invalid, "0192": fault.Invalid,
		"twin": fault.Invalid} {
		_, err := findNode(nodes, name)
		require.Equal(t, kind, fault.KindOf(err), name)
	}
}
