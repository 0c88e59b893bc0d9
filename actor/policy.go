package actor

// Candidate is a node that a chunk may be placed on.
type Candidate struct {
	// Index names the node inside the State.
	Index uint16
	Rack  string
	// FreeBytes and CapacityBytes over its healthy volumes.
	FreeBytes     int64
	CapacityBytes int64
	// Load is the writes and reads it is busy with, those just placed on it
	// included.
	Load int64
}

// Policy chooses where replicas go. An implementation may keep state (a
// cursor), since it is called in command order only.
type Policy interface {
	// Choose picks count of the candidates (indexes into the slice, no
	// duplicates, in pipeline order), or all if there are fewer. present holds
	// the racks of replicas that exist already. candidates is not changed.
	Choose(candidates []Candidate, count int, present []string, random *Random) []int
}

// Policies is the table of placement policies by name.
var Policies = map[string]func() Policy{
	"weighted": func() Policy { return nil },
}

// Random is a deterministic stream seeded by a command's random bytes.
type Random struct{ seed, counter uint64 }
