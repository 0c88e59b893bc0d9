// Package placement chooses the datanodes for new replicas: one file for each policy, and a row for it in the table of
// policies, which is the only place that knows the names; docs/operations.md says what each does and reaches.
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
	// PressurePermille is how much of its time the machine's busiest part is busy, CPU or disk: 0..1000.
	PressurePermille int64
	Local            bool // the writer runs on the same machine
}

// Policy chooses where replicas go. An implementation may keep state (a cursor): it is called in command order
// only. It draws randomness only from what it is given.
type Policy interface {
	// Choose picks count of the candidates, or all if there are fewer: positions in the slice, without duplicates,
	// in pipeline order. present holds the racks of replicas that exist already. candidates is not changed.
	Choose(candidates []Candidate, count int, present []string, random *step.Random) []int
}

// named is a row of a table of choices.
type named[T any] struct {
	name   string // in settings
	choice T
}

func names[T any](table []named[T]) []string {
	list := make([]string, len(table))
	for i, row := range table {
		list[i] = row.name
	}
	return list
}

// find returns the zero value if there is no such name.
func find[T any](table []named[T], name string) (choice T) {
	for _, row := range table {
		if row.name == name {
			return row.choice
		}
	}
	return choice
}

// policies has a row for each policy: its name in settings, and what makes one.
var policies = []named[func() Policy]{
	{"weighted", func() Policy { return weighted{} }},
	{"round-robin", func() Policy { return &roundRobin{} }},
	{"rack-spread", func() Policy { return rackSpread{} }},
	{"local-first", func() Policy { return localFirst{} }},
}

// Names lists the policies for settings and messages.
func Names() []string { return names(policies) }

// New makes a policy by name; nil if the name is not known. Without a name the racks of the candidates decide.
func New(name string) Policy {
	if name == "" {
		return byRacks{}
	}
	if empty := find(policies, name); empty != nil {
		return empty()
	}
	return nil
}
