package replicas

import (
	"time"

	"github.com/whispering-woods/ww/internal/limits"
)

// Bounds of what datanodes can make grow, and of the work of one step.
const (
	// NodesMax bounds the node table; indexes are 1..NodesMax.
	NodesMax = 10_000
	// misplacedPerNodeMax bounds the replicas remembered per node that are not in their place (unknown, stale,
	// open, bad); the next full report finds the rest.
	misplacedPerNodeMax = 1 << 20
	// deletesPerNodeMax bounds delete orders waiting for confirmation.
	deletesPerNodeMax = 100_000
	// deletesPerMessage bounds one DeleteReplicas.
	deletesPerMessage = 1000
	// deleteMessagesPerStep bounds DeleteReplicas messages per step.
	deleteMessagesPerStep = 64
	// deleteAttemptsMax is how often an order is sent; the next full report finds the replica again.
	deleteAttemptsMax = 10
	// assessedPerStep bounds the chunks that one step of a sweep assesses, or of which it compares the locations with
	// reports (up to 1 µs each), passedPerStep those that it passes over because they concern no node (≈ 2 ns each).
	assessedPerStep = 1 << 13
	passedPerStep   = 1 << 20
	// reportsAtOnce is how many nodes report in full at a time: each has at most a page of its report in the mailbox,
	// up to 3 ms of work. reportPatience is how long the next page may take until it is another node's turn.
	reportsAtOnce  = 8
	reportPatience = 30 * time.Second
	// assessmentWork and passedWork say what an assessment costs, and how many chunks that are passed over cost as much
	// as one unit of step.Context.Work. repairWorkMost bounds the search for targets of copies in a step.
	assessmentWork = 8
	passedWork     = 32
	repairWorkMost = 1 << 17
	// unheardMost is how long after this namenode became active a chunk with two good replicas may wait for a node in
	// maintenance that has not registered with it: most restarts of a machine take less.
	unheardMost = 10 * time.Minute
	// repairExaminedPerTick and trimsPerTick bound repair work in one Tick,
	// repairExaminedPerCopy that after a copy has arrived or failed.
	repairExaminedPerTick = 8192
	repairExaminedPerCopy = 64
	trimsPerTick          = 1024
	// copyRetriesMax bounds the memory of copies that failed (≈ 64 B each), copyRetryFirst and copyRetryDoublings
	// the wait before the next attempt: 2 s, 4 s, … up to Config.CopyTimeout.
	copyRetriesMax     = 65_536
	copyRetryFirst     = 2 * time.Second
	copyRetryDoublings = 10
	// meterSpans of meterSpan are the minute in which the rate of copies is measured; so much unused time counts for
	// a bound of bytes per second as paceCredit says.
	meterSpans = 12
	meterSpan  = 5 * time.Second
	paceCredit = time.Second
	// waitsExplained and copyNotesMax bound a RepairStatus; each explanation looks at all datanodes.
	waitsExplained = 64
	copyNotesMax   = 64
	// Of a balance: movesMax moves may be under way, movesPerNode to or from one node (it carries out two copies at
	// once). movesWorkPerTick bounds the chunks and nodes that it looks at in one Tick (≈ 0.05 µs each), planWorkMax
	// those of a plan, movesToldMax the moves in one answer; planNodeWork and moveWork say what it costs to note how
	// full a node is, and to begin a move. After moveFailuresMax copies to a node that failed in a row, it is no target
	// any more.
	movesMax         = 4096
	movesPerNode     = 16
	movesWorkPerTick = 1 << 17
	planNodeWork     = 8
	moveWork         = 32
	planWorkMax      = 1 << 18
	movesToldMax     = 1000
	moveFailuresMax  = 5
	// lapsesForgotten is how long a node must not die to be taken for a steady one again.
	lapsesForgotten = 30 * time.Minute
	// verifyOrdersPerTick bounds the repeated orders to verify in one Tick.
	verifyOrdersPerTick = 1024
	// misplacedExaminedPerTick bounds the misplaced replicas looked at in one Tick.
	misplacedExaminedPerTick = 16_384
	// expectedMax bounds the memory of chunks that nodes should soon tell of (16 B each), ConfirmAfter is how long
	// they have time for it, questionsPerMessage bounds one TellReplicas.
	expectedMax         = 65_536
	ConfirmAfter        = 2 * time.Second
	questionsPerMessage = 1000
	// joinWait is the time in which all datanodes that run have registered with a new active namenode: they try every
	// 3 s at least.
	joinWait = 5 * time.Second
	// openAssessedPerTick bounds the chunks being written that are looked at again in one Tick for the nodes they need.
	openAssessedPerTick = 1024
	// A node that registers flappingRegistrations times within flappingWindow is flapping.
	flappingRegistrations = 4
	flappingWindow        = 10 * time.Minute
	// One in slowShare live nodes may be slow, and one of a few; a link is not slow if it is less late than
	// slowLinkFloor.
	slowShare     = 4
	slowLinkFloor = 10 * time.Millisecond
	// replicaNotesMax bounds the replicas that an explanation describes.
	replicaNotesMax = 32
	// holdersInit is room for the nodes of nearly every chunk.
	holdersInit = limits.ReplicationMax + 4
)
