package actor

import (
	"fmt"
	"time"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
	"github.com/whispering-woods/ww/internal/limits"
)

// dispatch runs a command's handler. Mutations of clients pass through mutate.
func (s *State) dispatch(request Request) (any, *fault.Error) {
	switch r := request.(type) {
	case *Mkdir:
		return mutate(s, "mkdir", r, (*State).mkdir)
	case *Create:
		return mutate(s, "create", r, (*State).create)
	case *AddChunks:
		return mutate(s, "add chunks", r, (*State).addMore)
	case *Complete:
		return mutate(s, "complete", r, (*State).complete)
	case *Abandon:
		return mutate(s, "abandon", r, (*State).abandon)
	case *Append:
		return mutate(s, "append", r, (*State).append)
	case *RecoverPipeline:
		return mutate(s, "recover pipeline", r, (*State).recoverPipeline)
	case *UpdatePipeline:
		return mutate(s, "update pipeline", r, (*State).updatePipeline)
	case *Rename:
		return mutate(s, "rename", r, (*State).rename)
	case *Remove:
		return mutate(s, "remove", r, (*State).remove)
	case *RecoverLease:
		return mutate(s, "recover lease", r, (*State).recoverLease)
	case *Truncate:
		return mutate(s, "truncate", r, (*State).truncate)
	case *List:
		return s.list(r)
	case *Stat:
		return s.stat(r)
	case *Locate:
		return s.locate(r)
	case *Summary:
		return s.summary(r)
	case *RenewLeases:
		return s.renewLeases(r)
	case *ReportBadReplica:
		return s.reportBadReplica(r)
	case *ClusterStatus:
		return s.clusterStatus()
	case *SafeMode:
		return s.changeSafeMode(r)
	case *Format:
		return s.format(r)
	case *BecomeActive:
		return s.becomeActive(r)
	case *StepDown:
		s.step.Active = false
		return nil, nil
	case *RegisterNode:
		return s.registerNode(r)
	case *Heartbeat:
		return nil, s.replicas.Nodes.Heartbeat(session(r.NodeID, r.Session), r.Volumes, r.Load)
	case *NodeGone:
		return nil, s.nodeGone(r)
	case *ReportPage:
		return nil, s.replicas.Reports.Page(session(r.NodeID, r.Session), replicas.Page{ReportID: r.ReportID, Number: r.Page, Last: r.Last, Replicas: r.Replicas})
	case *Delta:
		return nil, s.replicas.Reports.Delta(session(r.NodeID, r.Session), r.Stored, r.Removed)
	case *RecoverResult:
		return nil, s.recoverResult(r)
	case *VerifyResult:
		return nil, s.replicas.Suspects.Verified(session(r.NodeID, r.Session), &r.VerifyResult)
	case *Tick:
		s.tick()
		return nil, nil
	}
	return nil, fault.New(fault.Internal, "step", "request %T is not known", request)
}

// mutate holds what all mutations of clients share: only an active namenode
// serves them, a retry gets the first answer, safe mode refuses the rest.
func mutate[R Request](s *State, op string, request R, handler func(*State, R) (any, *fault.Error)) (any, *fault.Error) {
	if !s.step.Active {
		return nil, s.notActive(op)
	}
	c := s.command
	if c.Client == (ClientID{}) || c.Sequence == 0 {
		return nil, fault.New(fault.Invalid, op, "the mutation header has no client id or sequence")
	}
	result, found, forgotten := s.answers.Lookup(c.Client, c.Sequence)
	if found {
		s.effects.Reply.AfterTxid = s.step.Txid
		return result, nil
	}
	if forgotten {
		return nil, fault.New(fault.Invalid, op, "sequence %d was given up by the client (oldest pending), its answer is forgotten", c.Sequence)
	}
	if s.replicas.SafeMode.On() {
		return nil, &fault.Error{Kind: fault.SafeMode, Op: op, Reason: "the namenode is in safe mode: " + s.replicas.SafeMode.Reason(),
			Hint: "try again when the datanodes have reported, or end safe mode by hand"}
	}
	s.leases.Renew(c.Client, s.step.Mono)
	// What a mutation found, or left as it was, may not be durable yet.
	s.effects.Reply.AfterTxid = s.step.Txid
	return handler(s, request)
}

func (s *State) notActive(op string) *fault.Error {
	return &fault.Error{Kind: fault.NotActive, Op: op, Reason: "this namenode is not active", Hint: "ask another namenode"}
}

// prefix begins a record for the command's client.
func (s *State) prefix() codec.Prefix {
	return codec.Prefix{Version: codec.Version, Head: codec.Header{Time: s.step.Now, Client: s.command.Client,
		Sequence: s.command.Sequence, Oldest: s.command.OldestPending}}
}

