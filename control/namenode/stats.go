package namenode

import "sync/atomic"

// Stats counts what a namenode has done since it started.
type Stats struct {
	Commands  uint64 // stepped
	Records   uint64 // edit records appended to the log
	Batches   uint64 // that carried them
	Busy      uint64 // calls refused because the mailbox was full
	Skipped   uint64 // calls whose caller had gone
	Terms     uint64 // times it became active
	Streams   uint64 // datanode streams that registered
	Cut       uint64 // datanode streams cut because their queue was full
	Malformed uint64 // requests and datanode messages refused before a step

	Checkpoints        uint64 // stored
	CheckpointsFailed  uint64 // attempts that stored none
	CheckpointsDamaged uint64 // that a start could not read
}

type counters struct {
	commands, records, batches, busy, skipped, terms, streams, cut, malformed, checkpoints, checkpointsFailed,
	checkpointsDamaged atomic.Uint64
}

// Stats is a snapshot; each number only rises.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{Commands: c.commands.Load(), Records: c.records.Load(), Batches: c.batches.Load(), Busy: c.busy.Load(),
		Skipped: c.skipped.Load(), Terms: c.terms.Load(), Streams: c.streams.Load(), Cut: c.cut.Load(),
		Malformed:   c.malformed.Load(),
		Checkpoints: c.checkpoints.Load(), CheckpointsFailed: c.checkpointsFailed.Load(),
		CheckpointsDamaged: c.checkpointsDamaged.Load()}
}
