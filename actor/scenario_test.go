package actor

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// TestScenarios runs the files of testdata: each shows one behaviour, named by
// its file. One command per line, answers line by line; chunks are called c1,
// c2, … in the order of their allocation, written c1@generation:length:nodes.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		var s *scenario
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "cluster":
				config := Config{DefaultChunkSize: 1 << 16}
				for _, a := range d.CmdArgs {
					if len(a.Vals) == 0 {
						continue
					}
					switch a.Key {
					case "copies":
						config.Repair.Streams = number(a.Vals[0])
					case "copies-per-node":
						config.Repair.NodeStreams = number(a.Vals[0])
					case "replication":
						config.DefaultReplication = uint32(number(a.Vals[0]))
					case "copies-min":
						config.WriteCopiesMin = number(a.Vals[0])
					case "placement":
						config.Placement = a.Vals[0]
					}
				}
				s = &scenario{harness: newHarness(t, config), names: make(map[chunk.ID]string),
					ids: make(map[string]chunk.ID), last: make(map[byte]Command)}
				nodes := 3
				if d.HasArg("nodes") {
					d.ScanArgs(t, "nodes", &nodes)
				}
				s.start(nodes)
				s.mute = d.HasArg("mute")
				return ""
			case "run":
				s.t = t
				var out strings.Builder
				for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
					out.WriteString(s.line(line))
				}
				s.same()
				return out.String()
			}
			t.Fatalf("command %q is not known", d.Cmd)
			return ""
		})
	})
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

type scenario struct {
	*harness
	names map[chunk.ID]string
	ids   map[string]chunk.ID
	last  map[byte]Command
}

// args are the words of a line: plain ones, and key=value.
type args struct {
	words []string
	keyed map[string]string
}

func parse(words []string) args {
	a := args{keyed: make(map[string]string)}
	for _, w := range words {
		if k, v, is := strings.Cut(w, "="); is {
			a.keyed[k] = v
		} else {
			a.words = append(a.words, w)
		}
	}
	return a
}

func (a args) has(word string) bool {
	for _, w := range a.words {
		if w == word {
			return true
		}
	}
	return false
}

func (a args) number(key string) int {
	if a.keyed[key] == "" {
		return 0
	}
	return number(a.keyed[key])
}

func letters(text string) (ids []string) {
	for _, c := range text {
		ids = append(ids, string(c))
	}
	return ids
}

// name gives a chunk its short name.
func (s *scenario) name(id chunk.ID) string {
	if s.names[id] == "" {
		n := "c" + strconv.Itoa(len(s.names)+1)
		s.names[id], s.ids[n] = n, id
	}
	return s.names[id]
}

// id finds a chunk by its short name; an unknown name is a chunk that the
// namenode never heard of.
func (s *scenario) id(name string) chunk.ID {
	if _, known := s.ids[name]; !known {
		id := chunk.NewID(1, [10]byte{byte(len(name)), name[0], name[len(name)-1]})
		s.ids[name], s.names[id] = id, name
	}
	return s.ids[name]
}

func (s *scenario) commit(text string) ChunkCommit {
	parts := strings.Split(text, ":")
	name, generation, _ := strings.Cut(parts[0], "@")
	c := ChunkCommit{Chunk: s.id(name)}
	if generation != "" {
		c.Generation = chunk.Generation(number(generation))
	}
	if len(parts) > 1 {
		c.Length = int64(number(parts[1]))
	}
	if len(parts) > 2 {
		c.NodeIDs = letters(parts[2])
	}
	return c
}

func (s *scenario) commits(text string) (commits []ChunkCommit) {
	for _, part := range strings.Split(text, ",") {
		if part != "" {
			commits = append(commits, s.commit(part))
		}
	}
	return commits
}

// replica reads c1@2:100[:open|recovered|corrupt].
func (s *scenario) replica(text string) chunk.Replica {
	state := chunk.Sealed
	for word, st := range map[string]chunk.State{"open": chunk.Open, "recovered": chunk.Recovered,
		"corrupt": chunk.Corrupt} {
		if t, is := strings.CutSuffix(text, ":"+word); is {
			text, state = t, st
		}
	}
	text, leaving := strings.CutSuffix(text, ":leaving")
	c := s.commit(text)
	return chunk.Replica{ID: c.Chunk, Generation: c.Generation, Length: c.Length, State: state, Leaving: leaving}
}

func (s *scenario) replicas(words []string) (replicas []chunk.Replica) {
	for _, w := range words {
		replicas = append(replicas, s.replica(w))
	}
	return replicas
}

