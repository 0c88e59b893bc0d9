package logserver

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// contentOf is a checkpoint's content in every test; it takes several pieces.
func contentOf(txid uint64) []byte {
	random := rand.New(rand.NewPCG(txid, 1))
	b := make([]byte, 2*limits.CheckpointPieceBytesMax+int(txid%1000)+1)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// upload stores the checkpoint of a txid.
func upload(t *testing.T, l *editlog.Log, grant editlog.Grant, txid uint64) editlog.Checkpoint {
	t.Helper()
	c, err := tryUpload(t, l, grant, txid)
	require.NoError(t, err)
	require.Equal(t, txid, c.Txid)
	require.EqualValues(t, len(contentOf(txid)), c.Bytes)
	return c
}

func tryUpload(t *testing.T, l *editlog.Log, grant editlog.Grant, txid uint64) (editlog.Checkpoint, error) {
	return l.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: txid}, func(w io.Writer) error {
		_, err := w.Write(contentOf(txid))
		return err
	})
}

// download gets a checkpoint and compares it.
func download(t *testing.T, l *editlog.Log, grant editlog.Grant, before uint64) (editlog.Checkpoint, error) {
	t.Helper()
	var got bytes.Buffer
	c, err := l.DownloadCheckpoint(within(t), grant, before, func(_ editlog.Checkpoint, r io.Reader) error {
		_, err := io.Copy(&got, r)
		return err
	})
	if err == nil {
		require.True(t, bytes.Equal(contentOf(c.Txid), got.Bytes()))
	}
	return c, err
}

// append puts records behind a grant's last txid and waits for them.
func appendTo(t *testing.T, l *editlog.Log, grant editlog.Grant, from, to uint64) {
	t.Helper()
	require.NoError(t, tryAppend(t, l, grant, from, to))
}

func tryAppend(t *testing.T, l *editlog.Log, grant editlog.Grant, from, to uint64) error {
	t.Helper()
	grant.LastTxid = from - 1
	w, watch := openAt(t, l, grant)
	defer w.Close()
	for next := from; next <= to; next++ {
		if err := w.Append(within(t), next, recordsOf(next, 1)); err != nil {
			return err
		}
	}
	return watch.waitFor(to)
}

// firstTxid asks a server where its log begins.
func (s *Server) firstTxidOf() uint64 { return s.fsm.firstTxid() }

