package wire

import "github.com/whispering-woods/ww/internal/limits"

const (
	// WindowCostMin is the window that the smallest Data packet takes, in bytes.
	WindowCostMin = 4 << 10
	// EarlyBytesMax bounds the one Data packet that may follow OpenWrite before its OpenAck has come.
	EarlyBytesMax = limits.WindowBytesMin
)

// WindowCost is how much of the window a Data packet of payloadBytes takes: its payload rounded up to a power of
// two, at least WindowCostMin. That is the buffer it occupies at the receiver, so many tiny packets cannot take
// more memory than was granted. The costs of all packets sent and not yet acked must stay within
// OpenAck.WindowBytes; a sender that exceeds it is cut off.
func WindowCost(payloadBytes int) int64 {
	cost := int64(WindowCostMin)
	for cost < int64(payloadBytes) {
		cost <<= 1
	}
	return cost
}