// ownPrefix begins a record of the namenode's own.
func (s *State) ownPrefix() codec.Prefix {
	return codec.Prefix{Version: codec.Version, Head: codec.Header{Time: s.step.Now}}
}

// log makes a record durable (as an effect) and applies it. Handlers validate
// first, so a record that does not apply is a bug.
func (s *State) log(r codec.Record) (any, *fault.Error) {
	frame, err := s.encoder.Record(r)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "log", Reason: "the request makes too large a record", Err: err}
	}
	result, err := s.applyRecord(r)
	invariants.Assert(err == nil, "record kind %d that was just validated does not apply: %v", r.Kind(), err)
	s.effects.Records = append(s.effects.Records, frame)
	s.effects.Reply.AfterTxid = s.step.Txid
	return result, nil
}

func (s *State) format(r *Format) (any, *fault.Error) {
	if s.step.Txid != 0 {
		return nil, fault.New(fault.Exists, "format", "the log has %d records already", s.step.Txid)
	}
	id := r.ClusterID
	if id == "" {
		id = s.step.Random.ChunkID(s.step.Now).String()
	}
	if len(id) > limits.TextBytesMax {
		return nil, fault.New(fault.Invalid, "format", "the cluster id has %d bytes, at most %d are allowed", len(id), limits.TextBytesMax)
	}
	return s.log(&codec.FormatRecord{Prefix: s.ownPrefix(), ClusterID: id})
}

func (s *State) mkdir(r *Mkdir) (any, *fault.Error) {
	const op = "mkdir"
	if r.Path == "/" {
		if r.Parents {
			return &MkdirResult{Info: s.info(s.tree.Find(namespace.RootID), "")}, nil
		}
		return nil, &fault.Error{Kind: fault.Exists, Op: op, Path: r.Path, Reason: "the root directory is always there"}
	}
	t, err := s.tree.FindTarget(op, r.Path, r.Parents)
	if err != nil {
		return nil, err
	}
	if t.Existing != 0 {
		if r.Parents && s.tree.Inode(t.Existing).Directory() {
			return &MkdirResult{Info: s.info(t.Existing, t.Name)}, nil
		}
		return nil, s.exists(op, r.Path, t.Existing)
	}
	return s.log(&codec.MkdirRecord{Prefix: s.prefix(), Parent: s.tree.Inode(t.Parent).ID(),
		FirstID: s.tree.NextID(), Names: append(t.Directories, t.Name)})
}

func (s *State) exists(op, path string, slot namespace.InodeSlot) *fault.Error {
	what, hint := "a file", "ask for overwrite, or choose another name"
	if s.tree.Inode(slot).Directory() {
		what, hint = "a directory", "choose another name"
	}
	return &fault.Error{Kind: fault.Exists, Op: op, Path: path, Reason: what + " of this name exists", Hint: hint}
}

// leaseHeld tells who holds a file's lease.
func (s *State) leaseHeld(op, path string, o *leases.Lease) *fault.Error {
	e := &fault.Error{Kind: fault.LeaseHeld, Op: op, Path: path, Holder: o.HolderName(), Since: time.UnixMilli(o.Since)}
	if o.Recovering() {
		e.Reason = "the file is being recovered (" + o.Holder + ")"
		e.Hint = "try again in a moment"
		return e
	}
	e.Reason = "another client writes the file"
	if o.Client == s.command.Client {
		e.Reason = "this client has the file open already"
	}
	e.Hint = fmt.Sprintf("its lease was renewed %v ago; it can be taken over %v after its last renewal",
		s.leases.Idle(o.Client, s.step.Mono).Round(time.Second), s.config.LeaseSoftLimit)
	return e
}

// replaceable checks that the inode at a target may be overwritten by the
// command's client, and gives its id; 0 if the target is free.
func (s *State) replaceable(op, path string, existing namespace.InodeSlot, overwrite bool) (uint64, *fault.Error) {
	if existing == 0 {
		return 0, nil
	}
	i := s.tree.Inode(existing)
	if i.Directory() {
		return 0, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: path, Reason: "a directory of this name exists", Hint: "choose another name"}
	}
	if !overwrite {
		return 0, s.exists(op, path, existing)
	}
	if o := s.leases.Of(i.ID()); o != nil && o.Client != s.command.Client {
		return 0, s.leaseHeld(op, path, o)
	}
	return i.ID(), nil
}

