package actor

import (
	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/fault"
)

// State is the namenode's whole memory. See the package documentation.
type State struct {
	config Config

	// Durable: changed by apply only.
	clusterID string
	created   int64 // Unix ms
	epoch     uint64
	time      int64 // of the last record, Unix ms
	tree      *namespace.Tree
	files     *namespace.Files
	leases    *leases.Leases
	answers   *leases.RetryCache
	replicas  *replicas.Replicas

	expiry  expiry
	encoder *codec.Encoder
	decoder *codec.Decoder

	// Of the command that runs now.
	step    step.Context
	running Command
	command *Command // &running, or nil between steps
	effects Effects
}

// New makes an empty State: no cluster, not active. Defaults fill the zero
// fields of c; an impossible setting is an error.
func New(config Config) (*State, error) {
	config = config.WithDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s := &State{config: config, leases: leases.New(), answers: leases.NewRetryCache(), encoder: codec.NewEncoder(),
		decoder: codec.NewDecoder(newRecord)}
	s.replicas = replicas.New(config.replicas(), &s.step)
	s.tree, s.files = namespace.New(s.replicas)
	s.replicas.Observe(s.files)
	return s, nil
}

// Txid is the last txid applied, durable or not; 0 for an empty State.
func (s *State) Txid() uint64 { return s.step.Txid }

// Items is the number of inodes and chunks: what a checkpoint holds.
func (s *State) Items() uint64 { return uint64(s.tree.Inodes() + s.files.Chunks()) }

// ClusterID is the cluster's id; "" before Format.
func (s *State) ClusterID() string { return s.clusterID }

// Step runs one command. It never blocks, and what it costs is bounded by the
// request's size and limits.go (Remove and Summary: by the subtree's).
func (s *State) Step(c Command) Effects {
	s.running = c
	s.command = &s.running
	s.step.Now = max(c.Now, s.time)
	s.step.Mono = max(c.Mono, s.step.Mono)
	s.step.Random, s.step.Near = step.NewRandom(c.Random), c.Near
	s.step.Work = 0
	s.step.Messages, s.step.Events = s.step.Messages[:0], s.step.Events[:0]
	s.effects = Effects{FirstTxid: s.step.Txid + 1, Records: s.effects.Records[:0]}
	result, err := s.dispatch(c.Request)
	if err != nil {
		s.effects.Reply.Err = err
	} else {
		s.effects.Reply.Result = result
	}
	s.replicas.Settle()
	s.effects.Messages, s.effects.Events = s.step.Messages, s.step.Events
	s.running, s.command = Command{}, nil
	return s.effects
}

// Behind reports whether work is left that concerns all chunks, such as those of a datanode that was lost: a Continue
// does a bounded part of it. A Tick does so too, but seldom.
func (s *State) Behind() bool { return !s.replicas.Backlog.Empty() }

// Replay applies one framed record of the log; txid must be Txid()+1. An error means that the log is damaged or
// that this program cannot follow it: the State must be dropped.
func (s *State) Replay(txid uint64, data []byte) error {
	if s.step.Active {
		return fault.New(fault.Internal, "replay", "this state serves; only a standby replays")
	}
	if txid != s.step.Txid+1 {
		return fault.New(fault.Gap, "replay", "got txid %d, want %d", txid, s.step.Txid+1)
	}
	r, err := s.decoder.Record(data)
	if err != nil {
		return err
	}
	_, err = s.applyRecord(r)
	return err
}

// applyRecord assigns the next txid to a record and applies it: the one path by which
// durable state changes, live and in replay.
func (s *State) applyRecord(record codec.Record) (any, error) {
	head, kind := record.Header(), record.Kind()
	if (s.step.Txid == 0) != (kind == codec.KindFormat) {
		return nil, namespace.Inconsistent("record kind %d at txid %d", kind, s.step.Txid+1)
	}
	if head.Time < s.time {
		return nil, namespace.Inconsistent("time %d is below that of the record before, %d", head.Time, s.time)
	}
	s.step.Txid++
	s.time = head.Time
	s.tree.Begin(s.step.Txid, s.time)
	result, err := recordTypes[kind].apply(s, record)
	if err != nil {
		return nil, err
	}
	s.answers.ForgetIdle(s.time)
	if head.Client != (ClientID{}) {
		if recordTypes[kind].answer == nil || head.Sequence == 0 {
			return nil, namespace.Inconsistent("record kind %d, sequence %d is not a client's", kind, head.Sequence)
		}
		s.answers.Remember(leases.Call{Client: head.Client, Time: head.Time, Sequence: head.Sequence,
			Oldest: head.Oldest}, result)
	}
	return result, nil
}
