package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	replication = 3
	// copiesLeast is what every acknowledged chunk has to be on: namenode.write_copies_min's default.
	copiesLeast = 2
	// healthyAfter is how long a datanode, and the namenode, have to be left alone before the datanode counts as
	// one that could take a missing copy. It covers a start, the registration, and a writer that grows its pipeline.
	healthyAfter = 15 * time.Second
	// judgePatience bounds how long an acknowledgement may wait for its judgement: the namenode may be away.
	judgePatience = 60 * time.Second
	// askTimeout bounds one question to the namenode, which may be paused.
	askTimeout = 2 * time.Second
	// lookAgain is the time between two looks at the same state.
	lookAgain = 20 * time.Millisecond
)

// piece is acknowledged bytes at their place in a file.
type piece struct {
	offset int64
	data   []byte
}

func (p piece) end() int64 { return p.offset + int64(len(p.data)) }

// acknowledgement is what a call promised by returning.
type acknowledgement struct {
	what   string // the call
	path   string
	pieces []piece // every acknowledged byte of the file, as far as this caller knows
	from   int64   // first byte that this call acknowledged; the chunks before it may be waiting for their repair
	length int64   // of a closed file; -1 while it is open
	begun  time.Time
}

// violation is a broken promise.
type violation struct {
	acknowledgement
	reason string
	at     time.Time
	looks  []string // what was seen
}

func (v *violation) Error() string {
	return fmt.Sprintf("%s of %s, begun %s, acknowledged %s: %s\n  %s", v.what, v.path, clockText(v.begun),
		clockText(v.at), v.reason, strings.Join(v.looks, "\n  "))
}

// clockText is how the daemons' logs write a time, without its date.
func clockText(t time.Time) string { return t.Format("15:04:05.000") }

// judge compares acknowledgements with the disks. Safe for concurrent use.
type judge struct {
	disks *disks
	user  *client.Client
	nodes func(begun time.Time) []int // that have been healthy since before begun

	mu struct {
		sync.Mutex
		counts map[string]int // acknowledgements by call
		late   int            // judged by a list of the directories, because the namenode did not answer
		unsure []string       // that could not be judged, and why
		strict int            // for which healthy nodes wanted all copies
	}
}

func newJudge(all *disks, user *client.Client, healthy func(begun time.Time) []int) *judge {
	j := &judge{disks: all, user: user, nodes: healthy}
	j.mu.counts = map[string]int{}
	return j
}

// total counts the acknowledgements so far.
func (j *judge) total() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	sum := 0
	for _, n := range j.mu.counts {
		sum += n
	}
	return sum
}

func (j *judge) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return fmt.Sprintf("%v; all copies wanted: %d, judged late: %d, not judged: %d%s", j.mu.counts, j.mu.strict,
		j.mu.late, len(j.mu.unsure), strings.Join(append([]string{""}, j.mu.unsure...), "\n  "))
}

