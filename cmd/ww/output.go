package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
)

// jsonVersion is in every JSON object; it rises when a key changes its meaning or goes away, not when one is added.
const jsonVersion = 1

// record is a JSON object of one line.
type record map[string]any

// printer writes the results of one verb to stdout: text or one JSON object
// per line. flush reports the first error of all writes.
type printer struct {
	w    *bufio.Writer
	json bool
	err  error
}

func (a *app) printer() *printer {
	return &printer{w: bufio.NewWriterSize(a.stdout, 64<<10), json: a.global.json}
}

// object writes a JSON object with the version and its type; a no-op without
// --json.
func (p *printer) object(kind string, fields record) {
	if !p.json || p.err != nil {
		return
	}
	fields["version"], fields["type"] = jsonVersion, kind
	encoder := json.NewEncoder(p.w)
	encoder.SetEscapeHTML(false)
	p.err = encoder.Encode(fields)
}

// text writes a formatted line; a no-op with --json.
func (p *printer) text(format string, args ...any) {
	if p.json || p.err != nil {
		return
	}
	_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
}

// flush sends everything out.
func (p *printer) flush() error {
	if p.err == nil {
		p.err = p.w.Flush()
	}
	if p.err != nil {
		return transfer.LocalError("write output", "", p.err)
	}
	return nil
}

// done flushes and returns err, or else what flushing said.
func (p *printer) done(err error) error {
	if e := p.flush(); err == nil {
		err = e
	}
	return err
}

// shown is a name as a line of text can hold it: as it is, or quoted if it has control characters, spaces at its
// ends, or a quote at its start. JSON has the exact name.
func shown(name string) string {
	if name == "" {
		return name
	}
	for _, r := range name {
		if !unicode.IsPrint(r) && !unicode.In(r, unicode.Cf, unicode.Mn, unicode.Zs) {
			return strconv.Quote(name)
		}
	}
	if name[0] == '"' || name[0] == ' ' || name[len(name)-1] == ' ' {
		return strconv.Quote(name)
	}
	return name
}

// size writes bytes exactly, or short for people: binary units.
func size(bytes int64, human bool) string {
	if !human {
		return strconv.FormatInt(bytes, 10)
	}
	return humanize.IBytes(uint64(max(bytes, 0)))
}

// rate is bytes per second for people.
func rate(bytes int64, elapsed time.Duration) string {
	if elapsed <= 0 {
		return "-"
	}
	return humanize.IBytes(uint64(float64(bytes)/elapsed.Seconds())) + "/s"
}

// stamp is a time in JSON: RFC 3339 in UTC.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// seconds is a duration in JSON.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

// note is a line for people about what was done; silent under --quiet and
// --json.
func (a *app) note(format string, args ...any) {
	if !a.global.quiet && !a.global.json {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// quoteForShell makes a path one word of a shell.
func quoteForShell(path string) string {
	if strings.IndexFunc(path, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+,:@%", r)
	}) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
