package actor

// leaseState is where a file is with its lease. docs/ARCHITECTURE.md (Recovery)
// has the picture; a test holds it to these names.
type leaseState uint8

const (
	// leaseClosed: nobody writes the file.
	leaseClosed leaseState = iota
	// leaseHeld: a client has the lease.
	leaseHeld
	// leaseWaiting: the namenode took the lease, and no attempt at the next open
	// chunk is under way: its holders are not known yet, or it is tried again soon.
	leaseWaiting
	// leaseAgreeing: a holder of the next open chunk brings all of them to one
	// length.
	leaseAgreeing
)

var leaseStates = [...]string{leaseClosed: "closed", leaseHeld: "held", leaseWaiting: "waiting", leaseAgreeing: "agreeing"}

// String is the name in documents.
func (l leaseState) String() string { return leaseStates[l] }

// leaseState of a file.
func (s *State) leaseState(id uint64) leaseState {
	o := s.open[id]
	r, _ := s.recoveries.Get(id)
	switch {
	case o == nil:
		return leaseClosed
	case !o.recovering():
		return leaseHeld
	case r != nil && r.chunk != 0:
		return leaseAgreeing
	}
	return leaseWaiting
}