func TestTheLogIsCutInFrontOfTheOlderOfTwoCheckpoints(t *testing.T) {
	dir := t.TempDir()
	o := options(t, dir)
	server, stop := start(t, o)
	log := dial(t, server.Addr())
	grant, err := log.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	_, err = download(t, log, grant, 0)
	requireKind(t, fault.NotFound, err)

	appendTo(t, log, grant, 1, 3000)
	upload(t, log, grant, 2900)
	require.EqualValues(t, 1, server.firstTxidOf(), "one checkpoint is not enough to cut anything")
	requireRecords(t, log, 1, 3000)

	appendTo(t, log, grant, 3001, 6000)
	upload(t, log, grant, 6000)
	first := server.firstTxidOf()
	require.Greater(t, first, uint64(2900-pointStride))
	require.LessOrEqual(t, first, uint64(2901), "every record behind the older checkpoint stays")
	requireRecords(t, log, first, 6000)
	requireKind(t, fault.Gap, log.Replay(within(t), first-1, 6000, func(editlog.Batch) error { return nil }))
	requireKind(t, fault.Gap, log.Replay(within(t), 1, 6000, func(editlog.Batch) error { return nil }))

	c, err := download(t, log, grant, 0)
	require.NoError(t, err)
	require.EqualValues(t, 6000, c.Txid)
	c, err = download(t, log, grant, 6000)
	require.NoError(t, err)
	require.EqualValues(t, 2900, c.Txid)
	_, err = download(t, log, grant, 2900)
	requireKind(t, fault.NotFound, err)

	// A third one: the first goes, and log files with it.
	appendTo(t, log, grant, 6001, 9000)
	upload(t, log, grant, 8000)
	list, err := os.ReadDir(filepath.Join(dir, checkpoint.Directory))
	require.NoError(t, err)
	require.Len(t, list, checkpoint.KeptCount)
	first = server.firstTxidOf()
	require.Greater(t, first, uint64(6000-pointStride))
	status := log.Status(within(t))[0]
	require.Equal(t, first, status.FirstTxid)
	index, err := server.store.FirstIndex()
	require.NoError(t, err)
	require.Greater(t, index, uint64(5000))
	require.ErrorIs(t, server.store.GetLog(index-1, new(raft.Log)), raft.ErrLogNotFound,
		"a peer must not get what the next start does not have")
	require.NoError(t, server.store.GetLog(index, new(raft.Log)))
	require.Len(t, status.Checkpoints, 2)
	require.EqualValues(t, 8000, status.Checkpoints[0].Txid)

	// The same is there after a restart, orderly or not, and for the tools.
	crashed := copyTree(t, dir)
	stop()
	for _, dir := range []string{dir, crashed} {
		report, err := walcheck.Verify(dir)
		require.NoError(t, err)
		require.Equal(t, first, report.FirstTxid)
		require.EqualValues(t, 9000, report.LastTxid)
		require.Len(t, report.Checkpoints, 2)
		require.True(t, report.Checkpoints[0].Usable(report.CutIndex))
		next := first
		require.NoError(t, walcheck.Dump(dir, func(e walcheck.DumpEntry) error {
			for i, got := range e.Records {
				require.Equal(t, record(e.FirstTxid+uint64(i)), got)
				require.Equal(t, next, e.FirstTxid)
				next++
			}
			return nil
		}))
		require.EqualValues(t, 9001, next)

		o := options(t, dir)
		server, stop := start(t, o)
		log := dial(t, server.Addr())
		require.Equal(t, first, server.firstTxidOf())
		grant, err := log.AcquireEpoch(within(t), "nn")
		require.NoError(t, err)
		require.EqualValues(t, 9000, grant.LastTxid)
		require.EqualValues(t, 2, grant.Epoch)
		requireRecords(t, log, first, 9000)
		requireRecords(t, log, first+777, 9000)
		c, err := download(t, log, grant, 0)
		require.NoError(t, err)
		require.EqualValues(t, 8000, c.Txid)
		appendTo(t, log, grant, 9001, 9100)
		upload(t, log, grant, 9100)
		requireRecords(t, log, server.firstTxidOf(), 9100)
		stop()
	}
}

func TestWhoMayNotUpload(t *testing.T) {
	server, _ := start(t, options(t, t.TempDir()))
	log := dial(t, server.Addr())
	old, err := log.AcquireEpoch(within(t), "old")
	require.NoError(t, err)
	appendTo(t, log, old, 1, 10)
	grant, err := log.AcquireEpoch(within(t), "new")
	require.NoError(t, err)
	nothing := func(w io.Writer) error { _, err := w.Write([]byte("x")); return err }

	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: old, Txid: 5}, nothing)
	requireKind(t, fault.Fenced, err)
	never := grant
	never.Epoch++
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: never, Txid: 5}, nothing)
	requireKind(t, fault.Protocol, err)
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 11}, nothing)
	requireKind(t, fault.Gap, err)
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 0}, nothing)
	requireKind(t, fault.Gap, err)
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 10},
		func(io.Writer) error { return nil })
	requireKind(t, fault.CorruptData, err)
	broken := fmt.Errorf("broken on purpose")
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 10},
		func(io.Writer) error { return broken })
	require.ErrorIs(t, err, broken)

	// Fenced in the middle: it never counts.
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 10}, func(w io.Writer) error {
		if _, err := w.Write(contentOf(10)); err != nil {
			return err
		}
		_, err := log.AcquireEpoch(within(t), "newer")
		return err
	})
	requireKind(t, fault.Fenced, err)
	require.Empty(t, server.keeper.files.All())
	grant.Epoch++
	upload(t, log, grant, 10)
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 9}, nothing)
	requireKind(t, fault.Exists, err)
	_, err = log.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 10}, nothing)
	requireKind(t, fault.Exists, err)
	require.Eventually(t, func() bool {
		list, err := os.ReadDir(filepath.Join(server.options.Directory, checkpoint.Directory))
		return err == nil && len(list) == 1
	}, patience, tick, "what failed leaves nothing")
}

