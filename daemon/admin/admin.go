// Package admin serves a daemon's admin address: HTTP for operators, beside the ports that do the work.
//
//	/healthz            200 while the process answers
//	/readyz             200 while the daemon does its work, else 503 and why
//	/debug/pprof/       the runtime's profiles (net/http/pprof)
//
// Mutex and block profiles are sampled only while one is being taken, so they need ?seconds=N. Whoever reaches the
// address can read the process's memory in a heap profile and slow it down with a trace, and nothing asks who it
// is: so it listens on the loopback interface unless told otherwise. Fetch is the client of `ww admin profile`.
//
// A Server runs one goroutine and those of net/http; Close ends all. Answers
// are bounded in number, size of request and time (limits.go).
package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/net/netutil"

	"github.com/whispering-woods/ww/internal/fault"
)

// Options configures Start.
type Options struct {
	// Listen is the host:port; port 0 picks one.
	Listen string
	// Ready returns why the daemon does not do its work; nil when it does. Called
	// by each /readyz, from any goroutine. nil: always ready.
	Ready  func() error
	Logger *slog.Logger // nil = none
}

// Server is an open admin address.
type Server struct {
	http     *http.Server
	listener net.Listener
	ready    func() error
	busy     chan struct{} // a token per request that is being answered
	sampling sync.Mutex    // one profile that needs sampling at a time
	serving  sync.WaitGroup
	once     sync.Once
}

// Start listens and serves. Errors: fault.Invalid for a bad address, fault.Unavailable if the port is taken.
func Start(options Options) (*Server, error) {
	if _, _, err := net.SplitHostPort(options.Listen); err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "open admin address", Address: options.Listen, Err: err,
			Hint: "write host:port, for example 127.0.0.1:7790"}
	}
	listener, err := net.Listen("tcp", options.Listen)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Unavailable, Op: "open admin address", Address: options.Listen, Err: err,
			Hint: "is another process using the port?"}
	}
	if options.Ready == nil {
		options.Ready = func() error { return nil }
	}
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	server := &Server{listener: netutil.LimitListener(listener, connectionsMax),
		ready: options.Ready, busy: make(chan struct{}, requestsMax)}
	server.http = &http.Server{
		Handler: server.bounded(server.routes()), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout,
		WriteTimeout: answerTimeout,
		IdleTimeout:  idleTimeout, MaxHeaderBytes: headerBytesMax,
		ErrorLog: slog.NewLogLogger(options.Logger.Handler(), slog.LevelDebug),
	}
	server.serving.Go(func() {
		if err := server.http.Serve(server.listener); !errors.Is(err, http.ErrServerClosed) {
			options.Logger.Error("admin address ended", "err", err)
		}
	})
	options.Logger.Info("admin address", "address", server.Addr())
	return server, nil
}

// Addr is the host:port, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends the server; running answers are cut off.
func (s *Server) Close(context.Context) error {
	var err error
	s.once.Do(func() {
		err = s.http.Close()
		s.serving.Wait()
	})
	return err
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.ready(); err != nil {
			say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		say(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/mutex", s.sampled("mutex", func() (stop func()) {
		before := runtime.SetMutexProfileFraction(mutexFraction)
		return func() { runtime.SetMutexProfileFraction(before) }
	}))
	mux.HandleFunc("GET /debug/pprof/block", s.sampled("block", func() (stop func()) {
		runtime.SetBlockProfileRate(blockRate)
		return func() { runtime.SetBlockProfileRate(0) }
	}))
	return mux
}

// sampled serves a profile that the runtime collects only on request.
func (s *Server) sampled(name string, start func() (stop func())) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		if request.FormValue("seconds") == "" {
			say(response, http.StatusBadRequest, name+" profiles are sampled while one is taken: add ?seconds=10")
			return
		}
		if !s.sampling.TryLock() {
			say(response, http.StatusServiceUnavailable, "another mutex or block profile is being taken")
			return
		}
		defer s.sampling.Unlock()
		defer start()()
		pprof.Handler(name).ServeHTTP(response, request)
	}
}

// bounded refuses what is too much at once, or would take too long.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if text := request.URL.Query().Get("seconds"); text != "" {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || !(n > 0 && n <= profileMax.Seconds()) {
				say(response, http.StatusBadRequest,
					fmt.Sprintf("seconds=%.32s: a number above 0, at most %.0f, is wanted", text, profileMax.Seconds()))
				return
			}
		}
		select {
		case s.busy <- struct{}{}:
			defer func() { <-s.busy }()
		default:
			say(response, http.StatusServiceUnavailable,
				fmt.Sprintf("%d requests are being answered already", requestsMax))
			return
		}
		next.ServeHTTP(response, request)
	})
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}
