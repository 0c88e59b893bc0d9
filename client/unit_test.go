package client

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "//": "/", "/a": "/a", "/a/": "/a", "//a///b//": "/a/b", "/...": "/...", "/a b\n\"'/🌲": "/a b\n\"'/🌲",
		"/" + strings.Repeat("x", 255):    "/" + strings.Repeat("x", 255),
		strings.Repeat("/d", 4096):        strings.Repeat("/d", 4096),
		strings.Repeat("//d", 4096) + "/": strings.Repeat("/d", 4096),
	} {
		got, err := CleanPath(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for in, reason := range map[string]string{
		"": "empty", "a": "not absolute", "./a": "not absolute", "/..": "not a name", "/a/../b": "not a name",
		"/a/.":    "not a name",
		"/a\x00b": "NUL", "/\xff": "UTF-8", "/" + strings.Repeat("x", 256): "256 bytes", strings.Repeat("/d",
			4097): "4096 elements",
	} {
		_, err := CleanPath(in)
		require.ErrorIs(t, err, fault.Invalid, "%q", in)
		require.ErrorContains(t, err, reason)
		require.Less(t, len(err.Error()), 1000)
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, seed := range []string{"/", "//a//b/", "/../x", "/\x00", "/\xc3\x28", "", "relative"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out, err := CleanPath(in)
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		again, err := CleanPath(out)
		require.NoError(t, err)
		require.Equal(t, out, again)
		require.True(t, strings.HasPrefix(out, "/") && !strings.Contains(out, "//"))
		require.LessOrEqual(t, len(out), len(in))
	})
}

func TestRetryPolicies(t *testing.T) {
	limits := RetryLimits{Attempts: 5, Elapsed: time.Second, Initial: 10 * time.Millisecond,
		Maximum: 40 * time.Millisecond}
	p, err := RetryByName("", limits)
	require.NoError(t, err)
	for number, ceiling := range map[int]int{1: 10, 2: 20, 3: 40, 4: 40} {
		spread := map[time.Duration]bool{}
		for range 50 {
			wait, again := p.Next(Attempt{Number: number})
			require.True(t, again)
			require.Positive(t, wait)
			require.LessOrEqual(t, wait, time.Duration(ceiling+1)*time.Millisecond)
			spread[wait] = true
		}
		require.Greater(t, len(spread), 10, "full jitter")
	}
	_, again := p.Next(Attempt{Number: 5})
	require.False(t, again)
	_, again = p.Next(Attempt{Number: 1, Elapsed: time.Second})
	require.False(t, again)
	p, err = RetryByName(RetryExponential, RetryLimits{})
	require.NoError(t, err)
	wait, again := p.Next(Attempt{Number: 1 << 30, Elapsed: time.Second})
	require.True(t, again)
	require.LessOrEqual(t, wait, retryMaximumDefault+time.Millisecond)
	p, err = RetryByName(RetryConstant, limits)
	require.NoError(t, err)
	wait, again = p.Next(Attempt{Number: 3})
	require.True(t, again)
	require.Equal(t, 10*time.Millisecond, wait)
	p, err = RetryByName(RetryNone, limits)
	require.NoError(t, err)
	_, again = p.Next(Attempt{Number: 1})
	require.False(t, again)
	_, err = RetryByName("fibonacci", limits)
	require.ErrorIs(t, err, fault.Invalid)
}

// TestMemoryArithmetic holds limits.go to its own sums.
func TestMemoryArithmetic(t *testing.T) {
	require.Equal(t, 3*windowBytesDefault+packetBytesDefault, 24<<20+256<<10)
	require.Zero(t, readaheadBytesDefault%segmentBytes)
	require.LessOrEqual(t, packetBytesDefault, pipeline.FirstBytesMax)
}

// What a stream gave up is lost: that the caller's context ended at the same moment does not make the writer usable
// again.
func TestAGivenUpChunkEndsItsWriter(t *testing.T) {
	life, cancel := context.WithCancel(t.Context())
	w := &FileWriter{life: life, cancel: cancel, path: "/f", current: &pipeline.Stream{}}
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, w.final(ended, context.Canceled), context.Canceled)
	require.NoError(t, w.failed())
	require.NoError(t, w.current.Kill(nil))
	_, err := w.current.Append(t.Context(), nil)
	require.Error(t, err)
	require.ErrorIs(t, w.final(ended, fault.New(fault.TooFewNodes, "write", "none")), fault.TooFewNodes)
	require.ErrorIs(t, w.failed(), fault.TooFewNodes)
}

func TestAbortAfterCloseDoesNothing(t *testing.T) {
	w := &FileWriter{cancel: func() {}, closed: true}
	w.failure.complete = true
	require.NoError(t, w.Abort())
	require.NoError(t, w.Close())
}

// TestARedirectToAHungDatanodeIsNotFollowed: whoever redirects to the holder of the lease takes it over as soon as it
// may, so it is asked again soon; the holder is when it was left alone for a while.
func TestARedirectToAHungDatanodeIsNotFollowed(t *testing.T) {
	now := fakeclock.New(time.Unix(1, 0))
	policy, err := RetryByName(RetryConstant, RetryLimits{Initial: time.Minute, Elapsed: time.Hour})
	require.NoError(t, err)
	user := &Client{nodes: health.NewNodes(now), clock: &fakeclock.Hurried{Clock: now},
		logger: slog.New(slog.DiscardHandler)}
	user.options.Retry = policy
	appender := &RecordAppender{client: user, queue: newRecordQueue("/f", 0, 1), life: t.Context()}
	hung, other := wire.Hop{NodeID: "a", Address: "a:1"}, wire.Hop{NodeID: "b", Address: "b:1"}
	search := &recordSearch{appender: appender, at: hung}
	fail := func(err error) {
		t.Helper()
		require.NoError(t, search.failed(err))
	}
	redirect := &recordFailure{fault.New(fault.LeaseHeld, opRecord, "held"), hung}
	search.at = other
	fail(redirect)
	require.Equal(t, hung, search.at, "it may be well")
	user.nodes.Failures.Failed(hung.Address)
	search.at = other
	began := now.Now()
	fail(redirect)
	require.Equal(t, other, search.at)
	require.Less(t, now.Now().Sub(began), 2*time.Second)
	for search.at == other {
		fail(redirect)
	}
	require.Equal(t, hung, search.at)
	require.Less(t, now.Now().Sub(began), 2*holderPatience)

	for range 2 { // the other one takes over; records go on, until the holder hangs again
		user.nodes.Failures.Failed(hung.Address)
		search.at = other
		fail(redirect)
		require.Equal(t, other, search.at)
		now.Advance(2 * holderPatience)
		search.progress++
	}
}
