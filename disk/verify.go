package disk

import (
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// verifier compares replicas with their sums. Whatever decides which replicas to verify, and when, comes above it.
type verifier struct {
	readers    *readers
	quarantine *quarantine
}

// verify is Store.VerifyReplica.
func (c *verifier) verify(id chunk.ID) error {
	const op = "verify replica"
	reader, err := c.readers.open(id, 0)
	if err != nil {
		return err
	}
	defer reader.Close() // cannot fail the first time
	replica := reader.replica
	for range rangeRetriesMax {
		seen := reader.seen(replica.snapshot())
		err := verifyData(reader.file, replica.id, seen, func(int64) error { return nil })
		if err == nil {
			return nil
		}
		if fault.KindOf(err) != fault.CorruptData {
			return replica.ioError(seen, op, err)
		}
		if err := replica.lock(op); err != nil {
			return err
		}
		now := replica.view.snapshot
		switch {
		case replica.gone:
			replica.io.Unlock()
			return notFound(op, id)
		case now.state == chunk.Corrupt:
			replica.io.Unlock()
			return err
		case now.cuts == seen.cuts && now.place == seen.place: // the bytes that were compared have not changed since
			c.quarantine.putLocked(replica, err.Error())
			replica.io.Unlock()
			return err
		}
		replica.io.Unlock()
	}
	return chunkError(fault.Busy, op, id, "the replica was cut while it was verified, %d times", rangeRetriesMax)
}

// verifyData compares a replica's bytes with their sums. It calls wait before each read, with the bytes that it is
// going to read. Error: fault.CorruptData, or that of a read, or of wait.
func verifyData(file vfs.File, id chunk.ID, seen snapshot, wait func(bytes int64) error) error {
	sums, err := seen.sums(file, 0, seen.Length)
	if err != nil {
		return err
	}
	buffer := make([]byte, min(verifyBufferBytes, max(seen.Length, 1)))
	for at := int64(0); at < seen.Length; at += int64(len(buffer)) {
		buffer = buffer[:min(int64(len(buffer)), seen.Length-at)]
		if err := wait(int64(len(buffer))); err != nil {
			return err
		}
		if err := vfs.ReadFull(file, buffer, seen.dataAt()+at); err != nil {
			return err
		}
		for start := 0; start < len(buffer); start += blockBytes {
			data := buffer[start:min(start+blockBytes, len(buffer))]
			block := (at + int64(start)) / blockBytes
			if got, want := xxh3.Hash(data), chunkfile.SumIn(sums, block); got != want {
				return chunkError(fault.CorruptData, "verify replica", id,
					"block %d (bytes %d to %d) has sum %016x, recorded is %016x",
					block, block*blockBytes, block*blockBytes+int64(len(data)), got, want)
			}
		}
	}
	return nil
}
