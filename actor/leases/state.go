package leases

// State is where a file is with its lease. docs/ARCHITECTURE.md (Recovery)
// has the picture; a test holds it to these names.
type State uint8

const (
	leaseClosed State = iota // nobody writes the file
	leaseHeld                // a client has the lease
	// leaseWaiting: the namenode has the lease, and no attempt at the next open
	// chunk is under way: its holders are not known yet, or the next attempt is soon.
	leaseWaiting
	leaseAgreeing // a holder of the next open chunk brings all of them to one length
)

var leaseStates = [...]string{leaseClosed: "closed", leaseHeld: "held", leaseWaiting: "waiting",
	leaseAgreeing: "agreeing"}

// String is the name in documents.
func (s State) String() string { return leaseStates[s] }
