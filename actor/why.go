package actor

import (
	"cmp"
	"fmt"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/fault"
)

// why explains one chunk, or a page of those of a file that something is to be done about. The cost of a page is
// bounded.
func why(state *State, request *Why) (any, *fault.Error) {
	at := where{"why", request.Path}
	if !state.step.Active {
		return nil, notActive(at.op)
	}
	state.effects.Reply.AfterTxid = state.step.Txid
	examiner := state.replicas.Examine()
	if request.Path == "" {
		slot := state.files.Find(request.Chunk)
		if slot == 0 {
			e := fault.New(fault.NotFound, at.op, "no file has such a chunk")
			e.Chunk = request.Chunk.String()
			return nil, e
		}
		return &WhyResult{Examined: 1, Chunks: []replicas.Explanation{explain(state, &examiner, slot)}}, nil
	}
	file, err := state.find(at)
	if err != nil {
		return nil, err
	}
	if state.tree.Inode(file).Directory() {
		return nil, at.refuse(fault.IsDirectory, "`ww fsck` names the files below it that lack copies",
			"a file is wanted")
	}
	result := &WhyResult{}
	if request.From > 0 && request.From >= state.tree.Inode(file).Chunks() {
		return result, nil
	}
	for slot := state.files.At(file, request.From); slot != 0; slot = state.files.Chunk(slot).Next() {
		if result.Examined == fsckItemsPerPage || len(result.Chunks) == explanationsPerPage {
			result.More, result.Next = true, state.files.Chunk(slot).Index()
			return result, nil
		}
		result.Examined++
		if examiner.Chunk(slot).Verdict != replicas.Healthy || state.replicas.Lacks(slot) {
			result.Chunks = append(result.Chunks, explain(state, &examiner, slot))
		}
	}
	return result, nil
}

// explain adds what a chunk's writer does to what is known of its replicas.
func explain(state *State, examiner *replicas.Examiner, slot namespace.ChunkSlot) replicas.Explanation {
	found := examiner.Explain(slot)
	lease := state.leases.Of(found.FileID)
	if !found.Open || lease == nil {
		return found
	}
	doing := fmt.Sprintf("%s writes it, and takes in other datanodes as it goes on", lease.HolderName())
	if lease.Recovering() {
		doing = cmp.Or(state.replicas.OpenChunks.Waiting(slot), doing)
	}
	if found.Doing != "" {
		doing += "; " + found.Doing
	}
	found.Doing = doing
	return found
}
