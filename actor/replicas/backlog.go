package replicas

// Backlog is what concerns all chunks and is done in bounded parts: complete reports are compared with what is known,
// chunks are assessed again after a change. A Tick does a part of it, and so does every Continue.
type Backlog struct{ room *Replicas }

// Empty reports whether nothing is left.
func (b *Backlog) Empty() bool {
	return !b.room.step.Active || b.room.sweep.done() && !b.room.Reports.comparing()
}

// GoOn does the next part.
func (b *Backlog) GoOn() {
	if b.room.step.Active {
		b.room.Reports.compare()
		b.room.sweep.goOn()
	}
}