// line runs one line and tells what came of it.
func (s *scenario) line(line string) string {
	who, rest, client := strings.Cut(line, ": ")
	if client && len(who) == 1 {
		words := strings.Fields(rest)
		c := who[0]
		if words[0] == "retry" {
			return s.effects(s.step(s.last[c]))
		}
		request := s.mutation(words[0], parse(words[1:]))
		if request == nil {
			s.t.Fatalf("line %q", line)
		}
		id := ClientID{c}
		s.sequence[id]++
		s.last[c] = Command{Client: id, Sequence: s.sequence[id], OldestPending: s.sequence[id], Request: request}
		return s.effects(s.step(s.last[c]))
	}
	words := strings.Fields(line)
	a := parse(words[1:])
	switch words[0] {
	case "pass":
		d, err := time.ParseDuration(a.words[0])
		require.NoError(s.t, err)
		before := len(s.log)
		messages := s.pass(d, a.words[1:]...)
		return s.records(before) + s.messages(messages)
	case "restart":
		before := len(s.log)
		s.harness.restart(a.words...)
		return s.records(before)
	case "register":
		s.racks[a.words[0]] = a.keyed["rack"]
		return s.effects(s.register(a.words[0]))
	case "suspect": // all its disks have errors, or hang
		suspect := volumes()
		suspect[0].Health = datanode.VolumeSuspect
		return s.effects(s.own(&Heartbeat{NodeID: a.words[0], Session: s.sessions[a.words[0]], Volumes: suspect}))
	case "gone":
		return s.effects(s.own(&NodeGone{NodeID: a.words[0], Session: s.sessions[a.words[0]]}))
	case "report":
		return s.effects(s.report(a.words[0], s.replicas(a.words[1:])...))
	case "stored":
		return s.effects(s.stored(a.words[0], s.replicas(a.words[1:])...))
	case "removed":
		return s.effects(s.own(&Delta{NodeID: a.words[0], Session: s.sessions[a.words[0]],
			Removed: s.replicas(a.words[1:])}))
	case "recovered":
		c := s.commit(a.words[1])
		return s.effects(s.own(&RecoverResult{NodeID: a.words[0], Session: s.sessions[a.words[0]],
			RecoverResult: datanode.RecoverResult{Chunk: c.Chunk, Generation: c.Generation,
				Length: c.Length, NodeIDs: c.NodeIDs, Error: a.keyed["error"]}}))
	case "list":
		return s.effects(s.own(&List{Path: a.words[0], After: a.keyed["after"], Limit: uint32(a.number("limit"))}))
	case "stat":
		return s.effects(s.own(&Stat{Path: a.words[0]}))
	case "locate":
		return s.effects(s.own(&Locate{Path: a.words[0], Offset: int64(a.number("offset")),
			Length: int64(a.number("length"))}))
	case "fsck":
		return s.effects(s.own(&Fsck{Path: a.words[0]}))
	case "summary":
		return s.effects(s.own(&Summary{Path: a.words[0]}))
	case "renew":
		return s.effects(s.own(&RenewLeases{Client: ClientID{a.words[0][0]}}))
	case "bad":
		c := s.commit(a.words[0])
		return s.effects(s.own(&ReportBadReplica{Chunk: c.Chunk, Generation: c.Generation, NodeID: a.words[1],
			Reason: "checksum", Missing: a.has("missing")}))
	case "copied":
		c := s.commit(a.words[1])
		result := datanode.CopyResult{Chunk: c.Chunk, Generation: c.Generation, Error: a.keyed["error"]}
		for _, name := range a.keyed["bad"] {
			result.BadSources = append(result.BadSources, string(name))
		}
		return s.effects(s.own(&CopyResult{NodeID: a.words[0], Session: s.sessions[a.words[0]], CopyResult: result}))
	case "verified":
		c := s.commit(a.words[1])
		return s.effects(s.own(&VerifyResult{NodeID: a.words[0], Session: s.sessions[a.words[0]],
			VerifyResult: datanode.VerifyResult{Chunk: c.Chunk, Generation: c.Generation, Bad: a.keyed["bad"] != "",
				Error: a.keyed["error"]}}))
	case "duty":
		span, _ := time.ParseDuration(a.keyed["for"])
		duty := map[string]datanode.Duty{"serve": datanode.DutyServe, "decommission": datanode.DutyDecommission,
			"maintenance": datanode.DutyMaintenance, "forget": datanode.DutyForgotten}[a.words[1]]
		return s.effects(s.own(&SetDuty{NodeID: a.words[0], Duty: duty, For: span}))
	case "status":
		return s.effects(s.own(&ClusterStatus{}))
	case "verdict":
		return s.verdict()
	case "repair":
		request := &Repair{Streams: a.number("streams"), NodeStreams: a.number("node-streams")}
		if a.keyed["bandwidth"] != "" {
			bandwidth := int64(a.number("bandwidth"))
			request.Bandwidth = &bandwidth
		}
		return s.effects(s.own(request))
	case "why":
		if strings.HasPrefix(a.words[0], "/") {
			return s.effects(s.own(&Why{Path: a.words[0]}))
		}
		return s.effects(s.own(&Why{Chunk: s.commit(a.words[0]).Chunk}))
	case "safe-mode":
		action := map[string]SafeModeAction{"get": SafeModeGet, "enter": SafeModeEnter,
			"leave": SafeModeLeave}[a.words[0]]
		return s.effects(s.own(&SafeMode{Action: action}))
	}
	s.t.Fatalf("line %q", line)
	return ""
}

