package namenode

import (
	"time"

	"github.com/whispering-woods/ww/internal/limits"
)

// Bounds of a namenode's shell. Its memory, with the defaults, besides that of the
// state machine (docs/operations.md#memory):
//
//	connections  8,192 · ≈ 19 KiB (control/rpc)                         152 MiB
//	calls        mailboxDefault · (a goroutine's 8 KiB + the request)    80 MiB
//	batches      (batchesInFlightDefault + batchesWaitingMax) ·
//	             batchBytesDefault, and their encoding                   16 MiB
//	streams      sessionQueueMax messages of ≈ 250 bytes, for each
//	             datanode that does not read                             1 MiB each
const (
	// requestBytesMax bounds one message from a client or datanode. The largest
	// ones are a page of a report (35 bytes * limits.ReplicasPerMessageMax = 2.2 MiB)
	// and a Complete of a whole file (100 bytes * limits.CommitsPerCallMax).
	requestBytesMax = 4 << 20
	// streamWorkers of the gRPC server keep their grown stacks, so that a call
	// need not grow one anew; calls beyond them get a goroutine each.
	streamWorkers = 64
	// mailboxDefault: commands waiting. At ~3 µs each the last one waits about
	// 25 ms; memory is that of the requests, typically a few hundred bytes each.
	mailboxDefault = 8192
	mailboxMax     = 1 << 20
	// drainCommands: commands stepped between looks at durability and time.
	drainCommands = 512
	// batchRecordsDefault and batchBytesDefault bound one batch, up to what the log accepts; a record is below
	// limits.BatchBytesMin and always fits in one. batchesWaitingMax batches wait while the log accepts no more;
	// then the mailbox is left alone.
	batchRecordsDefault = 4096
	batchBytesDefault   = limits.BatchBytesMax / 2
	batchesWaitingMax   = 2
	// batchesInFlightDefault: one that the log makes durable and one that is on its way there. More only make
	// batches smaller, because the log groups what arrives during one fsync anyway (tuning.md#group-commit).
	batchesInFlightDefault = 2
	batchBytesInFlight     = 16 << 20

	// sessionQueueMax: messages waiting for one datanode. More: its stream is cut; it registers anew and reports.
	sessionQueueMax = 4096
	// sessionsMax: datanode streams at once, registered or not.
	sessionsMax = 20_000

	// checkpointRecordsDefault and checkpointBytesDefault: a checkpoint is taken when so many records, or so many
	// bytes of them, came since the last one, or a checkpointShare-th of the state's inodes and chunks (of the last
	// one's bytes) if that is more. A start then replays a tail of at most that and of what comes while the
	// checkpoint is written (tuning.md#checkpoints).
	checkpointRecordsDefault = 50_000
	checkpointBytesDefault   = 64 << 20
	checkpointShare          = 8
	// checkpointsAskedMax callers may wait to ask for a checkpoint.
	checkpointsAskedMax = 16

	// randomBuffer is read from the source of randomness at a time.
	randomBuffer = 4096
)

// Times of a namenode's shell.
const (
	heartbeatDefault = time.Second
	reportDefault    = 6 * time.Hour
	// checkpointIntervalDefault: one is taken at least so often, if anything has changed.
	checkpointIntervalDefault = time.Hour
	// checkpointAnswerWait: a request for a checkpoint is answered by then, and
	// repeated by the client; well below the time limit of a client's call.
	checkpointAnswerWait = 3 * time.Second
	// checkpointPauseFirst and checkpointPauseMax space attempts that fail.
	checkpointPauseFirst = 10 * time.Second
	checkpointPauseMax   = 5 * time.Minute
	// registerTimeout: a datanode stream that does not register is cut.
	registerTimeout = 10 * time.Second
	// acquireTimeout: one attempt to find the leading log server.
	acquireTimeout = 10 * time.Second
	// restartFirst and restartMax space terms.
	restartFirst = 100 * time.Millisecond
	restartMax   = 2 * time.Second
	// epochInterval: how often the log is asked for a higher epoch.
	epochInterval = time.Second
	// drainTimeout: how long Close waits for what is in flight to the log.
	drainTimeout = 3 * time.Second
	// replayPause: before a replay goes on after a broken stream.
	replayPause    = 200 * time.Millisecond
	replayAttempts = 25
	// pauseLeast: a longer time without any command or tick means that this process did not run.
	pauseLeast = time.Second
)
