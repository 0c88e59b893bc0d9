// Package placement chooses the datanodes for new replicas: one file for each
// policy, and a row for it in the table of policies. Its name stands in package
// daemon/config too, which may not import this one, and in docs/operations.md.
//
// It owns no state but the cursor of a policy, runs no goroutine, and knows of datanodes only what a Candidate
// says. Which nodes are candidates is decided in package replicas.
package placement

import (
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Candidate is a node that a replica may be placed on.
type Candidate struct {
	Index datanode.Index // names the node inside the state machine
	Rack  string
	// FreeBytes and CapacityBytes over its healthy volumes.
	FreeBytes     int64
	CapacityBytes int64
	// Load is the writes and reads it is busy with, those placed on it since its last heartbeat included.
	Load int64
}

// Policy chooses where replicas go. An implementation may keep state (a cursor): it is called in command order
// only. It draws randomness only from what it is given.
type Policy interface {
	// Choose picks count of the candidates, or all if there are fewer: positions in the slice, without duplicates,
	// in pipeline order. present holds the racks of replicas that exist already. candidates is not changed.
	Choose(candidates []Candidate, count int, present []string, random *step.Random) []int
}

// policies has a row for each policy: its name in settings, and what makes one.
var policies = []struct {
	name  string
	empty func() Policy
}{
	{"weighted", func() Policy { return weighted{} }},
	{"round-robin", func() Policy { return &roundRobin{} }},
	{"rack-spread", func() Policy { return rackSpread{} }},
}

// Names lists the policies for settings and messages.
func Names() []string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.name
	}
	return names
}

// New makes a policy by name; nil if the name is not known. Without a name the racks of the candidates decide.
func New(name string) Policy {
	if name == "" {
		return byRacks{}
	}
	for _, p := range policies {
		if p.name == name {
			return p.empty()
		}
	}
	return nil
}