func TestWrongBytesOfAnUploadAreRefused(t *testing.T) {
	server, _ := start(t, options(t, t.TempDir()))
	l := dial(t, server.Addr())
	grant, err := l.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	appendTo(t, l, grant, 1, 10)
	begin := &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{
		Begin: &controlpb.CheckpointInfo{Txid: 10, Epoch: grant.Epoch},
	}}
	good := checkpoint.DataPiece([]byte("content"), 0)
	flipped := checkpoint.DataPiece([]byte("content"), 0)
	flipped.GetData().Data[3] ^= 1
	moved := checkpoint.DataPiece([]byte("content"), 1)
	sum := func(pieces ...*controlpb.CheckpointPiece) *controlpb.CheckpointPiece {
		var content []byte
		for _, p := range pieces {
			content = append(content, p.GetData().Data...)
		}
		return checkpoint.EndPiece(uint64(len(content)), xxh3.Hash(content))
	}
	wrongSum := sum(good)
	wrongSum.GetEnd().Sum++
	wrongBytes := sum(good)
	wrongBytes.GetEnd().Bytes++
	for name, test := range map[string]struct {
		kind   fault.Kind
		pieces []*controlpb.CheckpointPiece
	}{
		"no beginning":  {fault.Protocol, []*controlpb.CheckpointPiece{good}},
		"begun twice":   {fault.Protocol, []*controlpb.CheckpointPiece{begin, begin}},
		"flipped":       {fault.CorruptData, []*controlpb.CheckpointPiece{begin, flipped}},
		"moved":         {fault.CorruptData, []*controlpb.CheckpointPiece{begin, moved}},
		"wrong sum":     {fault.CorruptData, []*controlpb.CheckpointPiece{begin, good, wrongSum}},
		"wrong bytes":   {fault.CorruptData, []*controlpb.CheckpointPiece{begin, good, wrongBytes}},
		"nothing in it": {fault.CorruptData, []*controlpb.CheckpointPiece{begin, sum()}},
		"too large": {fault.Protocol, []*controlpb.CheckpointPiece{begin,
			checkpoint.DataPiece(make([]byte, limits.CheckpointPieceBytesMax+1), 0)}},
		"ends too early": {fault.Protocol, []*controlpb.CheckpointPiece{begin, good}},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := clientOf(t, server).UploadCheckpoint(within(t))
			require.NoError(t, err)
			for _, p := range test.pieces {
				if stream.Send(p) != nil {
					break
				}
			}
			_, err = stream.CloseAndRecv()
			requireKind(t, test.kind, faultOf(err))
			require.Empty(t, server.keeper.files.All())
		})
	}
}

// damage flips a bit of a file.
func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	b := make([]byte, 1)
	_, err = file.ReadAt(b, offset)
	require.NoError(t, err)
	b[0] ^= 0x40
	_, err = file.WriteAt(b, offset)
	require.NoError(t, err)
}

// withCheckpoints fills a directory: records to 3000, checkpoints of 1000, 2000
// and 3000 of which two stay. The server has ended.
func withCheckpoints(t *testing.T) (dir string, first uint64) {
	t.Helper()
	dir = t.TempDir()
	s, stop := start(t, options(t, dir))
	l := dial(t, s.Addr())
	grant, err := l.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	for txid := uint64(1000); txid <= 3000; txid += 1000 {
		appendTo(t, l, grant, txid-999, txid)
		upload(t, l, grant, txid)
	}
	first = s.firstTxidOf()
	require.Greater(t, first, uint64(1000))
	stop()
	return dir, first
}

