package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken below the range that Linux gives to outgoing connections
// (32768 and up), so that no connection takes a daemon's port while it is down.
const (
	portFirst = 20000
	portLast  = 32000
)

// freePorts finds distinct ports of 127.0.0.1 on which nothing listens.
func freePorts(count int) ([]int, error) {
	var ports []int
	taken := map[int]bool{}
	for range 100 * count {
		port := portFirst + rand.IntN(portLast-portFirst)
		if taken[port] {
			continue
		}
		listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return nil, fmt.Errorf("find free ports: %w", err)
		}
		taken[port] = true
		if ports = append(ports, port); len(ports) == count {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("find free ports: %d of %d", len(ports), count)
}