func (s *State) create(r *Create) (any, *fault.Error) {
	const op = "create"
	replication, chunkSize := r.Replication, r.ChunkSize
	if replication == 0 {
		replication = s.config.DefaultReplication
	}
	if chunkSize == 0 {
		chunkSize = s.config.DefaultChunkSize
	}
	switch {
	case limits.CheckReplication(replication) != "":
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: limits.CheckReplication(replication)}
	case limits.CheckChunkSize(chunkSize) != "":
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: limits.CheckChunkSize(chunkSize)}
	case r.ChunkCount > limits.ChunksPerCallMax:
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path,
			Reason: limits.CheckCount("chunks in one call", int(r.ChunkCount), limits.ChunksPerCallMax)}
	case len(r.ExcludeNodes) > limits.NodesPerCallMax:
		return nil, limits.TooMany(op, "excluded nodes", len(r.ExcludeNodes), limits.NodesPerCallMax)
	case s.leases.Count() >= openFilesMax:
		return nil, &fault.Error{Kind: fault.Busy, Op: op, Path: r.Path, Reason: fmt.Sprintf("%d files are open, the limit", s.leases.Count())}
	}
	t, err := s.tree.FindTarget(op, r.Path, r.Parents)
	if err != nil {
		return nil, err
	}
	replaced, err := s.replaceable(op, r.Path, t.Existing, r.Overwrite)
	if err != nil {
		return nil, err
	}
	if err := s.replicas.Chooser.EnoughNodes(op, r.Path, int(replication)); err != nil {
		return nil, err
	}
	record := &codec.CreateRecord{Prefix: s.prefix(), Parent: s.tree.Inode(t.Parent).ID(), FirstID: s.tree.NextID(),
		Directories: t.Directories, Name: t.Name, Replication: uint8(replication), Blocks: uint16(chunkSize / chunk.ChecksumBlockBytes),
		Hidden: r.VisibleOnComplete, Overwrite: r.Overwrite, Replaced: replaced, Holder: limits.Clip(r.ClientName, limits.TextBytesMax)}
	if r.VisibleOnComplete {
		// The old file stays until this one is whole.
		record.Replaced = 0
		record.Path = r.Path
	}
	record.Chunks, err = s.replicas.Chooser.Place(op, r.Path, replicas.Wish{Count: int(r.ChunkCount), Replication: int(replication),
		Size: chunkSize, Exclude: r.ExcludeNodes})
	if err != nil {
		return nil, err
	}
	return s.log(record)
}

func (s *State) rename(r *Rename) (any, *fault.Error) {
	const op = "rename"
	if err := limits.CheckPath(op, r.Source); err != nil {
		return nil, err
	}
	if err := limits.CheckPath(op, r.Target); err != nil {
		return nil, err
	}
	if r.Source == "/" {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Source, Reason: "the root directory cannot be renamed"}
	}
	slot, err := s.find(op, r.Source)
	if err != nil {
		return nil, err
	}
	if r.Source == r.Target {
		return &RenameResult{}, nil
	}
	i := s.tree.Inode(slot)
	if i.Directory() && namespace.Within(r.Target, r.Source) {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Source, Reason: fmt.Sprintf("a directory cannot move below itself, to %q", r.Target)}
	}
	t, err := s.tree.FindTarget(op, r.Target, false)
	if err != nil {
		return nil, err
	}
	var replaced uint64
	if t.Existing != 0 {
		if i.Directory() {
			e := s.exists(op, r.Target, t.Existing)
			e.Hint = "a directory replaces nothing; choose another name"
			return nil, e
		}
		if replaced, err = s.replaceable(op, r.Target, t.Existing, r.Overwrite); err != nil {
			return nil, err
		}
	}
	sourcePath, sourceName := namespace.SplitPath(r.Source)
	return s.log(&codec.RenameRecord{Prefix: s.prefix(), Inode: i.ID(),
		SourceParent: s.tree.Inode(s.tree.Lookup(sourcePath).Slot).ID(), SourceName: sourceName,
		TargetParent: s.tree.Inode(t.Parent).ID(), TargetName: t.Name, Replaced: replaced})
}

func (s *State) remove(r *Remove) (any, *fault.Error) {
	const op = "remove"
	slot, err := s.find(op, r.Path)
	if err != nil {
		return nil, err
	}
	if r.Path == "/" {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: r.Path, Reason: "the root directory cannot be removed", Hint: "remove its entries"}
	}
	i := s.tree.Inode(slot)
	if i.Directory() && !r.Recursive && i.Length() > 0 {
		return nil, &fault.Error{Kind: fault.NotEmpty, Op: op, Path: r.Path, Reason: fmt.Sprintf("the directory has %d entries", i.Length()),
			Hint: "remove it recursively"}
	}
	parent, name := namespace.SplitPath(r.Path)
	return s.log(&codec.RemoveRecord{Prefix: s.prefix(), Inode: i.ID(), Parent: s.tree.Inode(s.tree.Lookup(parent).Slot).ID(), Name: name})
}
