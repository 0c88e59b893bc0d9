package pipeline

import "time"

// Bounds of one Stream. Memory: WindowBytes and one packet in flight, and one packet in the backlog; after a session
// failed, what was in flight is the backlog.
const (
	FirstBytesMax = 256 << 10 // what may follow OpenWrite before its answer (dataplane's contract)

	// RecoveriesMax bounds attempts to recover a pipeline without any progress between them, recoveriesTotalMax those
	// of one chunk. Without progress they take about 5 s of waiting, beside the timeouts of nodes that hang: the waits
	// double from recoveryWaitFirst to recoveryWaitMost.
	RecoveriesMax      = 8
	recoveriesTotalMax = 64
	recoveryWaitFirst  = 50 * time.Millisecond
	recoveryWaitMost   = 2 * time.Second
	// replacementRounds bounds how often one recovery asks for replacements in the place of those that could not copy.
	replacementRounds = 3
	// copyPatience is how long the disk of a replacement that the chunk could do without may take nothing of its copy.
	copyPatience = 3 * time.Second
	// growPatience bounds how long the namenode is asked for nodes that a pipeline which stands could do without.
	growPatience = 2 * time.Second

	// A node that failed is not used for the chunk for excludedFirst, a slow one for excludedSlow, twice as long each
	// time, up to excludedMost: one that only restarted takes its place again.
	excludedFirst = 4 * time.Second
	excludedSlow  = time.Minute
	excludedMost  = 5 * time.Minute

	// secondLook is how long a session that took its first hop for silent reads what has come meanwhile.
	secondLook = 50 * time.Millisecond

	openPatience = 3 * time.Second // how long hops may take to open their replicas once others have

	// A hop is slow when its share of the time is slowFactor times that of the median of the others, at least
	// slowShareLeast of each ack and half of the whole, over the last slowSteps steps of slowStep and slowSamples acks,
	// reports or silent steps; and the node moves less than Options.SlowBytesPerSecond in all sessions.
	slowFactor     = 5
	slowStep       = 250 * time.Millisecond
	slowSteps      = 12 // three seconds: a disk that commits its journal stands still for one
	slowSamples    = 3
	slowShareLeast = 10 * time.Millisecond
	// slowReport is how often a datanode has to report what packets wait for; slowStepMost: after a longer step it was
	// this process that was held up.
	slowReport   = 200 * time.Millisecond
	slowStepMost = 2 * slowStep
)
