package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
)

// Exit codes. They are part of the interface: scripts branch on them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitExists      = 4
	exitUnavailable = 5
	exitCorrupt     = 6
	exitInterrupted = 130 // as shells have it: 128 + SIGINT
)

// exitHelp is the table that --help shows.
const exitHelp = `Exit codes:
  0  ok
  1  failed; also: ww test answers no
  2  usage: a flag, name, path or setting is wrong
  3  not found
  4  exists already (use -f to overwrite)
  5  unavailable: no namenode or datanode answers, safe mode, too few datanodes, busy
  6  corrupt: no intact copy of some bytes is left
  130  interrupted`

// outcome is how a kind of error looks from outside.
type outcome struct {
	name string // in JSON
	exit int
}

// outcomes is the one table from error kinds to names and exit codes.
func outcomes() map[fault.Kind]outcome {
	return map[fault.Kind]outcome{
		fault.Invalid:         {"invalid", exitUsage},
		fault.NotFound:        {"not_found", exitNotFound},
		fault.Exists:          {"exists", exitExists},
		fault.NotDirectory:    {"not_directory", exitFailed},
		fault.IsDirectory:     {"is_directory", exitFailed},
		fault.NotEmpty:        {"not_empty", exitFailed},
		fault.LeaseHeld:       {"lease_held", exitFailed},
		fault.LeaseLost:       {"lease_lost", exitFailed},
		fault.SafeMode:        {"safe_mode", exitUnavailable},
		fault.TooFewNodes:     {"too_few_nodes", exitUnavailable},
		fault.StaleGeneration: {"stale_generation", exitFailed},
		fault.NotActive:       {"not_active", exitUnavailable},
		fault.Fenced:          {"fenced", exitUnavailable},
		fault.Gap:             {"gap", exitFailed},
		fault.Busy:            {"busy", exitUnavailable},
		fault.CorruptData:     {"corrupt", exitCorrupt},
		fault.Unavailable:     {"unavailable", exitUnavailable},
		fault.Version:         {"version", exitUnavailable},
		fault.Disk:            {"disk", exitFailed},
		fault.NoSpace:         {"no_space", exitFailed},
		fault.Protocol:        {"protocol", exitUnavailable},
		fault.Internal:        {"internal", exitFailed},
		fault.Closed:          {"closed", exitFailed},
	}
}

// outcomeOf classifies any error that a verb can return.
func outcomeOf(err error) outcome {
	var several *failures
	var last lastExit
	switch {
	case err == nil:
		return outcome{"ok", exitOK}
	case errors.As(err, &last):
		return last.outcome
	case errors.As(err, &several):
		return several.same
	case errors.Is(err, context.Canceled):
		return outcome{"interrupted", exitInterrupted}
	}
	if o, known := outcomes()[fault.KindOf(err)]; known {
		return o
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return outcome{"unavailable", exitUnavailable}
	case errors.Is(err, fs.ErrNotExist):
		return outcome{"not_found", exitNotFound}
	case errors.Is(err, fs.ErrExist):
		return outcome{"exists", exitExists}
	case errors.Is(err, syscall.ENOSPC):
		return outcome{"no_space", exitFailed}
	}
	return outcome{"failed", exitFailed}
}

// errNo is the answer "no" of a verb that asks a question: exit code 1 and not a word.
var errNo = errors.New("no")

// usage makes an error about how ww was called.
func usage(format string, args ...any) error {
	return fault.New(fault.Invalid, "", format, args...)
}

// failures counts what went wrong in a verb that goes on after an error. Each one has been reported when it is counted.
type failures struct {
	failed, total int
	same          outcome // of all, while they agree
}

// add notes one reported error.
func (f *failures) add(err error) {
	o := outcomeOf(err)
	if f.failed > 0 && o != f.same {
		o = outcome{"failed", exitFailed}
	}
	f.failed++
	f.same = o
}

func (f *failures) Error() string { return fmt.Sprintf("%d of %d failed", f.failed, f.total) }

// err is nil if nothing failed.
func (f *failures) err() error {
	if f.failed == 0 {
		return nil
	}
	return f
}

// report writes the error that ended a verb to stderr and returns the exit code.
func (a *app) report(verb string, err error) int {
	answer := outcomeOf(err)
	var several *failures
	var last lastExit
	switch {
	case err == nil || errors.Is(err, errNo) || errors.As(err, &last):
	case errors.As(err, &several):
		if several.total > 1 {
			a.tell(verb, err, answer)
		}
	default:
		a.tell(verb, err, answer)
	}
	return answer.exit
}

// complain reports one of several errors of a verb and counts it.
func (a *app) complain(verb string, f *failures, err error) {
	f.add(err)
	a.tell(verb, err, outcomeOf(err))
}

// tell writes an error to stderr: a line for people or, under --json, an object.
func (a *app) tell(verb string, err error, o outcome) {
	message := describe(verb, err)
	if !a.global.json {
		fmt.Fprintln(a.stderr, message)
		return
	}
	body := record{"kind": o.name, "exit_code": o.exit, "verb": verb, "message": message}
	var e *fault.Error
	if errors.As(err, &e) {
		for key, text := range map[string]string{"operation": e.Op, "path": e.Path, "chunk": e.Chunk, "node": e.Node,
			"address": e.Address, "reason": e.Reason, "hint": e.Hint, "holder": e.Holder} {
			if text != "" {
				body[key] = text
			}
		}
		if !e.Since.IsZero() {
			body["since"] = e.Since.UTC().Format(time.RFC3339)
		}
	}
	line, _ := json.Marshal(record{"version": jsonVersion, "type": "error", "error": body}) // plain fields
	fmt.Fprintln(a.stderr, string(line))
}

// describe is the line for people: ww put: "/a/b": reason (node, address) — hint.
func describe(verb string, err error) string {
	prefix := strings.TrimSpace("ww "+verb) + ": "
	if errors.Is(err, context.Canceled) {
		return prefix + "interrupted"
	}
	failure, ok := fault.Outermost(err)
	if !ok {
		return prefix + err.Error()
	}
	// The path leads; what the layers below tried comes after it.
	rest := *failure
	rest.Path = ""
	if rest.Op == verb || rest.Op == "" && failure.Path != "" {
		rest.Op = ""
	}
	if failure.Path != "" {
		prefix += fmt.Sprintf("%q: ", failure.Path)
	}
	return prefix + rest.Error()
}
