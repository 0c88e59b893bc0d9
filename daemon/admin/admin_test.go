package admin

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, options Options) *Server {
	t.Helper()
	options.Listen = "127.0.0.1:0"
	s, err := Start(options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(t.Context())) })
	return s
}

// get asks over a connection of its own.
func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.Addr() + path)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestHealthAndReadiness(t *testing.T) {
	var ready atomic.Bool
	server := start(t, Options{Ready: func() error {
		if ready.Load() {
			return nil
		}
		return errors.New("the log is being replayed")
	}})
	code, text := get(t, server, "/healthz")
	require.Equal(t, 200, code)
	require.Equal(t, "ok\n", text)
	code, text = get(t, server, "/readyz")
	require.Equal(t, 503, code)
	require.Contains(t, text, "the log is being replayed")
	ready.Store(true)
	code, _ = get(t, server, "/readyz")
	require.Equal(t, 200, code)
	code, _ = get(t, server, "/elsewhere")
	require.Equal(t, 404, code)
	code, text = get(t, server, "/debug/pprof/")
	require.Equal(t, 200, code)
	require.Contains(t, text, "goroutine")
}

func TestEveryKindIsFetched(t *testing.T) {
	s := start(t, Options{})
	for _, name := range Kinds() {
		var b bytes.Buffer
		n, err := Fetch(t.Context(), s.Addr(), name, time.Second, &b)
		require.NoError(t, err, name)
		require.EqualValues(t, b.Len(), n)
		if name == "trace" {
			require.True(t, strings.HasPrefix(b.String(), "go 1."), name)
			continue
		}
		z, err := gzip.NewReader(&b)
		require.NoError(t, err, name)
		profile, err := io.ReadAll(z)
		require.NoError(t, err, name)
		// A profile's string table begins with an empty string; its sample types
		// name what is counted.
		require.Contains(t, string(profile),
			map[string]string{"cpu": "cpu", "heap": "inuse_space", "allocs": "alloc_space",
				"mutex": "contentions", "block": "contentions", "goroutine": "goroutine"}[name], name)
	}
}

func TestContentionIsSampledWhileItIsAskedFor(t *testing.T) {
	server := start(t, Options{})
	code, text := get(t, server, "/debug/pprof/mutex")
	require.Equal(t, 400, code)
	require.Contains(t, text, "seconds")

	stop := make(chan struct{})
	var workers sync.WaitGroup
	var mu sync.Mutex
	for range 4 {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				until := time.Now().Add(100 * time.Microsecond)
				for time.Now().Before(until) { // the others wait for the lock meanwhile
				}
				mu.Unlock()
			}
		})
	}
	var b bytes.Buffer
	_, err := Fetch(t.Context(), server.Addr(), "mutex", time.Second, &b)
	close(stop)
	workers.Wait()
	require.NoError(t, err)
	z, err := gzip.NewReader(&b)
	require.NoError(t, err)
	profile, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Contains(t, string(profile), "TestContentionIsSampledWhileItIsAskedFor")

	server.sampling.Lock()
	defer server.sampling.Unlock()
	code, _ = get(t, server, "/debug/pprof/block?seconds=1")
	require.Equal(t, 503, code)
}

func TestWhatIsTooMuchIsRefused(t *testing.T) {
	server := start(t, Options{})
	for _, seconds := range []string{"121", "0", "-1", "NaN", "ten"} {
		code, text := get(t, server, "/debug/pprof/profile?seconds="+seconds)
		require.Equal(t, 400, code, seconds)
		require.Contains(t, text, "at most 120")
	}
	for range requestsMax {
		server.busy <- struct{}{}
	}
	code, text := get(t, server, "/healthz")
	require.Equal(t, 503, code)
	require.Contains(t, text, "being answered")
	_, err := Fetch(t.Context(), server.Addr(), "heap", 0, io.Discard)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "being answered")
	for range requestsMax {
		<-server.busy
	}
	code, _ = get(t, server, "/healthz")
	require.Equal(t, 200, code)
}

func TestConnectionsAreBounded(t *testing.T) {
	s := start(t, Options{})
	connect := func() net.Conn {
		c, err := net.Dial("tcp", s.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	first := connect()
	for range connectionsMax - 1 {
		connect()
	}
	waits := connect()
	_, err := io.WriteString(waits, "GET /healthz HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, waits.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = waits.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "one connection too many is not served")
	require.NoError(t, first.Close())
	require.NoError(t, waits.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = waits.Read(make([]byte, 1))
	require.NoError(t, err, "it is once another one is closed")
}

func TestStartAndFetchSayWhatIsWrong(t *testing.T) {
	_, err := Start(Options{Listen: "nowhere"})
	require.ErrorIs(t, err, fault.Invalid)
	s := start(t, Options{})
	_, err = Start(Options{Listen: s.Addr()})
	require.ErrorIs(t, err, fault.Unavailable)

	_, err = Fetch(t.Context(), s.Addr(), "speed", time.Second, io.Discard)
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "cpu, heap")
	for _, span := range []time.Duration{0, profileMax + time.Second} {
		_, err = Fetch(t.Context(), s.Addr(), "cpu", span, io.Discard)
		require.ErrorIs(t, err, fault.Invalid)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, err = Fetch(t.Context(), free, "heap", 0, io.Discard)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "admin_listen")
	_, err = Fetch(t.Context(), "not an address", "heap", 0, io.Discard)
	require.Error(t, err)

	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello, I am a web server")
	}))
	defer other.Close()
	_, err = Fetch(t.Context(), strings.TrimPrefix(other.URL, "http://"), "heap", 0, io.Discard)
	require.ErrorIs(t, err, fault.Protocol)
}
