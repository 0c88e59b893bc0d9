package disk

import (
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
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
		err := verifyData(reader.file, replica.id, seen)
		if err == nil {
			return nil
		}
		if fault.KindOf(err) != fault.CorruptData {
			return replica.ioError(seen, op, err)
		}
		replica.io.Lock()
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

// verifyData compares a replica's bytes with their sums. Error: fault.CorruptData, or that of a read.
func verifyData(f *filecache.File, id chunk.ID, v snapshot) error {
	sums, err := v.sums(f, 0, v.Length)
	if err != nil {
		return err
	}
	buffer := make([]byte, min(verifyBufferBytes, max(v.Length, 1)))
	for at := int64(0); at < v.Length; at += int64(len(buffer)) {
		buffer = buffer[:min(int64(len(buffer)), v.Length-at)]
		if err := vfs.ReadFull(f, buffer, v.dataAt()+at); err != nil {
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