// accept judges an acknowledgement that was given right now. Error: *violation; nil also if it could not be judged,
// which is counted.
func (j *judge) accept(ctx context.Context, given acknowledgement) error {
	at := time.Now()
	healthy := j.nodes(given.begun)
	look := &look{judge: j, given: given, healthy: healthy}
	ctx, cancel := context.WithTimeout(ctx, judgePatience)
	defer cancel()
	reason := look.untilStable(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.counts[given.what]++
	if look.before != nil {
		j.mu.late++
	}
	if len(healthy) >= replication {
		j.mu.strict++
	}
	switch {
	case reason == "":
		return nil
	case ctx.Err() != nil:
		j.mu.unsure = append(j.mu.unsure, fmt.Sprintf("%s of %s at %s: %s", given.what, given.path, clockText(at),
			reason))
		return nil
	}
	return &violation{acknowledgement: given, reason: reason, at: at, looks: look.seen}
}

// look is the judgement of one acknowledgement.
type look struct {
	*judge
	given   acknowledgement
	healthy []int
	before  holdings // at the acknowledgement, if the namenode did not answer at once; else nil
	seen    []string // by the last look
}

// untilStable looks until the promise is kept, or is broken in two looks at the same generations. It returns why it
// is broken, or, when the context ended, why nothing could be found out.
func (l *look) untilStable(ctx context.Context) string {
	previous := ""
	for {
		located, err := l.locate(ctx)
		if err != nil && ctx.Err() == nil {
			previous = err.Error()
		}
		if err != nil && l.before == nil && ctx.Err() == nil {
			if l.before, err = l.disks.list(); err != nil {
				return err.Error()
			}
		}
		var reason string
		if err == nil {
			if reason = l.compare(located); reason == "" {
				return ""
			}
			state := generations(located) + reason
			again, err := l.locate(ctx)
			if err == nil && previous == state && generations(again) == generations(located) {
				return reason
			}
			previous = state
		}
		if errors.Is(err, fault.NotFound) {
			return "the file is gone: " + err.Error()
		}
		if !pause(ctx, lookAgain) {
			return "no judgement: " + previous
		}
	}
}

// locate asks the namenode once.
func (l *look) locate(ctx context.Context) ([]client.ChunkLocation, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return l.user.Locate(ctx, l.given.path, 0, 0)
}

// generations is what two looks have to agree on.
func generations(located []client.ChunkLocation) string {
	var text strings.Builder
	for _, chunk := range located {
		fmt.Fprintf(&text, "%s_%x_%d_%v ", chunk.ID, uint64(chunk.Generation), chunk.Length, chunk.Open)
	}
	return text.String()
}

// compare holds the promise against the disks. It returns why it is broken, or nothing.
func (l *look) compare(located []client.ChunkLocation) string {
	end, most := int64(0), int64(0)
	for _, p := range l.given.pieces {
		most = max(most, p.end())
	}
	for i, chunk := range located {
		limit := chunk.Offset + chunk.Length
		if i+1 < len(located) {
			limit = located[i+1].Offset
		} else if l.given.length < 0 {
			limit = most // an open chunk: the namenode does not know its length
		}
		end = chunk.Offset + chunk.Length
		if reason := l.compareChunk(chunk, limit); reason != "" {
			return reason
		}
	}
	if len(located) == 0 && most > 0 {
		return fmt.Sprintf("%d bytes are acknowledged, the namenode knows no chunk", most)
	}
	if l.given.length >= 0 && end != l.given.length {
		return fmt.Sprintf("the closed file has %d bytes, the namenode knows %d", l.given.length, end)
	}
	return ""
}

// compareChunk holds the promise against the replicas of one chunk, whose bytes end before limit in the file.
func (l *look) compareChunk(at client.ChunkLocation, limit int64) string {
	var wanted []piece // within the chunk
	for _, p := range l.given.pieces {
		start, end := max(p.offset, at.Offset), min(p.end(), limit)
		if start < end {
			wanted = append(wanted, piece{start - at.Offset, p.data[start-p.offset : end-p.offset]})
		}
	}
	if len(wanted) == 0 {
		return ""
	}
	found, err := l.disks.find(at.ID)
	if err != nil {
		return err.Error()
	}
	var had map[int]bool
	if l.before != nil {
		had = l.before.held(at.ID)
	}
	l.seen = nil
	var good []int
	for _, r := range found {
		why := l.missing(at, r, wanted)
		if why == "" && had != nil && !had[r.node] {
			why = "not there when it was acknowledged"
		}
		if why == "" && !slices.Contains(good, r.node) {
			good = append(good, r.node)
		}
		l.seen = append(l.seen, fmt.Sprintf("%s %s", r, why))
	}
	l.seen = append(l.seen, fmt.Sprintf("chunk %s at %d, generation %d, %d bytes, open: %v, the namenode knows %v",
		at.ID, at.Offset, at.Generation, at.Length, at.Open, at.Replicas))
	held := len(good)
	lost, ever := l.disks.lostSince(l.given.begun)
	for _, node := range lost { // its disk was lost after the call began
		if !slices.Contains(good, node) {
			good = append(good, node)
		}
	}
	earlier := limit <= l.given.from // the promise was kept then, and its disks may have gone since
	if len(good) < copiesLeast && !(earlier && ever && held > 0) {
		return fmt.Sprintf("chunk %s (generation %d) is on %d datanodes, %d are promised", at.ID, at.Generation,
			held, copiesLeast)
	}
	if len(good) >= replication || earlier {
		return ""
	}
	for _, node := range l.healthy {
		if !slices.Contains(good, node) {
			return fmt.Sprintf("chunk %s (generation %d) is on %d datanodes although datanode %d could take a copy",
				at.ID, at.Generation, held, node)
		}
	}
	return ""
}

// missing tells why a replica does not keep the promise, or nothing.
func (l *look) missing(at client.ChunkLocation, found *replica, wanted []piece) string {
	switch {
	case found.broken != "":
		return "(cannot be used)"
	case found.generation < at.Generation:
		return "(stale)"
	case !at.Open && l.given.length >= 0 && found.generation == at.Generation && found.sealed &&
		int64(len(found.data)) != at.Length:
		return fmt.Sprintf("(has %d bytes, the namenode says %d)", len(found.data), at.Length)
	case !at.Open && l.given.length >= 0 && !found.sealed:
		return "(not sealed)"
	}
	for _, p := range wanted {
		if p.end() > int64(len(found.data)) {
			return fmt.Sprintf("(ends before byte %d)", p.end())
		}
		if !bytes.Equal(found.data[p.offset:p.end()], p.data) {
			return fmt.Sprintf("(wrong bytes between %d and %d)", p.offset, p.end())
		}
	}
	return ""
}
