package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
)

func newFsck(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "fsck [flags] [PATH]",
		Short: "check that all copies of files are there",
		Long: `Show every chunk below PATH (default: everything) that has not as many good copies as wanted, and sum up.

Nothing is repaired here: the cluster does that by itself, and ww why says how far it is. The verdicts:
  healthy           datanodes that have reported to this namenode in full hold as many copies as wanted
  under-replicated  readable, with fewer copies than wanted
  unknown           datanodes that may hold what lacks have not reported yet: ask again in a moment
  corrupt           no good copy is known, but a bad one
  missing           no copy is known
The last line is the worst of them. Exit code 0: healthy; 1: under-replicated;
5: unknown; 6: corrupt or missing.`,
		Example:           "  ww fsck\n  ww fsck --json /photos | jq 'select(.type == \"chunk\")'",
		Args:              arguments(0, 1),
		ValidArgsFunction: program.completeRemote,
		RunE: program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
			path, err := program.remote(cmp.Or(strings.Join(args, ""), program.directory, "/"))
			if err != nil {
				return err
			}
			sum, err := woods.Fsck(ctx, path, out.unhealthy)
			if err != nil {
				return err
			}
			out.examined(path, sum)
			out.text("Status: %s", sum.Health)
			return healthError(sum.Health)
		}),
	}
}

// healthError gives the exit code of a verdict; the text is written already.
func healthError(health client.Health) error {
	code := map[client.Health]int{client.UnderReplicated: exitFailed, client.HealthUnknown: exitUnavailable,
		client.HealthCorrupt: exitCorrupt, client.HealthMissing: exitCorrupt}[health]
	if code == exitOK {
		return nil
	}
	return lastExit{outcome{strings.ReplaceAll(health.String(), "-", "_"), code}}
}

// unhealthy writes the chunks of a file that are not healthy.
func (p *printer) unhealthy(file client.FileHealth) error {
	for _, c := range file.Chunks {
		r := chunkRecord(c)
		r["path"] = file.Path
		p.object("chunk", r)
		p.text("%-16s  %s  chunk %d  %s  %s", c.Health, shown(file.Path), c.Index, c.Chunk, copiesText(c))
	}
	return p.err
}

// chunkRecord is the health of a chunk in JSON.
func chunkRecord(c client.ChunkHealth) record {
	return record{"index": c.Index, "chunk": c.Chunk.String(), "generation": c.Generation, "length": c.Length,
		"open": c.Open, "status": c.Health.String(), "wanted": c.Wanted, "confirmed": c.Confirmed,
		"unconfirmed": c.Unconfirmed, "bad": c.Bad}
}

// copiesText counts the copies of a chunk.
func copiesText(c client.ChunkHealth) string {
	text := fmt.Sprintf("%d of %d copies", c.Confirmed, c.Wanted)
	if c.Unconfirmed > 0 {
		text += fmt.Sprintf(", %d not confirmed yet", c.Unconfirmed)
	}
	if c.Bad > 0 {
		text += fmt.Sprintf(", %d bad", c.Bad)
	}
	if c.Open {
		text += ", being written"
	}
	return text
}

// examined writes what was found below a path.
func (p *printer) examined(path string, sum client.TreeHealth) {
	chunks, files, texts := record{}, record{}, []string{}
	for health := client.Healthy; health <= client.HealthMissing; health++ {
		name := strings.ReplaceAll(health.String(), "-", "_")
		chunks[name], files[name] = sum.ChunksBy[health], sum.FilesBy[health]
		if sum.ChunksBy[health] > 0 || health == client.Healthy {
			texts = append(texts, fmt.Sprintf("%s %d (of %s)", health, sum.ChunksBy[health],
				count(int(sum.FilesBy[health]), "file")))
		}
	}
	p.object("fsck", record{"path": path, "status": sum.Health.String(), "files": sum.Files,
		"directories": sum.Directories, "bytes": sum.Bytes, "chunks_by_status": chunks, "files_by_status": files})
	p.text("%s: files %d, directories %d, %s; chunks: %s", shown(path), sum.Files, sum.Directories,
		size(sum.Bytes, true), strings.Join(texts, ", "))
}
