package client

import (
	"context"
	"time"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Health is what the active namenode knows of the copies of a chunk, or of the chunks of a file or tree: the worst of
// them. A higher one is worse. It is verified: healthy means that datanodes which have reported in full since that
// namenode became active hold the copies.
type Health int

// Kinds of health.
const (
	HealthNone      Health = iota // there is no chunk
	Healthy                       // as many copies as wanted
	UnderReplicated               // readable, with fewer copies than wanted
	HealthUnknown                 // datanodes that may hold what lacks have not reported yet
	HealthCorrupt                 // no good copy is known, but a bad one
	HealthMissing                 // no copy is known
)

// String names the health: "under-replicated".
func (h Health) String() string {
	if h == HealthNone {
		return "empty"
	}
	return enumText(controlpb.Health(h), "HEALTH_")
}

// ChunkHealth is the health of one chunk, with what it is drawn from.
type ChunkHealth struct {
	Chunk      chunk.ID
	Generation chunk.Generation
	Index      int   // in its file
	Length     int64 // bytes
	Open       bool  // it is being written
	Health     Health
	// Confirmed copies are on datanodes that have reported in full, Unconfirmed ones on others that are there. Bad ones
	// are corrupt, or said to be and not verified yet.
	Wanted, Confirmed, Unconfirmed, Bad int
}

// FileHealth holds chunks of a file that are not healthy.
type FileHealth struct {
	Path   string
	Open   bool // it is being written
	Health Health
	Chunks []ChunkHealth
}

// TreeHealth sums up what Fsck examined.
type TreeHealth struct {
	Health             Health // the worst; of a tree without chunks Healthy
	Files, Directories int64
	Bytes              int64
	FilesBy, ChunksBy  map[Health]int64 // files without chunks count as healthy
}

// Fsck examines all chunks of the file or tree at path, page after page (each is consistent, the whole is not), and
// calls found with every file that is not healthy; with a large one more than once, with other chunks. An error of
// found ends it. Error: fault.NotFound.
func (c *Client) Fsck(ctx context.Context, path string, found func(FileHealth) error) (TreeHealth, error) {
	what := clean("fsck", &path)
	sum := TreeHealth{Health: Healthy, FilesBy: make(map[Health]int64), ChunksBy: make(map[Health]int64)}
	var last FileHealth // its chunks may go on in the next page
	for request := (&controlpb.FsckRequest{Path: path}); ; {
		page, err := namenode.Ask(ctx, c.namenode, what, controlpb.NamenodeClient.Fsck, request)
		if err != nil {
			return sum, err
		}
		sum.Files += int64(page.GetFiles())
		sum.Directories += int64(page.GetDirectories())
		sum.Bytes += page.GetBytes()
		sum.FilesBy[Healthy] += int64(page.GetFiles())
		for health, count := range page.GetChunks() {
			sum.ChunksBy[Health(health)] += int64(count)
			if count > 0 {
				sum.Health = max(sum.Health, Health(health))
			}
		}
		for _, f := range page.GetFound() {
			file := fileHealth(f)
			if file.Path != last.Path {
				last = FileHealth{Path: file.Path, Health: Healthy}
			}
			if file.Health > last.Health {
				sum.FilesBy[last.Health]--
				sum.FilesBy[file.Health]++
				last.Health = file.Health
			}
			if err := found(file); err != nil {
				return sum, err
			}
		}
		if !page.GetMore() {
			return sum, nil
		}
		request.FromPath, request.FromChunk = page.GetNextPath(), page.GetNextChunk()
	}
}

func fileHealth(f *controlpb.FileHealth) FileHealth {
	out := FileHealth{Path: f.GetPath(), Open: f.GetOpen(), Health: Health(f.GetVerdict())}
	for _, h := range f.GetChunks() {
		out.Chunks = append(out.Chunks, chunkHealth(h))
	}
	return out
}

func chunkHealth(h *controlpb.ChunkHealth) ChunkHealth {
	out := ChunkHealth{Generation: chunk.Generation(h.GetGeneration()), Index: int(h.GetIndex()),
		Length: h.GetLength(), Open: h.GetOpen(), Health: Health(h.GetVerdict()), Wanted: int(h.GetWanted()),
		Confirmed: int(h.GetConfirmed()), Unconfirmed: int(h.GetUnconfirmed()), Bad: int(h.GetBad())}
	copy(out.Chunk[:], h.GetChunkId())
	return out
}

// ChunkReason says of a chunk where its copies are, for how long it lacks some, what is done about that, and what
// stands in the way. The texts are for people; an empty one: nothing.
type ChunkReason struct {
	ChunkHealth

	FileID  uint64
	Copies  []CopyNote
	Lacking time.Duration // it has had fewer copies than wanted; 0: it has enough, or that is not known
	// SinceStart: it is longer than Lacking, for which the namenode that answers has been active.
	SinceStart     bool
	Doing, Blocked string
}

// CopyNote is what is known of a copy, good or not.
type CopyNote struct{ NodeID, Name, Address, Text string }

// Why explains the chunks of the file at path that something is to be done about, one after the other, and returns how
// many it has. An error of found ends it. Errors: fault.NotFound, fault.IsDirectory.
func (c *Client) Why(ctx context.Context, path string, found func(ChunkReason) error) (chunks int64, err error) {
	what := clean("why", &path)
	for request := (&controlpb.WhyRequest{Path: path}); ; {
		page, err := namenode.Ask(ctx, c.namenode, what, controlpb.NamenodeClient.Why, request)
		if err != nil {
			return chunks, err
		}
		chunks += int64(page.GetExamined())
		for _, reason := range page.GetChunks() {
			if err := found(chunkReason(reason)); err != nil {
				return chunks, err
			}
		}
		if !page.GetMore() {
			return chunks, nil
		}
		request.FromChunk = page.GetNextChunk()
	}
}

// WhyChunk explains one chunk, whatever its health. Error: fault.NotFound.
func (c *Client) WhyChunk(ctx context.Context, id chunk.ID) (ChunkReason, error) {
	answer, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "why"}, controlpb.NamenodeClient.Why,
		&controlpb.WhyRequest{ChunkId: id[:]})
	if err != nil {
		return ChunkReason{}, err
	}
	if len(answer.GetChunks()) != 1 {
		return ChunkReason{}, fault.New(fault.Protocol, "why", "the namenode explains %d chunks, asked for one",
			len(answer.GetChunks()))
	}
	return chunkReason(answer.GetChunks()[0]), nil
}

func chunkReason(r *controlpb.ChunkReason) ChunkReason {
	out := ChunkReason{ChunkHealth: chunkHealth(r.GetHealth()), FileID: r.GetFileId(),
		Lacking: milliseconds(r.GetLackingMs()), SinceStart: r.GetSinceStart(), Doing: r.GetDoing(),
		Blocked: r.GetBlocked()}
	for _, n := range r.GetReplicas() {
		out.Copies = append(out.Copies, CopyNote{NodeID: n.GetNodeId(), Name: n.GetName(), Address: n.GetAddress(),
			Text: n.GetText()})
	}
	return out
}
