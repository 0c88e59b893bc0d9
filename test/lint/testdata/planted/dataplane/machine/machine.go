// Package machine is a protocol that is not pure.
package machine

import (
	"net"
	"time"
)

func Receive(conn net.Conn) {
	_ = conn.SetDeadline(time.Now())
}