func (s *scenario) mutation(verb string, a args) Request {
	path := ""
	if len(a.words) > 0 {
		path = a.words[0]
	}
	file := uint64(a.number("file"))
	switch verb {
	case "mkdir":
		return &Mkdir{Path: path, Parents: a.has("parents")}
	case "create":
		return &Create{Path: path, Overwrite: a.has("overwrite"), Parents: a.has("parents"),
			Replication: uint32(a.number("replication")),
			ChunkSize:   int64(a.number("size")), VisibleOnComplete: a.has("hidden"),
			ChunkCount:   uint32(a.number("chunks")),
			ExcludeNodes: letters(a.keyed["exclude"]), ClientName: a.keyed["name"]}
	case "add":
		r := &AddChunks{FileID: file, FirstIndex: uint32(a.number("index")), Count: uint32(a.number("count")),
			Commits: s.commits(a.keyed["commits"]), ExcludeNodes: letters(a.keyed["exclude"]),
			AvoidNodes: letters(a.keyed["avoid"])}
		if name := a.keyed["replace"]; name != "" {
			r.ReplaceChunk = s.id(name)
		}
		return r
	case "complete":
		return &Complete{FileID: file, Commits: s.commits(a.keyed["commits"])}
	case "abandon":
		return &Abandon{FileID: file}
	case "append":
		return &Append{Path: path, RecoverLease: a.has("recover"), ClientName: a.keyed["name"]}
	case "recover-pipeline":
		c := s.commit(a.keyed["chunk"])
		return &RecoverPipeline{FileID: file, Chunk: c.Chunk, Generation: c.Generation,
			FailedNodes: letters(a.keyed["failed"]), Grow: a.has("grow")}
	case "update-pipeline":
		c := s.commit(a.keyed["chunk"])
		return &UpdatePipeline{FileID: file, Chunk: c.Chunk, Generation: c.Generation, Length: c.Length,
			NodeIDs: c.NodeIDs}
	case "rename":
		return &Rename{Source: a.words[0], Target: a.words[1], Overwrite: a.has("overwrite")}
	case "remove":
		return &Remove{Path: path, Recursive: a.has("recursive")}
	case "recover-lease":
		return &RecoverLease{Path: path}
	case "setrep":
		return &SetReplication{Path: path, Replication: uint32(a.number("replication"))}
	case "truncate":
		return &Truncate{Path: path, Length: int64(a.number("length"))}
	}
	return nil
}

// records names the records logged since before.
func (s *scenario) records(before int) string {
	var b strings.Builder
	for _, frame := range s.log[before:] {
		r, err := codec.NewDecoder(newRecord).Record(frame)
		require.NoError(s.t, err)
		name := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", r), "*codec."), "Record")
		name = strings.ToLower(name[:1]) + name[1:]
		fmt.Fprintf(&b, "  log %s\n", name)
	}
	return b.String()
}

func (s *scenario) effects(e Effects) string {
	var b strings.Builder
	switch {
	case e.Reply.Err != nil:
		fmt.Fprintf(&b, "%s\n", s.problem(e.Reply.Err))
	case e.Reply.Result != nil:
		b.WriteString(s.result(e.Reply.Result))
	default:
		b.WriteString("ok\n")
	}
	b.WriteString(s.records(len(s.log) - len(e.Records)))
	for _, event := range e.Events {
		if event.Kind == step.EventRecoveryFailed {
			fmt.Fprintf(&b, "  recovery of %s failed: %s (%s)\n", s.name(event.Chunk), event.Text, event.NodeID)
		}
	}
	b.WriteString(s.messages(e.Messages))
	return b.String()
}

func (s *scenario) problem(e *fault.Error) string {
	text := fmt.Sprintf("[%v] %v", e.Kind, e)
	for id, name := range s.names {
		text = strings.ReplaceAll(text, id.String(), name)
	}
	return text
}

