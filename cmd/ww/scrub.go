package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// scrubPoll is the time between two questions how far a scrub is.
const scrubPoll = 500 * time.Millisecond

func newScrub(program *app) *cobra.Command {
	var detached bool
	cmd := &cobra.Command{
		Use:   "scrub [flags] NODE|PATH",
		Short: "compare replicas with their checksums now",
		Long: `Have all replicas of a datanode, or of a file, or of all files below a directory, compared with their
checksums now. Datanodes do this by themselves within datanode.scrub_period.

PATH begins with a slash; anything else is a NODE: a datanode's name, address, id or the beginning of that. A
datanode reads at most datanode.scrub_bandwidth from each disk, and less while clients use it. The verb shows how far it
is, and waits; to interrupt it does not stop the datanode. The replicas of a path are read one after the other, as fast
as they can be.

A bad replica is put in quarantine, and another one is copied from a good one. Exit code 0: all are good; 6: some were
not.`,
		Example: "  ww admin scrub 127.0.0.1:7720\n  ww admin scrub /photos",
		Args:    arguments(1, 1),
	}
	cmd.RunE = program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
		if strings.HasPrefix(args[0], "/") {
			scrub := pathScrub{woods: woods, out: out}
			err := scrub.below(ctx, args[0])
			return errors.Join(err, scrub.show(args[0]))
		}
		return program.scrubNode(ctx, woods, out, args[0], detached)
	})
	cmd.Flags().BoolVar(&detached, "detach", false, "do not wait; ww admin disk list shows how far it is")
	return cmd
}

// nodeScrub waits for the scrub of all disks of a datanode.
type nodeScrub struct {
	program     *app
	woods       *client.Client
	out         *printer
	node        client.NodeStatus
	directories map[string]string // of its disks
	wanted      map[string]int64  // passes of the disks that are not done
	bad         int64
	percent     int // that was shown last
}

// scrubNode has a datanode verify all of its replicas.
func (a *app) scrubNode(ctx context.Context, woods *client.Client, out *printer, name string, detached bool) error {
	nodes, err := nodesOf(ctx, woods, []string{name})
	if err != nil {
		return err
	}
	scrub := nodeScrub{program: a, woods: woods, out: out, node: nodes[0], directories: make(map[string]string),
		wanted: make(map[string]int64)}
	for _, v := range scrub.node.Volumes {
		scrub.directories[v.ID] = v.Directory
	}
	disks, err := woods.BeginScrub(ctx, scrub.node.Address)
	if err != nil {
		return err
	}
	for _, d := range disks {
		scrub.wanted[d.Disk] = d.Wanted
	}
	if detached {
		out.object("scrub", record{"node": scrub.node.NodeID, "address": scrub.node.Address, "disks": len(disks)})
		out.text("%s verifies the replicas of %s", scrub.node.Address, count(len(disks), "disk"))
		return nil
	}
	return scrub.wait(ctx)
}

// wait waits until all disks are done or out of service. Error: fault.CorruptData if there was a bad replica.
func (s *nodeScrub) wait(ctx context.Context) error {
	for {
		disks, err := s.woods.ScrubProgress(ctx, s.node.Address)
		if err != nil {
			return err
		}
		s.look(disks)
		if len(s.wanted) == 0 {
			return badReplicas(int(s.bad), s.node.Address)
		}
		if err := clock.Sleep(ctx, clock.Real{}, scrubPoll); err != nil {
			return err
		}
	}
}

// look shows what is done, and how far the slowest disk is.
func (s *nodeScrub) look(disks []client.DiskScrub) {
	left := make(map[string]int64, len(s.wanted))
	slowest := client.DiskScrub{Percent: 100}
	for _, d := range disks {
		pass, waiting := s.wanted[d.Disk]
		switch {
		case !waiting:
		case d.Passes >= pass:
			s.bad += d.Bad
			s.out.diskScrubbed(s.node, s.directories[d.Disk], d)
		default:
			left[d.Disk] = pass
			if d.Percent < slowest.Percent {
				slowest = d
			}
		}
	}
	s.wanted = left // a disk that is not listed any more is out of service
	if len(left) > 0 && slowest.Percent/10 != s.percent/10 {
		s.percent = slowest.Percent
		s.program.note("%s: %d %%, %s verified, %d bad", s.directories[slowest.Disk], slowest.Percent,
			size(slowest.Bytes, true), slowest.Bad)
	}
}

// scrubRecord is a disk's scrub for programs.
func scrubRecord(s client.ScrubStatus) record {
	return record{"passes": s.Passes, "running": s.Running, "percent": s.Percent, "replicas": s.Replicas,
		"bytes": s.Bytes, "bad": s.Bad, "bad_total": s.BadTotal, "last_pass": stamp(s.Ended)}
}

