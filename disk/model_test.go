package disk

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// modelReplica is what a replica must look like.
type modelReplica struct {
	content    []byte
	generation chunk.Generation
	state      chunk.State
	writer     *Writer
}

// TestStoreBehavesLikeAMap runs random operations on a store and on a map, with
// and without restarts.
func TestStoreBehavesLikeAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := testOptions(simdisk.NewMem())
		o.Directories = []string{"/d", "/e"}
		o.WorkersPerVolume = rapid.IntRange(1, 3).Draw(rt, "workers")
		o.WriteoutStepBytes = 1 << rapid.IntRange(10, 20).Draw(rt, "writeout")
		s, err := Open(o)
		require.NoError(rt, err)
		defer func() { require.NoError(rt, s.Close()) }()
		model := make(map[int]*modelReplica)
		fences := make(map[int]chunk.Generation)
		pick := func(rt *rapid.T) (int, chunk.ID, *modelReplica) {
			n := rapid.IntRange(0, 3).Draw(rt, "chunk")
			return n, testID(n), model[n]
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				n, id, m := pick(rt)
				gen := chunk.Generation(rapid.IntRange(1, 3).Draw(rt, "generation"))
				w, err := s.Create(id, gen, CreateOptions{ChunkSize: testChunkSize, SizeHint: int64(rapid.IntRange(0,
					testChunkSize).Draw(rt, "hint"))})
				switch {
				case m != nil:
					require.ErrorIs(rt, err, fault.Exists)
				case gen < fences[n]:
					require.ErrorIs(rt, err, fault.StaleGeneration)
				default:
					require.NoError(rt, err)
					model[n] = &modelReplica{generation: gen, state: chunk.Open, writer: w}
				}
			},
			"append": func(rt *rapid.T) {
				_, _, m := pick(rt)
				if m == nil || m.writer == nil {
					rt.Skip()
				}
				size := rapid.OneOf(rapid.IntRange(0, 2000),
					rapid.SampledFrom([]int{blockBytes - 1, blockBytes, blockBytes + 1,
						testChunkSize})).Draw(rt, "size")
				data := pattern(rapid.Uint64().Draw(rt, "seed"), size)
				length, err := run(m.writer, Job{Offset: int64(len(m.content)), Data: data,
					Sync: rapid.Bool().Draw(rt, "sync")})
				if len(m.content)+size > testChunkSize {
					require.ErrorIs(rt, err, fault.Invalid)
					return
				}
				require.NoError(rt, err)
				m.content = append(m.content, data...)
				require.EqualValues(rt, len(m.content), length)
				require.EqualValues(rt, length, m.writer.Length())
			},
			"append at a wrong offset": func(rt *rapid.T) {
				_, _, m := pick(rt)
				if m == nil || m.writer == nil {
					rt.Skip()
				}
				_, err := run(m.writer, Job{Offset: int64(len(m.content)) + 1, Data: []byte("x")})
				require.ErrorIs(rt, err, fault.Invalid)
			},
			"seal": func(rt *rapid.T) {
				_, _, m := pick(rt)
				if m == nil || m.writer == nil {
					rt.Skip()
				}
				data := pattern(1, min(rapid.IntRange(0, 1000).Draw(rt, "size"), testChunkSize-len(m.content)))
				_, err := run(m.writer, Job{Offset: int64(len(m.content)), Data: data, Seal: true})
				require.NoError(rt, err)
				m.content = append(m.content, data...)
				_, err = run(m.writer, Job{Offset: int64(len(m.content)), Data: []byte("x")})
				require.ErrorIs(rt, err, fault.Closed)
				m.state, m.writer = chunk.Sealed, nil
			},
			"close": func(rt *rapid.T) {
				_, _, m := pick(rt)
				if m == nil || m.writer == nil {
					rt.Skip()
				}
				_, err := run(m.writer, Job{Close: true})
				require.NoError(rt, err)
				m.writer = nil
			},
			"reopen": func(rt *rapid.T) {
				_, id, m := pick(rt)
				gen := chunk.Generation(rapid.IntRange(1, 6).Draw(rt, "generation"))
				length := int64(rapid.IntRange(0, 1).Draw(rt, "length off by"))
				if m != nil {
					length += int64(len(m.content))
				}
				previous := chunk.Generation(1)
				w, err := s.Reopen(id, previous, gen, length)
				switch {
				case m == nil:
					require.ErrorIs(rt, err, fault.NotFound)
				case gen < m.generation || (gen == m.generation && m.state == chunk.Sealed):
					require.ErrorIs(rt, err, fault.StaleGeneration)
				case length != int64(len(m.content)):
					require.ErrorIs(rt, err, fault.Invalid)
				default:
					require.NoError(rt, err)
					m.takeOver(rt, w, gen)
				}
			},
			"resume": func(rt *rapid.T) {
				_, id, m := pick(rt)
				if m == nil {
					rt.Skip()
				}
				gen := chunk.Generation(rapid.IntRange(1, 6).Draw(rt, "generation"))
				length := rapid.IntRange(0, len(m.content)).Draw(rt, "length")
				w, err := s.Resume(id, 1, gen, int64(length))
				if gen < m.generation || (gen == m.generation && (m.state == chunk.Sealed || length < len(m.content))) {
					require.ErrorIs(rt, err, fault.StaleGeneration)
					return
				}
				require.NoError(rt, err)
				m.content = m.content[:length:length]
				m.takeOver(rt, w, gen)
			},
			"recover what is not there": func(rt *rapid.T) {
				n, id, m := pick(rt)
				if m != nil {
					rt.Skip()
				}
				gen := chunk.Generation(rapid.IntRange(1, 4).Draw(rt, "generation"))
				_, _, err := s.BeginRecovery(id, gen)
				require.ErrorIs(rt, err, fault.NotFound)
				fences[n] = max(fences[n], gen)
			},
			"recover": func(rt *rapid.T) {
				_, id, m := pick(rt)
				if m == nil || m.generation > 50 {
					rt.Skip()
				}
				gen := m.generation + 1
				got, restarted, err := s.BeginRecovery(id, gen)
				require.NoError(rt, err)
				require.Equal(rt, chunk.Replica{ID: id, Generation: m.generation, Length: int64(len(m.content)),
					State: m.state},
					got)
				require.Equal(rt, m.state == chunk.Recovered, restarted)
				require.ErrorIs(rt, s.FinishRecovery(id, gen+1, 0), fault.StaleGeneration)
				require.ErrorIs(rt, s.FinishRecovery(id, gen, int64(len(m.content))+1), fault.Invalid)
				length := rapid.IntRange(0, len(m.content)).Draw(rt, "length")
				require.NoError(rt, s.FinishRecovery(id, gen, int64(length)))
				require.NoError(rt, s.FinishRecovery(id, gen, int64(length)), "again")
				m.fenced(rt)
				m.content, m.generation, m.state = m.content[:length:length], gen, chunk.Sealed
			},
			"delete": func(rt *rapid.T) {
				n, id, m := pick(rt)
				if m == nil {
					require.ErrorIs(rt, s.Delete(id, 1), fault.NotFound)
					return
				}
				require.ErrorIs(rt, s.Delete(id, m.generation+1), fault.StaleGeneration)
				require.NoError(rt, s.Delete(id, m.generation))
				delete(model, n)
			},
			"restart": func(rt *rapid.T) {
				require.NoError(rt, s.Close())
				for _, m := range model {
					if m.state == chunk.Open {
						m.state = chunk.Recovered
					}
					m.writer = nil
				}
				s, err = Open(o)
				require.NoError(rt, err)
				clear(fences)
			},
			"": func(rt *rapid.T) {
				require.Len(rt, s.Replicas(), len(model))
				for n, m := range model {
					got, err := s.Stat(testID(n))
					require.NoError(rt, err)
					require.Equal(rt, chunk.Replica{ID: testID(n), Generation: m.generation,
						Length: int64(len(m.content)),
						State:  m.state}, got)
					data, err := readVerified(s, testID(n))
					require.NoError(rt, err)
					require.Equal(rt, len(m.content), len(data))
					require.Equal(rt, string(m.content), string(data))
					require.NoError(rt, s.VerifyReplica(testID(n)))
					require.NoError(rt, s.ScrubReplica(testID(n)))
				}
			},
		})
	})
}

func (m *modelReplica) takeOver(rt *rapid.T, w *Writer, gen chunk.Generation) {
	m.fenced(rt)
	m.generation, m.state, m.writer = gen, chunk.Open, w
}

// fenced checks that the writer before can do no more.
func (m *modelReplica) fenced(rt *rapid.T) {
	if m.writer != nil {
		_, err := run(m.writer, Job{Offset: m.writer.Length(), Data: []byte("x")})
		require.True(rt, errors.Is(err, fault.StaleGeneration), "%v", err)
	}
	m.writer = nil
}
