package daemon

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/replicas/placement"
	"github.com/whispering-woods/ww/daemon/config"
)

// Three datanodes in two racks: of the two copies of every chunk one is where the
// lonely node is, unless the configuration chooses a policy that ignores racks.
func TestCopiesAreSpreadOverRacks(t *testing.T) {
	for policy, spread := range map[string]bool{"": true, "rack-spread": true, "round-robin": false} {
		t.Run("policy "+policy, func(t *testing.T) {
			namenode := startNamespace(t, func(n *config.Namenode) {
				n.Replication, n.ChunkSize, n.Placement = 2, 64<<10, policy
			})
			racks := make(map[string]string) // by data address
			for _, rack := range []string{"/r1", "/r1", "/r2"} {
				d, _ := startEmptyDatanode(t, namenode, func(c *config.Datanode) { c.Rack = rack })
				racks[d.Address("data")] = rack
			}
			c := dialNamenode(t, namenode)
			const chunks = 12
			write(t, c, "/f", strings.Repeat("x", chunks*64<<10))
			locations, err := c.Locate(t.Context(), "/f", 0, -1)
			require.NoError(t, err)
			require.Len(t, locations, chunks)
			count := 0
			for _, at := range locations {
				require.Len(t, at.Replicas, 2)
				if racks[at.Replicas[0].Address] != racks[at.Replicas[1].Address] {
					count++
				}
			}
			if spread {
				require.Equal(t, chunks, count, "chunks in both racks")
			} else {
				require.Less(t, count, chunks, "chunks in both racks")
			}
		})
	}
}

// Every policy and every read order can be chosen, and is named where people look for it.
func TestEveryPlacementPolicyCanBeChosen(t *testing.T) {
	usage := func(field string) string {
		described, found := reflect.TypeFor[config.Namenode]().FieldByName(field)
		require.True(t, found)
		return described.Tag.Get("usage")
	}
	guide, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	for field, names := range map[string][]string{"Placement": placement.Names(), "ReadOrder": placement.ReadOrders()} {
		for _, name := range append(names, "", "nowhere") {
			section := config.Default().Namenode
			reflect.ValueOf(&section).Elem().FieldByName(field).SetString(name)
			_, err := newNamenodeOptions(section)
			if name == "nowhere" {
				require.ErrorContains(t, err, strings.Join(names, ", "))
				continue
			}
			require.NoError(t, err, name)
			require.Contains(t, usage(field), name)
			require.Contains(t, string(guide), "`"+name+"`")
		}
	}
}
