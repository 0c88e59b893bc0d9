package disk

import "github.com/whispering-woods/ww/internal/chunk"

// fences are the promises of BeginRecovery for chunks without a replica here: a writer of an older generation, who
// comes late with his first packet, must not begin what has been closed as never written. Called with index.mu held.
//
// They live in memory: a writer is held off as long as one member of his pipeline has not restarted since.
type fences struct {
	generations map[chunk.ID]chunk.Generation
	order       []chunk.ID // oldest at next once it is full; at most fencesMax
	next        int
}

// raise promises that nothing below a generation is created.
func (f *fences) raise(id chunk.ID, generation chunk.Generation) {
	if old, there := f.generations[id]; there {
		f.generations[id] = max(old, generation)
		return
	}
	if f.generations == nil {
		f.generations = make(map[chunk.ID]chunk.Generation)
	}
	if len(f.order) < fencesMax {
		f.order = append(f.order, id)
	} else {
		delete(f.generations, f.order[f.next])
		f.order[f.next] = id
		f.next = (f.next + 1) % fencesMax
	}
	f.generations[id] = generation
}

// allows reports whether a replica of a generation may be created.
func (f *fences) allows(id chunk.ID, generation chunk.Generation) bool {
	return generation >= f.generations[id]
}
