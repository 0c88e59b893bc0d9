// Package rpc is there.
package rpc
