package record

import "strings"

// holderPrefix begins the name under which an appender holds a file's lease.
const holderPrefix = "appender:"

// HolderName is the name under which the appender of a datanode holds the leases of its files. Clients find the
// appender by it, and the namenode ends the lease of one whose node is gone.
func HolderName(nodeID, address string) string { return holderPrefix + nodeID + "@" + address }

// ParseHolder finds the appender's node id and data address in the name of a
// lease holder; false if the holder is no appender.
func ParseHolder(name string) (nodeID, address string, ok bool) {
	name, ok = strings.CutPrefix(name, holderPrefix)
	if !ok {
		return "", "", false
	}
	nodeID, address, ok = strings.Cut(name, "@")
	if !ok || nodeID == "" || address == "" {
		return "", "", false
	}
	return nodeID, address, true
}
