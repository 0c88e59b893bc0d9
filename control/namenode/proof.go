package namenode

import (
	"errors"
	"io"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/internal/fault"
)

// encodeProved writes what encode writes, and loads it into a state of its own at the same time. The log in front
// of a checkpoint is cut, and a checksum proves only that the bytes are those that were written: that they can be
// loaded has to be seen before they count. It costs the memory of a second state while it runs. Errors: encode's,
// or fault.CorruptData if what it wrote cannot be loaded or is of another txid; then the caller must not let the
// checkpoint count.
func encodeProved(config actor.Config, txid uint64, target io.Writer, encode func(io.Writer) error) error {
	const op = "prove checkpoint"
	scratch, err := actor.New(config)
	if err != nil {
		return &fault.Error{Kind: fault.Internal, Op: op, Err: err}
	}
	reader, writer := io.Pipe()
	loaded := make(chan error, 1)
	go func() {
		err := scratch.ReadCheckpoint(reader, 0)
		_ = reader.CloseWithError(errors.Join(errNotLoadable, err)) // a writer that goes on learns it; it never fails
		loaded <- err
	}()
	err = encode(io.MultiWriter(target, writer))
	_ = writer.CloseWithError(err) // nil is the end; it never fails
	unloadable := <-loaded
	switch {
	case err != nil && !errors.Is(err, errNotLoadable):
		return err
	case unloadable != nil:
		return &fault.Error{Kind: fault.CorruptData, Op: op,
			Reason: "what was encoded cannot be loaded again; it is not kept, and the log stays whole", Err: unloadable}
	case scratch.Txid() != txid:
		return fault.New(fault.CorruptData, op, "it loads as txid %d, not %d; it is not kept, and the log stays whole",
			scratch.Txid(), txid)
	}
	return err
}

// errNotLoadable ends the encoding once the loader has given up.
var errNotLoadable = errors.New("the loader of the checkpoint has ended")
