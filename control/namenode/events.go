package namenode

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/internal/chunk"
)

// eventTexts says how an actor's event is told in the log.
var eventTexts = map[actor.EventKind]struct {
	level slog.Level
	text  string
}{
	actor.EventNodeRegistered:   {slog.LevelInfo, "datanode is live"},
	actor.EventNodeStale:        {slog.LevelWarn, "datanode is stale"},
	actor.EventNodeDead:         {slog.LevelWarn, "datanode is dead"},
	actor.EventSafeModeEntered:  {slog.LevelInfo, "safe mode entered"},
	actor.EventSafeModeLeft:     {slog.LevelInfo, "safe mode left"},
	actor.EventLeaseExpired:     {slog.LevelWarn, "lease expired"},
	actor.EventRecoveryStarted:  {slog.LevelInfo, "chunk recovery ordered"},
	actor.EventRecoveryDone:     {slog.LevelInfo, "chunk recovered"},
	actor.EventCopyOrdered:      {slog.LevelInfo, "replica copy ordered"},
	actor.EventDeleteOrdered:    {slog.LevelDebug, "replica deletion ordered"},
	actor.EventBadReplica:       {slog.LevelWarn, "bad replica"},
	actor.EventReplicaAcquitted: {slog.LevelInfo, "the datanode verified a replica that a client had called bad: it is good"},
	actor.EventReplicaCondemned: {slog.LevelWarn, "the datanode verified a replica that a client had called bad: it is bad"},
	actor.EventReportDone:       {slog.LevelInfo, "full chunk report taken"},
}

// event writes one log line; zero fields are left out.
func (l *loop) event(e actor.Event) {
	known, ok := eventTexts[e.Kind]
	if !ok {
		known.text = "event"
	}
	if !l.logger.Enabled(context.Background(), known.level) {
		return
	}
	attributes := make([]any, 0, 10)
	if e.NodeID != "" {
		attributes = append(attributes, keyNode, e.NodeID)
	}
	if e.Chunk != (chunk.ID{}) {
		attributes = append(attributes, keyChunk, e.Chunk)
	}
	if e.FileID != 0 {
		attributes = append(attributes, keyFile, e.FileID)
	}
	if e.Count != 0 {
		attributes = append(attributes, keyCount, e.Count)
	}
	if e.Text != "" {
		attributes = append(attributes, "text", e.Text)
	}
	l.logger.Log(context.Background(), known.level, known.text, attributes...)
}
