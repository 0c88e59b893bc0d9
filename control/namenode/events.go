package namenode

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
)

// eventTexts are the log lines of the actor's events.
var eventTexts = map[step.EventKind]struct {
	level slog.Level
	text  string
}{
	step.EventNodeRegistered:   {slog.LevelInfo, "datanode is live"},
	step.EventNodeStale:        {slog.LevelWarn, "datanode is stale"},
	step.EventNodeDead:         {slog.LevelWarn, "datanode is dead"},
	step.EventSafeModeEntered:  {slog.LevelInfo, "safe mode entered"},
	step.EventSafeModeLeft:     {slog.LevelInfo, "safe mode left"},
	step.EventLeaseExpired:     {slog.LevelWarn, "lease expired"},
	step.EventRecoveryStarted:  {slog.LevelInfo, "chunk recovery ordered"},
	step.EventRecoveryDone:     {slog.LevelInfo, "chunk recovered"},
	step.EventCopyOrdered:      {slog.LevelInfo, "replica copy ordered"},
	step.EventDeleteOrdered:    {slog.LevelDebug, "replica deletion ordered"},
	step.EventReplicaSuspected: {slog.LevelWarn, "bad replica"},
	step.EventReplicaCleared: {slog.LevelInfo,
		"the datanode verified a replica that a client had called bad: it is good"},
	step.EventReplicaBad: {slog.LevelWarn, "the datanode verified a replica that a client had called bad: it is bad"},
	step.EventReportDone: {slog.LevelInfo, "full chunk report taken"},
}

// event writes one log line; zero fields are left out.
func (l *loop) event(event step.Event) {
	known, ok := eventTexts[event.Kind]
	if !ok {
		known.text = "event"
	}
	if !l.logger.Enabled(context.Background(), known.level) {
		return
	}
	attributes := make([]any, 0, 10)
	if event.NodeID != "" {
		attributes = append(attributes, keyNode, event.NodeID)
	}
	if event.Chunk != (chunk.ID{}) {
		attributes = append(attributes, keyChunk, event.Chunk)
	}
	if event.FileID != 0 {
		attributes = append(attributes, keyFile, event.FileID)
	}
	if event.Count != 0 {
		attributes = append(attributes, keyCount, event.Count)
	}
	if event.Text != "" {
		attributes = append(attributes, "text", event.Text)
	}
	l.logger.Log(context.Background(), known.level, known.text, attributes...)
}
