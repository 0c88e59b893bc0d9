package client

import (
	"errors"
	"slices"
	"time"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// recordSearch is how a RecordAppender looks for the datanode that appends.
type recordSearch struct {
	appender  *RecordAppender
	at        wire.Hop // where to go next; Address "" if not known
	redirects int      // followed in a row
	number    int      // failed attempts since the last progress
	since     time.Time
	progress  uint64
	// shunned is since when redirects to a node that does not answer are not followed; zero: they are.
	shunned time.Time
}

// connect opens a session with the datanode that appends, as far as it is known.
func (s *recordSearch) connect() (*recordSession, error) {
	if s.at.Address == "" {
		at, err := s.find()
		if err != nil {
			return nil, err
		}
		s.at = at
	}
	session, err := openRecordSession(s.appender, s.at)
	if err == nil {
		s.appender.client.nodes.Failures.Worked(s.at.Address)
	}
	return session, err
}

// failed decides what follows a failure; it waits as long as the retry policy wants. An error is final.
func (s *recordSearch) failed(err error) error {
	appender := s.appender
	client := appender.client
	now := client.clock.Now()
	if p := appender.queue.acknowledged(); p != s.progress || s.number == 0 {
		s.progress, s.number, s.since, s.redirects, s.shunned = p, 0, now, 0, time.Time{}
	}
	s.number++
	at := s.at
	s.at = wire.Hop{}
	var failure *recordFailure
	redirected := errors.As(err, &failure) && failure.redirect.Address != ""
	shunned := redirected && s.shun(failure.redirect, now)
	if shunned {
		s.at = at // it answers, and takes the lease over as soon as it may
	} else if redirected {
		s.at, s.shunned = failure.redirect, time.Time{}
		if s.redirects++; s.redirects <= redirectsMax {
			return nil
		}
	} else if at.Address != "" && !errors.As(err, &failure) {
		client.nodes.Failures.Failed(at.Address) // it did not answer
	}
	s.redirects = 0
	if failure != nil {
		err = failure.err
	}
	if !recordRetryable(err, s.at.Address != "") {
		return err
	}
	elapsed := now.Sub(s.since)
	wait, retry := client.retry(s.number, elapsed, err)
	if !retry || errors.Is(err, fault.LeaseHeld) && s.at.Address == "" && elapsed+wait > leaseHeldPatience {
		return err
	}
	if shunned {
		wait = min(wait, holderPoll)
	}
	client.logger.Warn("records go elsewhere", "path", appender.path, "peer", at.Address, "attempt", s.number, "err",
		err)
	if clock.Sleep(appender.life, client.clock, wait) != nil {
		return lifetime.Ended(appender.life, opRecord, appender.path, err)
	}
	return nil
}

// shun tells whether a redirect to a node that holds the lease is not followed for now, because it has just not
// answered. A namenode gives the lease to another one when it has not heard of the holder for a while either; if it
// has, the holder is asked again.
func (s *recordSearch) shun(holder wire.Hop, now time.Time) bool {
	if !s.appender.client.nodes.Failures.Lately(holder.Address) {
		return false
	}
	if s.shunned.IsZero() {
		s.shunned = now
	}
	return now.Sub(s.shunned) < holderPatience
}

// recordRetryable reports whether another attempt, perhaps elsewhere, may work.
func recordRetryable(err error, redirected bool) bool {
	if redirected {
		return true
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.NotFound, fault.NotDirectory, fault.IsDirectory, fault.Version:
		return false
	}
	return true
}

// find chooses a datanode: the one that holds the file's lease, else one with the last chunk, else any live one; those
// that failed lately come last.
func (s *recordSearch) find() (wire.Hop, error) {
	appender := s.appender
	client := appender.client
	info, err := client.Stat(appender.life, appender.path)
	if err != nil {
		return wire.Hop{}, err
	}
	if info.Directory {
		return wire.Hop{}, &fault.Error{Kind: fault.IsDirectory, Op: opRecord, Path: appender.path}
	}
	var candidates []wire.Hop
	if node, address, ok := record.ParseHolder(info.LeaseHolder); ok {
		candidates = append(candidates, wire.Hop{NodeID: node, Address: address})
	}
	locations, err := client.locateAll(appender.life, namenode.Call{Op: "locate", Path: appender.path},
		max(info.Length-1, 0), 1)
	if err != nil {
		return wire.Hop{}, err
	}
	if len(locations) > 0 {
		candidates = append(candidates, locations[len(locations)-1].Replicas...)
	}
	status, err := client.ClusterStatus(appender.life)
	if err != nil {
		return wire.Hop{}, err
	}
	for _, n := range status.Nodes {
		if at := (wire.Hop{NodeID: n.NodeID, Address: n.Address}); n.Live && !slices.Contains(candidates, at) {
			candidates = append(candidates, at)
		}
	}
	if len(candidates) == 0 {
		return wire.Hop{}, &fault.Error{Kind: fault.TooFewNodes, Op: opRecord, Path: appender.path,
			Reason: "no datanode is live"}
	}
	// All may be marked as failed: then each gets its turn.
	ordered := client.nodes.OrderByFailures(candidates)
	if s.number >= len(ordered) {
		return ordered[s.number%len(ordered)], nil
	}
	return ordered[0], nil
}
