package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestEveryKindHasAnOutcome(t *testing.T) {
	names := map[string]fault.Kind{}
	for kind := fault.Invalid; kind <= fault.Closed; kind++ {
		o, known := outcomes()[kind]
		require.True(t, known, "%v has no exit code", kind)
		require.Empty(t, names[o.name], "%v and %v have one name", kind, names[o.name])
		names[o.name] = kind
		require.NotEqual(t, exitOK, o.exit)
		require.Contains(t, exitHelp, fmt.Sprintf("\n  %d  ", o.exit), "the help tells of the code")
		require.Equal(t, o, outcomeOf(fault.New(kind, "x", "y")))
		require.Equal(t, o, outcomeOf(fmt.Errorf("wrapped: %w", fault.New(kind, "x", "y"))))
	}
	require.False(t, strings.Contains((fault.Closed+1).String(), "closed"), "a new kind needs a row")
}

func TestOutcomesOfPlainErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{nil, exitOK}, {errNo, exitFailed}, {errors.New("x"), exitFailed},
		{context.Canceled, exitInterrupted}, {context.DeadlineExceeded, exitUnavailable},
		{fmt.Errorf("a: %w", fs.ErrNotExist), exitNotFound}, {fs.ErrExist, exitExists},
		{fmt.Errorf("%w: %w", context.Canceled, fault.New(fault.NotFound, "", "x")), exitInterrupted},
	} {
		require.Equal(t, test.code, outcomeOf(test.err).exit, "%v", test.err)
	}
}

func TestFailuresOfOneKindKeepTheirCode(t *testing.T) {
	f := failures{total: 3}
	require.NoError(t, f.err())
	f.add(fault.New(fault.NotFound, "", "a"))
	f.add(fault.New(fault.NotFound, "", "b"))
	require.Equal(t, exitNotFound, outcomeOf(f.err()).exit)
	f.add(fault.New(fault.CorruptData, "", "c"))
	require.Equal(t, exitFailed, outcomeOf(f.err()).exit)
	require.EqualError(t, f.err(), "3 of 3 failed")
}

func TestMessages(t *testing.T) {
	since := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	for _, test := range []struct {
		verb, want string
		err        error
	}{
		{"put", `ww put: "/a/b": already exists — use -f to overwrite`,
			&fault.Error{Kind: fault.Exists, Op: "put", Path: "/a/b", Hint: "use -f to overwrite"}},
		{"put", `ww put: "/a/b": create: 5 copies asked, 2 datanodes live (127.0.0.1:1) — start more`,
			&fault.Error{Kind: fault.TooFewNodes, Op: "create", Path: "/a/b",
				Reason: "5 copies asked, 2 datanodes live", Address: "127.0.0.1:1", Hint: "start more"}},
		{"get", `ww get: "/a": read chunk: chunk 1234: block 3 does not match (node n1, h:1)`,
			&fault.Error{Kind: fault.CorruptData, Op: "read chunk", Path: "/a", Chunk: "1234",
				Reason: "block 3 does not match", Node: "n1", Address: "h:1"}},
		{"append", `ww append: "/a": lease held by another client: held by h:1 since 2026-11-23T01:02:03Z`,
			&fault.Error{Kind: fault.LeaseHeld, Path: "/a", Holder: "h:1", Since: since}},
		{"get", `ww get: "a\nb": not found`, &fault.Error{Kind: fault.NotFound, Path: "a\nb"}},
		{"admin report", "ww admin report: boom", errors.New("boom")},
		{"", "ww: boom", errors.New("boom")},
		{"get", "ww get: interrupted", context.Canceled},
	} {
		require.Equal(t, test.want, describe(test.verb, test.err))
	}
}

func TestErrorsAsJSON(t *testing.T) {
	var stderr bytes.Buffer
	program := &app{stderr: &stderr, global: globalFlags{json: true}}
	code := program.report("get", &fault.Error{Kind: fault.CorruptData, Op: "read chunk", Path: "/a", Chunk: "c",
		Node: "n", Address: "h:1", Reason: "r", Hint: "h"})
	require.Equal(t, exitCorrupt, code)
	var got map[string]any
	require.NoError(t, json.Unmarshal(stderr.Bytes(), &got))
	require.Equal(t, map[string]any{"version": 1.0, "type": "error", "error": map[string]any{
		"kind": "corrupt", "exit_code": 6.0, "verb": "get", "operation": "read chunk", "path": "/a", "chunk": "c",
		"node": "n", "address": "h:1", "reason": "r", "hint": "h",
		"message": `ww get: "/a": read chunk: chunk c: r (node n, h:1) — h`,
	}}, got)
}

func TestShownNames(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "plain.txt": "plain.txt", "a b": "a b", "ünï 漢字": "ünï 漢字", "🌲": "🌲", "e\u0301": "e\u0301",
		"new\nline": `"new\nline"`, "tab\t": `"tab\t"`, "\x1b[31m": `"\x1b[31m"`, `"quoted"`: `"\"quoted\""`,
		" edge": `" edge"`, "it's": "it's",
	} {
		require.Equal(t, want, shown(name))
	}
	for path, want := range map[string]string{"/tmp/a.yaml": "/tmp/a.yaml", "/tmp/a b": "'/tmp/a b'",
		"/it's": `'/it'\''s'`} {
		require.Equal(t, want, quoteForShell(path))
	}
}

func TestWordsOfTheShell(t *testing.T) {
	for line, want := range map[string][]string{
		"":                     nil,
		"  ls   -l  ":          {"ls", "-l"},
		`put 'a b' "c d" e\ f`: {"put", "a b", "c d", "e f"},
		`x '' ""`:              {"x", "", ""},
		`x 'a"b' "c'd" 'a\b'`:  {"x", `a"b`, "c'd", `a\b`},
		`x a'b'"c"`:            {"x", "abc"},
		"cat /🌲/ünï":           {"cat", "/🌲/ünï"},
	} {
		got, err := splitWords(line)
		require.NoError(t, err)
		require.Equal(t, want, got, line)
	}
	for _, line := range []string{`'a`, `"a`, `a\`} {
		_, err := splitWords(line)
		require.ErrorIs(t, err, fault.Invalid)
	}
}
