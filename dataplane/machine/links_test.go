package machine

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/datanode"
)

// A neighbour keeps its place as long as it acks, so that what is measured of it adds up.
func TestSoManyLinksAreMeasured(t *testing.T) {
	node := &Node{}
	for i := range datanode.LinksMax {
		node.links.note(strconv.Itoa(i), time.Millisecond, 0)
	}
	node.links.note("another", time.Millisecond, linkIdleMax)
	require.Len(t, node.Links(), datanode.LinksMax)
	require.NotContains(t, node.Links(), datanode.Link{NodeID: "another"})
	node.links.note("0", time.Millisecond, linkIdleMax)
	node.links.note("another", 3*time.Millisecond, 2*linkIdleMax)
	require.Len(t, node.Links(), datanode.LinksMax)
	for _, link := range node.Links() {
		switch link.NodeID {
		case "0":
			require.Equal(t, 2*time.Millisecond, link.Acks.Late)
		case "1":
			t.Fatal("it was idle for longest")
		case "another":
			require.EqualValues(t, 1, link.Acks.Operations)
			require.Equal(t, 3*time.Millisecond, link.Acks.Late)
		}
	}
}
