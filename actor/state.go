package actor

import (
	"github.com/whispering-woods/ww/internal/fault"
)

// State is the namenode's whole memory. See the package documentation.
type State struct {
	config Config
	txid   uint64
	epoch  uint64
	active bool

	clusterID string
}

// New makes an empty State: no cluster, not active. Defaults fill the zero
// fields of c; an impossible setting is an error.
func New(c Config) (*State, error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &State{config: c}, nil
}

// Step runs one command. It never blocks.
func (s *State) Step(c Command) Effects {
	return Effects{Reply: Reply{Err: fault.New(fault.NotActive, "step", "this namenode is not active")}}
}

// Replay applies one framed record of the log; txid must be Txid()+1. An error
// means that the log and this program disagree: the State must be dropped.
func (s *State) Replay(txid uint64, record []byte) error {
	return nil
}

// Txid is the last txid applied, durable or not; 0 for an empty State.
func (s *State) Txid() uint64 { return s.txid }

// Epoch is the last epoch in the log.
func (s *State) Epoch() uint64 { return s.epoch }

// Active tells whether BecomeActive was stepped and StepDown was not.
func (s *State) Active() bool { return s.active }

// ClusterID is the cluster's id; "" before Format.
func (s *State) ClusterID() string { return s.clusterID }

// Checkpoint encodes all durable state; equal states give equal bytes.
func (s *State) Checkpoint() []byte { return nil }

// LoadCheckpoint restores the state that data encodes into an empty State.
func (s *State) LoadCheckpoint(data []byte) error { return nil }
