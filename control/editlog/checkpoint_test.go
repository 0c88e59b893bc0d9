package editlog

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

type (
	uploadServer   = grpc.ClientStreamingServer[controlpb.CheckpointPiece, controlpb.UploadCheckpointResponse]
	downloadServer = grpc.ServerStreamingServer[controlpb.CheckpointPiece]
)

func (f *fake) UploadCheckpoint(stream uploadServer) error { return f.upload(stream) }

func (f *fake) DownloadCheckpoint(request *controlpb.DownloadCheckpointRequest, stream downloadServer) error {
	return f.download(request, stream)
}

func beginPiece(txid uint64) *controlpb.CheckpointPiece {
	begin := &controlpb.CheckpointInfo{Txid: txid, Epoch: 1}
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{Begin: begin}}
}

func dataPiece(data []byte, offset uint64) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Data{Data: &controlpb.CheckpointData{Data: data,
		Sum: xxh3.HashSeed(data, offset)}}}
}

func endPiece(content []byte) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_End{
		End: &controlpb.CheckpointEnd{Bytes: uint64(len(content)), Sum: xxh3.Hash(content)},
	}}
}

func TestUploadSendsBoundedPiecesWithSums(t *testing.T) {
	content := bytes.Repeat([]byte("whispering woods "), 200_000) // more than three pieces
	var got []byte
	var refusal error
	faked := leader()
	faked.upload = func(stream uploadServer) error {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		got = nil
		for {
			piece, err := stream.Recv()
			if err != nil {
				return err
			}
			if refusal != nil {
				return refusal
			}
			if end := piece.GetEnd(); end != nil {
				if end.Bytes != uint64(len(got)) || end.Sum != xxh3.Hash(got) {
					return errors.New("bad end")
				}
				return stream.SendAndClose(&controlpb.UploadCheckpointResponse{Checkpoint: first.GetBegin()})
			}
			data := piece.GetData()
			if len(data.Data) > limits.CheckpointPieceBytesMax ||
				data.Sum != xxh3.HashSeed(data.Data, uint64(len(got))) {
				return errors.New("bad piece")
			}
			got = append(got, data.Data...)
		}
	}
	address, _ := serve(t, faked)
	log := dial(t, address)
	grant := Grant{Epoch: 7, Address: address}
	write := func(w io.Writer) error {
		for rest := content; len(rest) > 0; { // in odd sizes
			n := min(len(rest), 77_777)
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	}
	c, err := log.UploadCheckpoint(within(t), Upload{Grant: grant, Txid: 42}, write)
	require.NoError(t, err)
	require.Equal(t, uint64(42), c.Txid)
	require.Equal(t, uint64(7), c.Epoch)
	require.True(t, bytes.Equal(content, got))

	refusal = fault.New(fault.NoSpace, "upload", "the disk is full")
	_, err = log.UploadCheckpoint(within(t), Upload{Grant: grant, Txid: 42}, func(w io.Writer) error {
		for {
			if err := write(w); err != nil {
				return err
			}
		}
	})
	require.ErrorIs(t, err, fault.NoSpace, "the server's reason, not that the stream is over")
	_, err = log.UploadCheckpoint(within(t), Upload{Grant: Grant{Epoch: 7, Address: "else:1"}, Txid: 42}, write)
	require.ErrorIs(t, err, fault.Invalid)
}

func TestDownloadVerifiesEverything(t *testing.T) {
	one, two := []byte("whispering "), []byte("woods")
	content := append(bytes.Clone(one), two...)
	flipped := dataPiece(bytes.Clone(two), uint64(len(one)))
	flipped.GetData().Data[0] ^= 1
	wrongEnd := endPiece(content)
	wrongEnd.GetEnd().Sum++
	type script struct {
		pieces []*controlpb.CheckpointPiece
		fails  error
	}
	var serves atomic.Pointer[script] // a call that was given up may still run when the next begins
	faked := leader()
	faked.download = func(request *controlpb.DownloadCheckpointRequest, stream downloadServer) error {
		if request.BeforeTxid == 1 {
			return fault.New(fault.NotFound, "download", "none")
		}
		now := serves.Load()
		for _, p := range now.pieces {
			if err := stream.Send(p); err != nil {
				return err
			}
		}
		return now.fails
	}
	address, _ := serve(t, faked)
	log := dial(t, address)
	grant := Grant{Epoch: 7, Address: address}
	get := func(before uint64) (Checkpoint, []byte, error) {
		var got []byte
		c, err := log.DownloadCheckpoint(within(t), grant, before, func(_ Checkpoint, r io.Reader) (err error) {
			got, err = io.ReadAll(r)
			return err
		})
		return c, got, err
	}
	begin, first, second := beginPiece(9), dataPiece(one, 0), dataPiece(two, uint64(len(one)))
	serves.Store(&script{pieces: []*controlpb.CheckpointPiece{begin, first, second, endPiece(content)}})
	c, got, err := get(0)
	require.NoError(t, err)
	require.Equal(t, uint64(9), c.Txid)
	require.Equal(t, content, got)
	_, _, err = get(1)
	require.ErrorIs(t, err, fault.NotFound)
	// A reader that stops early still learns whether the rest is good.
	c, err = log.DownloadCheckpoint(within(t), grant, 0, func(_ Checkpoint, r io.Reader) error { return nil })
	require.NoError(t, err)
	require.Equal(t, uint64(9), c.Txid)
	broken := errors.New("broken on purpose")
	_, err = log.DownloadCheckpoint(within(t), grant, 0, func(Checkpoint, io.Reader) error { return broken })
	require.ErrorIs(t, err, broken)

	for name, bad := range map[string]struct {
		kind   fault.Kind
		pieces []*controlpb.CheckpointPiece
		fails  error
	}{
		"flipped":   {fault.CorruptData, []*controlpb.CheckpointPiece{begin, first, flipped, endPiece(content)}, nil},
		"swapped":   {fault.CorruptData, []*controlpb.CheckpointPiece{begin, second, first, endPiece(content)}, nil},
		"missing":   {fault.CorruptData, []*controlpb.CheckpointPiece{begin, first, endPiece(content)}, nil},
		"wrong end": {fault.CorruptData, []*controlpb.CheckpointPiece{begin, first, second, wrongEnd}, nil},
		"no end":    {fault.Unavailable, []*controlpb.CheckpointPiece{begin, first, second}, nil},
		"no begin":  {fault.Protocol, []*controlpb.CheckpointPiece{first, second, endPiece(content)}, nil},
		"empty":     {fault.Protocol, []*controlpb.CheckpointPiece{begin, dataPiece(nil, 0), endPiece(nil)}, nil},
		"damaged there": {fault.CorruptData, []*controlpb.CheckpointPiece{begin, first},
			fault.New(fault.CorruptData, "download", "damaged")},
	} {
		serves.Store(&script{bad.pieces, bad.fails})
		c, _, err := get(0)
		require.ErrorIs(t, err, bad.kind, name)
		if name != "no begin" {
			require.Equal(t, uint64(9), c.Txid, "%s: one before it can be asked for", name)
		}
		_, err = log.DownloadCheckpoint(within(t), grant, 0, func(_ Checkpoint, r io.Reader) error { return nil })
		require.ErrorIs(t, err, bad.kind, name)
	}
}