func (s *scenario) info(f FileInfo) string {
	switch {
	case f.Directory:
		return fmt.Sprintf("directory %d %q entries=%d", f.FileID, f.Name, f.Children)
	case f.Open:
		return fmt.Sprintf("file %d %q length=%d open", f.FileID, f.Name, f.Length)
	}
	return fmt.Sprintf("file %d %q length=%d", f.FileID, f.Name, f.Length)
}

func (s *scenario) chunk(c LocatedChunk) string {
	state := "sealed"
	if c.Open {
		state = "open"
	}
	return fmt.Sprintf("  %s@%d:%d %s at %d on %s\n", s.name(c.Chunk), c.Generation, c.Length, state, c.Offset,
		s.nodes(c.Replicas))
}

func (s *scenario) nodes(replicas []chunk.Location) string {
	if len(replicas) == 0 {
		return "nothing"
	}
	return strings.Join(nodeIDs(replicas), "")
}

func (s *scenario) result(result any) string {
	var b strings.Builder
	switch r := result.(type) {
	case *MkdirResult:
		b.WriteString(s.info(r.Info) + "\n")
	case *CreateResult:
		b.WriteString(s.info(r.Info) + "\n")
		for _, c := range r.Chunks {
			b.WriteString(s.chunk(c))
		}
	case *AddChunksResult:
		fmt.Fprintf(&b, "%d chunks\n", len(r.Chunks))
		for _, c := range r.Chunks {
			b.WriteString(s.chunk(c))
		}
	case *CompleteResult:
		b.WriteString(s.info(r.Info) + "\n")
	case *AppendResult:
		b.WriteString(s.info(r.Info) + "\n")
		if r.HasLast {
			fmt.Fprintf(&b, "  was @%d\n%s", r.PreviousGeneration, s.chunk(r.Last))
		}
	case *RecoverPipelineResult:
		fmt.Fprintf(&b, "generation %d, survivors %s, replacements %s\n", r.Generation, s.nodes(r.Survivors),
			s.nodes(r.Replacements))
	case *RemoveResult:
		fmt.Fprintf(&b, "removed %d files, %d directories, %d bytes\n", r.Files, r.Directories, r.Bytes)
	case *RecoverLeaseResult:
		fmt.Fprintf(&b, "closed %v\n", r.Closed)
	case *TruncateResult:
		fmt.Fprintf(&b, "%s done=%v\n", s.info(r.Info), r.Done)
	case *ListResult:
		for _, f := range r.Entries {
			b.WriteString(s.info(f) + "\n")
		}
		fmt.Fprintf(&b, "more %v\n", r.More)
	case *StatResult:
		b.WriteString(s.info(r.Info))
		if r.Holder != "" {
			b.WriteString(" held by " + r.Holder)
		}
		b.WriteString("\n")
	case *LocateResult:
		b.WriteString(s.info(r.Info) + "\n")
		for _, c := range r.Chunks {
			b.WriteString(s.chunk(c))
		}
	case *SummaryResult:
		fmt.Fprintf(&b, "%d files, %d directories, %d bytes, %d stored, %d chunks\n", r.Files, r.Directories, r.Bytes,
			r.StoredBytes, r.Chunks)
	case *RenewLeasesResult:
		fmt.Fprintf(&b, "files %v\n", r.FileIDs)
		for _, g := range r.Growable {
			fmt.Fprintf(&b, "  file %d can grow %s\n", g.FileID, s.name(g.Chunk))
		}
	case *SafeModeResult:
		fmt.Fprintf(&b, "on %v: %s\n", r.On, r.Reason)
	case *FsckResult:
		fmt.Fprintf(&b, "files %d, directories %d, bytes %d, chunks by verdict %v\n", r.Files, r.Directories, r.Bytes,
			r.Chunks[1:])
		for _, f := range r.Found {
			fmt.Fprintf(&b, "  %s: verdict %d\n", f.Path, f.Verdict)
			for _, c := range f.Chunks {
				fmt.Fprintf(&b, "    chunk %d %s: verdict %d, wanted %d, confirmed %d, unconfirmed %d, bad %d\n",
					c.Index, s.name(c.Chunk), c.Verdict, c.Wanted, c.Confirmed, c.Unconfirmed, c.Bad)
			}
		}
	case *RepairResult:
		s.repair(&b, &r.RepairStatus)
	case *WhyResult:
		fmt.Fprintf(&b, "examined %d\n", r.Examined)
		for i := range r.Chunks {
			s.explanation(&b, &r.Chunks[i])
		}
	case *ClusterStatusResult:
		fmt.Fprintf(&b, "files %d, chunks %d, under-replicated %d, missing %d, corrupt %d, open %d, safe mode %v\n",
			r.Files, r.Chunks, r.UnderReplicated, r.Missing, r.Unusable, r.OpenFiles, r.SafeMode)
		for _, n := range r.Nodes {
			fmt.Fprintf(&b, "  %s live=%v%s\n", n.NodeID, n.Live, dutyOf(n))
		}
	default:
		b.WriteString("ok\n")
	}
	return b.String()
}