func TestADamagedCheckpointIsFoundAndTheOlderOneServes(t *testing.T) {
	dir, first := withCheckpoints(t)
	path := func(dir string, txid uint64) string {
		return filepath.Join(dir, checkpoint.Directory, checkpoint.Name(txid, false))
	}
	stat, err := os.Stat(path(dir, 3000))
	require.NoError(t, err)
	for name, offset := range map[string]int64{"head": 50, "content": stat.Size() / 2, "end": stat.Size() - 3} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, dir)
			flip(t, path(dir, 3000), offset)
			report, err := walcheck.Verify(dir)
			requireKind(t, fault.CorruptData, err)
			require.NotNil(t, report)
			require.Error(t, report.Checkpoints[1].Damage)
			server, _ := start(t, options(t, dir))
			log := dial(t, server.Addr())
			grant, err := log.AcquireEpoch(within(t), "nn")
			require.NoError(t, err)
			c, err := download(t, log, grant, 0)
			if name == "content" {
				requireKind(t, fault.CorruptData, err)
				require.EqualValues(t, 3000, c.Txid)
				c, err = download(t, log, grant, c.Txid)
			}
			require.NoError(t, err)
			require.EqualValues(t, 2000, c.Txid)
			requireRecords(t, log, 2001, 3000)
			require.NoError(t, server.Ready(), "the log itself is good")
			require.NotEmpty(t, log.Status(within(t))[0].Checkpoints[0].Error)

			// The next one makes two good ones again: nothing is cut before that, and
			// the damaged one goes only with what is older than both.
			appendTo(t, log, grant, 3001, 4000)
			upload(t, log, grant, 4000)
			require.Equal(t, first, server.firstTxidOf(), "2000 is still the older good one")
			require.Len(t, server.keeper.files.All(), 3)
			appendTo(t, log, grant, 4001, 5000)
			upload(t, log, grant, 5000)
			require.Len(t, server.keeper.files.All(), 2)
			require.Greater(t, server.firstTxidOf(), uint64(3000))
		})
	}
	t.Run("only the namenode sees it", func(t *testing.T) {
		dir := copyTree(t, dir)
		s, _ := start(t, options(t, dir))
		l := dial(t, s.Addr())
		grant, err := l.AcquireEpoch(within(t), "nn")
		require.NoError(t, err)
		appendTo(t, l, grant, 3001, 4000)
		_, err = l.UploadCheckpoint(within(t), editlog.Upload{Grant: grant, Txid: 4000, Unreadable: []uint64{3000}},
			func(w io.Writer) error {
				_, err := w.Write(contentOf(4000))
				return err
			})
		require.NoError(t, err)
		require.Equal(t, first, s.firstTxidOf(), "the log behind 2000 stays")
		c, err := download(t, l, grant, 4000)
		require.NoError(t, err)
		require.EqualValues(t, 2000, c.Txid)
	})
	t.Run("both contents", func(t *testing.T) {
		dir := copyTree(t, dir)
		flip(t, path(dir, 3000), stat.Size()/2)
		flip(t, path(dir, 2000), stat.Size()/2)
		s, _ := start(t, options(t, dir))
		l := dial(t, s.Addr())
		grant, err := l.AcquireEpoch(within(t), "nn")
		require.NoError(t, err)
		_, err = download(t, l, grant, 0)
		requireKind(t, fault.CorruptData, err)
		_, err = download(t, l, grant, 3000)
		requireKind(t, fault.CorruptData, err)
		_, err = download(t, l, grant, 0)
		requireKind(t, fault.NotFound, err)
		requireKind(t, fault.Gap, l.Replay(within(t), 1, 3000, func(editlog.Batch) error { return nil }))
	})
	t.Run("both heads", func(t *testing.T) {
		dir := copyTree(t, dir)
		flip(t, path(dir, 3000), 50)
		flip(t, path(dir, 2000), 50)
		_, err := Start(options(t, dir))
		requireKind(t, fault.CorruptData, err)
		require.ErrorContains(t, err, "checkpoints")
		_, err = walcheck.Verify(dir)
		requireKind(t, fault.CorruptData, err)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, checkpoint.Directory)))
		_, err = Start(options(t, dir))
		requireKind(t, fault.CorruptData, err)
	})
	t.Run("the log is gone", func(t *testing.T) {
		dir := copyTree(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, walcheck.Directory)))
		require.NoError(t, os.Remove(filepath.Join(dir, "mark")))
		_, err := Start(options(t, dir))
		requireKind(t, fault.CorruptData, err)
	})
}

