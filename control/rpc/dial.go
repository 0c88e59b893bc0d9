package rpc

import (
	"errors"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/whispering-woods/ww/internal/fault"
)

// Dial makes a lazy client connection to address ("host:port"): it returns at once and connects when the first call
// needs it, and reconnects after a loss. The host is resolved anew for each attempt; proxies of the environment are
// not used. extra may add interceptors or a dialer. The caller closes the connection. Errors: fault.Invalid.
func Dial(address string, extra ...grpc.DialOption) (*grpc.ClientConn, error) {
	if err := CheckAddress(address); err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: backoffFirst, Multiplier: 1.6, Jitter: 0.2,
				MaxDelay: backoffMax},
			MinConnectTimeout: handshakeTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepalivePing, Timeout: keepaliveTimeout,
			PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageBytesMax), grpc.MaxCallSendMsgSize(MessageBytesMax)),
		grpc.WithReadBufferSize(bufferBytes),
		grpc.WithWriteBufferSize(bufferBytes),
		grpc.WithInitialWindowSize(windowBytes),
		grpc.WithInitialConnWindowSize(windowBytes),
	}
	conn, err := grpc.NewClient("passthrough:///"+address, append(options, extra...)...)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "connect", Address: address, Err: err}
	}
	return conn, nil
}

// CheckAddress says what is wrong with a "host:port" to connect to. Errors: fault.Invalid.
func CheckAddress(address string) error {
	invalid := func(reason string) error {
		return &fault.Error{Kind: fault.Invalid, Op: "check address " + strconv.Quote(address), Reason: reason,
			Hint: "write host:port, for example 127.0.0.1:7700 or [::1]:7700"}
	}
	if address == "" {
		return invalid("the address is empty")
	}
	if strings.Contains(address, "://") {
		return invalid("an address has no scheme")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		var e *net.AddrError
		if errors.As(err, &e) {
			return invalid(e.Err)
		}
		return invalid(err.Error())
	}
	if host == "" {
		return invalid("the host is missing")
	}
	if strings.ContainsAny(host, " \t\r\n/\x00") {
		return invalid("the host holds a character that no host name has")
	}
	n, err := strconv.ParseUint(port, 10, 32)
	switch {
	case err != nil:
		return invalid("the port is not a number")
	case n == 0 || n > 65535:
		return invalid("the port is not between 1 and 65535")
	}
	return nil
}

// CheckAddresses checks a list of "host:port", drops repeats and surrounding blanks, and keeps the order. An empty
// list is an error. Errors: fault.Invalid, for the first bad one.
func CheckAddresses(addresses []string) ([]string, error) {
	var out []string
	seen := make(map[string]bool, len(addresses))
	for _, address := range addresses {
		address = strings.TrimSpace(address)
		if err := CheckAddress(address); err != nil {
			return nil, err
		}
		if !seen[address] {
			seen[address] = true
			out = append(out, address)
		}
	}
	if len(out) == 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "check addresses", Reason: "no address given",
			Hint: "write host:port, for example 127.0.0.1:7700"}
	}
	return out, nil
}