// explanation writes why a chunk is as it is.
func (s *scenario) explanation(b *strings.Builder, e *replicas.Explanation) {
	fmt.Fprintf(b, "chunk %d %s of file %d: verdict %d, lacking %v, since start %v\n", e.Index, s.name(e.Chunk),
		e.FileID, e.Verdict, e.Lacking, e.SinceStart)
	for _, n := range e.Replicas {
		fmt.Fprintf(b, "    %s %s\n", n.NodeID, n.Text)
	}
	fmt.Fprintf(b, "  doing: %s\n  blocked: %s\n", e.Doing, e.Blocked)
}

// repair writes how far the repair is.
func (s *scenario) repair(b *strings.Builder, r *replicas.RepairStatus) {
	fmt.Fprintf(b, "limits %+v, queue %v, leaving %d, away %d, missing %d, running %d, waiting %d, paused %q\n",
		r.Limits, r.Queue, r.Leaving, r.Away, r.Missing, r.Running, r.Waiting, r.Paused)
	fmt.Fprintf(b, "arrived %+v, %.2f/s, %.2f bytes/s, left %v\n", r.Arrived, r.ChunksPerSecond,
		r.BytesPerSecond, r.Left)
	for _, c := range r.Copies {
		fmt.Fprintf(b, "  %s to %s for %v\n", s.name(c.Chunk), c.Name, c.For)
	}
	for _, w := range r.Reasons {
		fmt.Fprintf(b, "  %d of %d, such as %s, blocked %v: %s\n", w.Chunks, r.Examined, s.name(w.Example), w.Blocked,
			w.Text)
	}
}

// verdict describes what a script can wait for.
func (s *scenario) verdict() string {
	o := s.s.replicas.Overview()
	return fmt.Sprintf("verdict %d: under-replicated %d, missing %d, corrupt %d, unconfirmed %d, unreported %d, "+
		"counting %v, copying %d, waiting %d, leaving %d\n", o.Verdict, o.UnderReplicated, o.Missing, o.Unusable,
		o.Unconfirmed, o.Unreported, o.Counting, o.Copying, o.Waiting, o.Leaving)
}

// dutyOf describes the duty of a node that does not serve.
func dutyOf(n NodeStatus) string {
	if n.Progress.Duty == datanode.DutyServe {
		return ""
	}
	return fmt.Sprintf(" duty %d: needed by %d chunks, %d open, done=%v", n.Progress.Duty, n.Progress.Needed,
		n.Progress.Open, n.Progress.Done)
}

func (s *scenario) messages(messages []step.Message) string {
	var b strings.Builder
	for _, m := range messages {
		switch d := m.Body.(type) {
		case *datanode.DeleteReplicas:
			fmt.Fprintf(&b, "  -> %s delete", m.NodeID)
			for _, r := range d.Replicas {
				fmt.Fprintf(&b, " %s@%d", s.name(r.ID), r.Generation)
			}
			b.WriteString("\n")
		case *datanode.RecoverChunk:
			fmt.Fprintf(&b, "  -> %s recover %s to @%d from @%d on %s, length %d\n", m.NodeID, s.name(d.Chunk),
				d.Generation, d.MinimumGeneration, s.nodes(d.Replicas), d.Length)
		case *datanode.CopyReplica:
			fmt.Fprintf(&b, "  -> %s copy %s@%d:%d from %s\n", m.NodeID, s.name(d.Chunk), d.Generation, d.Length,
				s.nodes(d.Sources))
		case *datanode.VerifyReplica:
			fmt.Fprintf(&b, "  -> %s verify %s@%d\n", m.NodeID, s.name(d.Chunk), d.Generation)
		case *datanode.TellReplicas:
			fmt.Fprintf(&b, "  -> %s tell", m.NodeID)
			for _, r := range d.Replicas {
				fmt.Fprintf(&b, " %s@%d", s.name(r.ID), r.Generation)
			}
			b.WriteString("\n")
		case *datanode.SendReport:
			fmt.Fprintf(&b, "  -> %s send a report\n", m.NodeID)
		}
	}
	return b.String()
}
