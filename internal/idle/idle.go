// Package idle keeps connections that are between two uses. It runs no
// goroutine, takes no lock and closes nothing: its owner does.
package idle

import (
	"slices"

	"golang.org/x/sys/unix"
)

// emptyMax is how many lists without a connection keep their memory, so that a
// connection which is used again and again costs no allocation.
const emptyMax = 64

// Connections are idle ones by the address that they lead to. Of one address the newest is used first, so that the
// others grow old and can be dropped. One goroutine at a time may use it.
type Connections[C comparable] struct {
	byAddress map[string][]C // the newest last
	count     int            // sum of the lists' lengths
	empty     int            // lists of length 0, <= emptyMax; Expire drops them
}

// Len is the number of connections.
func (c *Connections[C]) Len() int { return c.count }

// LenOf is the number of connections to an address.
func (c *Connections[C]) LenOf(address string) int { return len(c.byAddress[address]) }

// Put adds a connection on which nothing is under way.
func (c *Connections[C]) Put(address string, connection C) {
	if c.byAddress == nil {
		c.byAddress = make(map[string][]C)
	}
	list, listed := c.byAddress[address]
	if listed && len(list) == 0 {
		c.empty--
	}
	c.byAddress[address] = append(list, connection)
	c.count++
}

// Take removes the newest connection to an address; false if there is none.
func (c *Connections[C]) Take(address string) (connection C, ok bool) {
	list := c.byAddress[address]
	if len(list) == 0 {
		return connection, false
	}
	connection = list[len(list)-1]
	c.cut(address, len(list)-1, len(list))
	return connection, true
}

// Remove removes a connection, if it is there.
func (c *Connections[C]) Remove(address string, connection C) {
	if i := slices.Index(c.byAddress[address], connection); i >= 0 {
		c.cut(address, i, i+1)
	}
}

// Expire removes and returns the connections that are old: of each address the
// oldest ones, up to the first that is not.
func (c *Connections[C]) Expire(old func(C) bool) []C {
	var expired []C
	for address, list := range c.byAddress {
		count := slices.IndexFunc(list, func(connection C) bool { return !old(connection) })
		if count < 0 {
			count = len(list)
		}
		expired = append(expired, list[:count]...)
		if count == len(list) {
			delete(c.byAddress, address)
			c.count -= count
		} else {
			c.cut(address, 0, count)
		}
	}
	c.empty = 0
	return expired
}

// cut removes a part of a list that is not empty.
func (c *Connections[C]) cut(address string, from, to int) {
	rest := slices.Delete(c.byAddress[address], from, to)
	c.count -= to - from
	switch {
	case len(rest) > 0:
		c.byAddress[address] = rest
	case c.empty < emptyMax:
		c.byAddress[address] = rest
		c.empty++
	default:
		delete(c.byAddress, address)
	}
}

// Silent reports whether a socket is open and nothing has come on it: bytes or an
// end that wait make an idle connection useless. It does not block.
func Silent(descriptor int) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(descriptor, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN
}
