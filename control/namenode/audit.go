package namenode

import (
	"context"
	"encoding/hex"
	"log/slog"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// audit writes one line per mutation once its outcome is known: who asked for
// what, and what came of it. nil writes nothing.
type audit struct{ logger *slog.Logger }

func newAudit(o Options) *audit {
	if !o.Audit {
		return nil
	}
	return &audit{logger: o.Logger.With("log", "audit")}
}

// subject is what a mutation is about; unset fields are left out.
type subject struct {
	path   string
	target string
	file   uint64
	chunk  chunk.ID
	client string // name, for people
}

func (a *audit) line(ctx context.Context, op string, header *controlpb.MutationHeader, about subject, txid uint64,
	err error) {
	if a == nil || !a.logger.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attributes := make([]slog.Attr, 0, 12)
	attributes = append(attributes, slog.String("op", op))
	attributes = withKnown(attributes, "path", limits.Clip(about.path, auditPathBytes))
	attributes = withKnown(attributes, "target", limits.Clip(about.target, auditPathBytes))
	attributes = withKnown(attributes, keyFile, about.file)
	attributes = withKnown(attributes, keyChunk, about.chunk)
	client := header.GetClientId()
	attributes = append(attributes, slog.String("client", hex.EncodeToString(client[:min(len(client), 16)])),
		slog.Uint64("sequence", header.GetSequence()), slog.String(keyPeer, peerOf(ctx)))
	attributes = withKnown(attributes, "name", limits.Clip(about.client, limits.TextBytesMax))
	if err == nil {
		attributes = append(attributes, slog.String("result", "ok"), slog.Uint64(keyTxid, txid))
	} else {
		result := "error"
		if kind := fault.KindOf(err); kind != 0 {
			result = kind.String()
		}
		attributes = append(attributes, slog.String("result", result),
			slog.String(keyError, limits.Clip(err.Error(), auditPathBytes)))
	}
	a.logger.LogAttrs(ctx, slog.LevelInfo, op, attributes...)
}
