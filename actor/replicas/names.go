package replicas

import "github.com/whispering-woods/ww/internal/datanode"

// Names are what people call datanodes. They are durable: one that is away is known by its name too.
type Names struct{ room *Replicas }

// Of returns a node's name; "" if it has none.
func (n *Names) Of(node datanode.Index) string { return n.room.Nodes.at(node).named() }

// Set changes it.
func (n *Names) Set(node datanode.Index, name string) { n.room.Nodes.at(node).rename(name) }

// All yields the nodes that have names, by index.
func (n *Names) All(yield func(datanode.Index, string) bool) {
	for _, peer := range n.room.Nodes.withForgotten() {
		if name := peer.named(); name != "" && !yield(peer.index, name) {
			return
		}
	}
}
