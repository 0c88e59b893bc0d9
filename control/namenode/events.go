package namenode

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/actor/step"
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
	step.EventRecoveryFailed:   {slog.LevelWarn, "chunk recovery failed, it is tried again"},
	step.EventCopyOrdered:      {slog.LevelInfo, "replica copy ordered"},
	step.EventDeleteOrdered:    {slog.LevelDebug, "replica deletion ordered"},
	step.EventReplicaSuspected: {slog.LevelWarn, "bad replica"},
	step.EventReplicaCleared: {slog.LevelInfo,
		"the datanode verified a replica that a client had called bad: it is good"},
	step.EventReplicaBad:  {slog.LevelWarn, "the datanode verified a replica that a client had called bad: it is bad"},
	step.EventReportDone:  {slog.LevelInfo, "full chunk report taken"},
	step.EventNodeSlow:    {slog.LevelWarn, "datanode is slow"},
	step.EventNodeNotSlow: {slog.LevelInfo, "datanode is no longer slow"},
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
	attributes := withKnown(make([]slog.Attr, 0, 5), keyNode, event.NodeID)
	attributes = withKnown(attributes, keyChunk, event.Chunk)
	attributes = withKnown(attributes, keyFile, event.FileID)
	attributes = withKnown(attributes, keyCount, event.Count)
	attributes = withKnown(attributes, "text", event.Text)
	l.logger.LogAttrs(context.Background(), known.level, known.text, attributes...)
}

// withKnown adds a value unless it is the zero one.
func withKnown[T comparable](attributes []slog.Attr, key string, value T) []slog.Attr {
	var unknown T
	if value == unknown {
		return attributes
	}
	return append(attributes, slog.Any(key, value))
}