// TestACrashBetweenTheStepsLosesNothing takes the steps of a checkpoint apart:
// published, cut, old ones removed. A copy after each of them starts, serves
// every record behind the older good checkpoint, and finishes the rest.
func TestACrashBetweenTheStepsLosesNothing(t *testing.T) {
	dir := t.TempDir()
	server, _ := start(t, options(t, dir))
	l := dial(t, server.Addr())
	grant, err := l.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	for txid := uint64(1000); txid <= 2000; txid += 1000 {
		appendTo(t, l, grant, txid-999, txid)
		upload(t, l, grant, txid)
	}
	appendTo(t, l, grant, 2001, 3000)

	var states []string
	look := func() { states = append(states, copyTree(t, dir)) }
	head, err := server.keeper.head(&controlpb.CheckpointInfo{Txid: 3000, Epoch: grant.Epoch})
	require.NoError(t, err)
	writer, err := server.keeper.files.Create()
	require.NoError(t, err)
	look() // an empty temporary file
	require.NoError(t, writer.Begin(&head))
	content, offset := contentOf(3000), 0
	require.NoError(t, checkpoint.ReceiveContent(writer, func() (*controlpb.CheckpointPiece, error) {
		look()
		if offset == len(content) {
			return checkpoint.EndPiece(uint64(len(content)), xxh3.Hash(content)), nil
		}
		from := offset
		offset = min(offset+limits.CheckpointPieceBytesMax, len(content))
		return checkpoint.DataPiece(content[from:offset], uint64(from)), nil
	}))
	look()
	_, err = server.keeper.files.Publish(writer, false, func(*checkpoint.Head) error { return nil })
	require.NoError(t, err)
	look()
	published := len(states)
	require.NoError(t, server.keeper.files.Retire(server.store.begins, func(_ uint64, kept checkpoint.File) error {
		require.EqualValues(t, 2000, kept.Head.Txid)
		_, err := server.store.cutHead(kept.Head.Index)
		look()
		return err
	}))
	look()

	for i, state := range states {
		want := []uint64{2000, 1000}
		if i+1 >= published {
			want = []uint64{3000, 2000}
		}
		server, stop := start(t, options(t, state))
		log := dial(t, server.Addr())
		grant, err := log.AcquireEpoch(within(t), "nn")
		require.NoError(t, err, "state %d", i)
		require.EqualValues(t, 3000, grant.LastTxid)
		before := uint64(0)
		for _, txid := range want {
			c, err := download(t, log, grant, before)
			require.NoError(t, err, "state %d", i)
			require.Equal(t, txid, c.Txid)
			before = txid
		}
		requireRecords(t, log, want[1]+1, 3000)
		require.Eventually(t, func() bool {
			list, err := os.ReadDir(filepath.Join(server.options.Directory, checkpoint.Directory))
			return err == nil && len(list) == checkpoint.KeptCount && server.firstTxidOf()+pointStride > want[1]
		}, patience, tick, "state %d: the next start finishes it", i)
		requireRecords(t, log, server.firstTxidOf(), 3000)
		stop()
		_, err = walcheck.Verify(state)
		require.NoError(t, err)
	}
}

const (
	patience = 20 * time.Second
	tick     = 5 * time.Millisecond
)

// clientOf calls a server without editlog in between.
func clientOf(t *testing.T, s *Server) controlpb.EditLogClient {
	t.Helper()
	conn, err := rpc.Dial(s.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return controlpb.NewEditLogClient(conn)
}

func faultOf(err error) error { return rpc.FromStatus(err, "test", "server") }
