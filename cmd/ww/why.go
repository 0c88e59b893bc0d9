package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/chunk"
)

func newWhy(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "why [flags] PATH|CHUNK",
		Short: "explain why chunks lack copies, and what is done about it",
		Long: `Explain a chunk (by its id), or those of a file that something is to be done about: where their copies
are, for how long some are lacking, what the cluster does about it, and what stands in the way.

The verdicts are those of ww fsck, and so is the exit code: that of the worst chunk.`,
		Example:           "  ww why /photos/1.jpg\n  ww why 01a20a39-168a-7eb1-bb93-01f0dca57103",
		Args:              arguments(1, 1),
		ValidArgsFunction: program.completeRemote,
		RunE: program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
			if id, err := chunk.ParseID(args[0]); err == nil {
				reason, err := woods.WhyChunk(ctx, id)
				if err != nil {
					return err
				}
				out.reason("", reason)
				return healthError(reason.Health)
			}
			path, err := program.remote(args[0])
			if err != nil {
				return err
			}
			worst, explained := client.Healthy, 0
			chunks, err := woods.Why(ctx, path, func(reason client.ChunkReason) error {
				worst, explained = max(worst, reason.Health), explained+1
				out.reason(path, reason)
				return out.err
			})
			if err != nil {
				return err
			}
			out.object("explained", record{"path": path, "chunks": chunks, "explained": explained,
				"status": worst.String()})
			if explained == 0 {
				out.text("%s: nothing is to be done about its %s", shown(path), count(int(chunks), "chunk"))
			}
			return healthError(worst)
		}),
	}
}

// reason writes why a chunk of a file, if that is known, is as it is.
func (p *printer) reason(path string, reason client.ChunkReason) {
	r := chunkRecord(reason.ChunkHealth)
	copies := []record{}
	for _, c := range reason.Copies {
		copies = append(copies, record{"node": c.NodeID, "name": c.Name, "address": c.Address, "state": c.Text})
	}
	r["path"], r["file_id"], r["copies"] = path, reason.FileID, copies
	r["lacking_seconds"], r["since_start"] = seconds(reason.Lacking), reason.SinceStart
	r["doing"], r["blocked"] = reason.Doing, reason.Blocked
	p.object("why", r)
	name := shown(path)
	if path == "" {
		name = fmt.Sprintf("file %d", reason.FileID)
	}
	p.text("%s  chunk %d  %s: %s, %s%s", name, reason.Index, reason.Chunk, reason.Health,
		copiesText(reason.ChunkHealth), sinceText(reason))
	for _, c := range reason.Copies {
		p.text("  %-21s  %s", c.Name, c.Text)
	}
	if reason.Doing != "" {
		p.text("  what is done: %s", reason.Doing)
	}
	if reason.Blocked != "" {
		p.text("  what blocks it: %s", reason.Blocked)
	}
}

// sinceText says since when a chunk lacks copies.
func sinceText(reason client.ChunkReason) string {
	switch span := reason.Lacking.Round(time.Second); {
	case reason.Health == client.Healthy:
		return ""
	case reason.SinceStart:
		return fmt.Sprintf(", for longer than the namenode is active (%s)", span)
	case reason.Lacking == 0:
		return ", since when is not known"
	default:
		return fmt.Sprintf(", for %s", span)
	}
}