// scrubText is the line about a disk's scrub.
func scrubText(scrub client.ScrubStatus) string {
	text := "scrub: never done"
	if !scrub.Ended.IsZero() {
		text = "scrub: all verified at " + scrub.Ended.Local().Format(time.DateTime)
	}
	done := fmt.Sprintf("%s, %s, %d bad", count(int(scrub.Replicas), "replica"), size(scrub.Bytes, true), scrub.Bad)
	switch {
	case scrub.Running:
		text += fmt.Sprintf("; under way, %d %%: %s", scrub.Percent, done)
	case !scrub.Ended.IsZero():
		text += ": " + done
	}
	return text + fmt.Sprintf("; %d bad in all", scrub.BadTotal)
}

// scrubTotals sums up the scrubs of all disks of a cluster.
type scrubTotals struct {
	disks, done, running int
	oldest               time.Time // end of the last whole pass, of the disk whose is the longest ago
	bytes, bad           int64
}

func totalScrubs(nodes []client.NodeStatus) (totals scrubTotals) {
	for _, n := range nodes {
		for _, v := range n.Volumes {
			totals.add(v.Scrub)
		}
	}
	return totals
}

func (t *scrubTotals) add(disk client.ScrubStatus) {
	t.disks++
	t.bytes, t.bad = t.bytes+disk.Bytes, t.bad+disk.BadTotal
	if disk.Running {
		t.running++
	}
	if disk.Ended.IsZero() {
		return
	}
	t.done++
	if t.oldest.IsZero() || disk.Ended.Before(t.oldest) {
		t.oldest = disk.Ended
	}
}

// record is the totals for programs.
func (t scrubTotals) record() record {
	return record{"disks": t.disks, "disks_done": t.done, "running": t.running, "bytes": t.bytes, "bad_total": t.bad,
		"oldest_pass": stamp(t.oldest)}
}

func (t scrubTotals) text() string {
	text := fmt.Sprintf("scrub: %d of %s verified", t.done, count(t.disks, "disk"))
	if !t.oldest.IsZero() {
		text += ", the longest ago at " + t.oldest.Local().Format(time.DateTime)
	}
	return text + fmt.Sprintf("; %d under way, %s in the last passes, %d bad in all", t.running, size(t.bytes, true),
		t.bad)
}

// badReplicas is the error of a scrub that found some.
func badReplicas(bad int, where string) error {
	if bad == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.CorruptData, Op: "scrub", Path: where, Reason: count(bad, "bad replica") +
		", now in quarantine", Hint: "see `ww admin report` until they are copied from good ones"}
}

// diskScrubbed tells what the scrub of one disk came to.
func (p *printer) diskScrubbed(node client.NodeStatus, directory string, d client.DiskScrub) {
	p.object("disk", record{"node": node.NodeID, "address": node.Address, "disk": d.Disk, "directory": directory,
		"replicas": d.Replicas, "bytes": d.Bytes, "bad": d.Bad})
	p.text("%s  %s: %s, %s verified, %d bad", node.Address, directory, count(int(d.Replicas), "replica"),
		size(d.Bytes, true), d.Bad)
}

// pathScrub verifies the replicas of files.
type pathScrub struct {
	woods                     *client.Client
	out                       *printer
	replicas, bad, unverified int
	bytes                     int64
}

// below verifies a file, or all files below a directory.
func (s *pathScrub) below(ctx context.Context, path string) error {
	info, err := s.woods.Stat(ctx, path)
	if err != nil {
		return err
	}
	if !info.Directory {
		return s.file(ctx, path)
	}
	for entry, err := range s.woods.List(ctx, path) {
		if err == nil {
			err = s.below(ctx, strings.TrimSuffix(path, "/")+"/"+entry.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *pathScrub) file(ctx context.Context, path string) error {
	chunks, err := s.woods.Locate(ctx, path, 0, 0)
	if err != nil {
		return err
	}
	for _, located := range chunks {
		for _, at := range located.Replicas {
			err := s.woods.ScrubReplica(ctx, at, located)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.note(path, located, at, err)
		}
	}
	return nil
}

// note counts a replica that was verified, or could not be.
func (s *pathScrub) note(path string, located client.ChunkLocation, at client.Replica, err error) {
	verdict := "good"
	switch {
	case err == nil:
		s.bytes += located.Length
	case errors.Is(err, fault.CorruptData):
		verdict = "bad"
		s.bad++
	default:
		verdict = "not verified"
		s.unverified++
	}
	s.replicas++
	result := record{"path": path, "index": located.Index, "chunk": located.ID.String(), "node": at.NodeID,
		"address": at.Address, "verdict": verdict, "error": nil}
	if err != nil {
		result["error"] = err.Error()
		s.out.text("%s: chunk %d at %s: %s: %v", shown(path), located.Index, at.Address, verdict, err)
	}
	s.out.object("replica", result)
}

// show ends the scrub of a path. Error: fault.CorruptData if a replica was bad, fault.Unavailable if one could not be
// verified.
func (s *pathScrub) show(path string) error {
	s.out.text("%s: %s, %s verified, %d bad, %d not verified", shown(path), count(s.replicas, "replica"),
		size(s.bytes, true), s.bad, s.unverified)
	if s.bad == 0 && s.unverified > 0 {
		return &fault.Error{Kind: fault.Unavailable, Op: "scrub", Path: path,
			Reason: count(s.unverified, "replica") + " could not be verified"}
	}
	return badReplicas(s.bad, path)
}
