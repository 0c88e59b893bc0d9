package namenode

// batches gathers edit records for the log. The last one fills; those before
// it are full. Its owner is the actor goroutine.
type batches struct {
	queue []batch
	// records and bytes bound one batch, Options.BatchRecords and BatchBytes.
	records, bytes int
}

// batch is a run of records with txids first, first+1, ….
type batch struct {
	first   uint64
	records [][]byte
	bytes   int
}

// add puts one record behind the others; records and their bytes are kept.
func (b *batches) add(txid uint64, record []byte) {
	if n := len(b.queue); n > 0 {
		last := &b.queue[n-1]
		if len(last.records) < b.records && last.bytes+len(record) <= b.bytes {
			last.records = append(last.records, record)
			last.bytes += len(record)
			return
		}
	}
	b.queue = append(b.queue, batch{first: txid, records: [][]byte{record}, bytes: len(record)})
}

// full reports whether the loop should step no more commands.
func (b *batches) full() bool { return len(b.queue) > batchesWaitingMax }

func (b *batches) next() *batch {
	if len(b.queue) == 0 {
		return nil
	}
	return &b.queue[0]
}

func (b *batches) drop() {
	b.queue[0] = batch{}
	b.queue = b.queue[1:]
	if len(b.queue) == 0 {
		b.queue = nil
	}
}
