package namenode

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/internal/fault"
)

// Only bytes that load as the state that they were made from become a checkpoint.
func TestACheckpointIsLoadedBeforeItCounts(t *testing.T) {
	log := newFakeLog()
	c := startCluster(t, 3, Options{Log: log})
	require.NoError(t, c.client.mkdir("/d"))
	c.write("/d/file", 2, 1234)
	closeServer(t, c.server)
	state := replayed(t, log)
	good := state.Checkpoint()
	pieces := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error {
			for len(b) > 0 {
				n := min(len(b), 37)
				if _, err := w.Write(b[:n]); err != nil {
					return err
				}
				b = b[n:]
			}
			return nil
		}
	}
	var written bytes.Buffer
	require.NoError(t, encodeProved(testConfig(), state.Txid(), &written, pieces(good)))
	require.Equal(t, good, written.Bytes())

	require.ErrorIs(t, encodeProved(testConfig(), state.Txid()+1, io.Discard, pieces(good)), fault.CorruptData)
	require.ErrorIs(t, encodeProved(testConfig(), state.Txid(), io.Discard, pieces(nil)), fault.CorruptData)
	for cut := 1; cut < len(good); cut += 11 {
		require.Error(t, encodeProved(testConfig(), state.Txid(), io.Discard, pieces(good[:cut])), "cut at %d", cut)
	}
	for at := 0; at < len(good); at += 7 {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		require.Error(t, encodeProved(testConfig(), state.Txid(), io.Discard, pieces(bad)), "flipped at %d", at)
	}
	// What is behind the end is read too: nothing may follow.
	require.Error(t, encodeProved(testConfig(), state.Txid(), io.Discard, pieces(append(bytes.Clone(good), 0))))

	broken := errors.New("broken on purpose")
	require.ErrorIs(t, encodeProved(testConfig(), state.Txid(), io.Discard, func(io.Writer) error { return broken }),
		broken)
	require.ErrorIs(t, encodeProved(actor.Config{}, state.Txid(), failingWriter{broken}, pieces(good)), broken)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
