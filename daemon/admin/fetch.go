package admin

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
)

// kind is a profile that Fetch can ask for.
type kind struct {
	name string
	// path below /debug/pprof/.
	path string
	// timed: it covers a span of time.
	timed bool
	// magic begins what the server sends.
	magic []byte
}

// pprof files are gzipped protobuf.
var gzipMagic = []byte{0x1f, 0x8b} // read only

// kinds by their names; read only.
var kinds = []kind{
	{"cpu", "profile", true, gzipMagic},
	{"heap", "heap", false, gzipMagic},
	{"allocs", "allocs", true, gzipMagic},
	{"mutex", "mutex", true, gzipMagic},
	{"block", "block", true, gzipMagic},
	{"goroutine", "goroutine", false, gzipMagic},
	{"trace", "trace", true, []byte("go 1.")},
}

// Kinds lists the profiles that Fetch knows.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// Fetch takes a profile of a kind from the admin address host:port, over span if the kind is timed, and writes it
// to w. It checks that what comes is a profile. Errors: fault.Invalid for a kind or span that cannot be,
// fault.Unavailable with what the server said.
func Fetch(ctx context.Context, address, name string, span time.Duration, to io.Writer) (int64, error) {
	const op = "fetch profile"
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return 0, fault.New(fault.Invalid, op, "kind %q is not one of %s", name, strings.Join(Kinds(), ", "))
	}
	profile := kinds[i]
	url := "http://" + address + "/debug/pprof/" + profile.path
	if profile.timed {
		seconds := int64(math.Ceil(span.Seconds())) // the server takes whole ones
		if seconds < 1 || span > profileMax {
			return 0, fault.New(fault.Invalid, op, "a span of %v; 1s to %v are possible", span, profileMax)
		}
		url += fmt.Sprintf("?seconds=%d", seconds)
	} else {
		span = 0
	}
	unavailable := func(reason string, cause error) error {
		return &fault.Error{Kind: fault.Unavailable, Op: op, Address: address, Reason: reason, Err: cause,
			Hint: "admin addresses listen on the loopback interface of their host by default: " +
				"run this there, or set admin_listen"}
	}
	ctx, cancel := context.WithTimeout(ctx, span+answerTimeout-profileMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, &fault.Error{Kind: fault.Invalid, Op: op, Address: address, Err: err}
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, unavailable("", err)
	}
	defer response.Body.Close()
	body := bufio.NewReader(response.Body)
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(body, textBytesMax)) // an explanation, as far as it came
		return 0, unavailable(fmt.Sprintf("the server says %q", response.Status+": "+strings.TrimSpace(string(text))),
			nil)
	}
	if start, err := body.Peek(len(profile.magic)); err != nil || !bytes.Equal(start, profile.magic) {
		return 0, &fault.Error{Kind: fault.Protocol, Op: op, Address: address, Reason: "what came is no " + name +
			" profile", Err: err}
	}
	n, err := io.Copy(to, body)
	if err != nil {
		return n, unavailable("the profile was cut off", err)
	}
	return n, nil
}
