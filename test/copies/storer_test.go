package copies

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/whispering-woods/ww/client"
)

// storedMax is how many files a storer keeps; older ones are removed.
const storedMax = 60

// storer puts whole files, and removes old ones.
type storer struct {
	judge     *judge
	random    *rand.Rand
	directory string
	serial    int
	names     []string          // what is there, oldest first
	contents  map[string][]byte // acknowledged
}

func (s *storer) step(ctx context.Context, user *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if len(s.names) > storedMax {
		oldest := s.names[0]
		s.names = s.names[1:]
		delete(s.contents, oldest) // whatever comes of it: nobody asks for it again
		if _, err := user.Remove(ctx, oldest, client.RemoveOptions{}); err != nil {
			return err
		}
	}
	s.serial++
	name := fmt.Sprintf("%s/%d", s.directory, s.serial)
	content := noise(s.random, s.size())
	given := acknowledgement{what: "put", path: name, pieces: []piece{{0, content}}, length: int64(len(content)),
		begun: time.Now()}
	_, err := user.Store(ctx, name, bytes.NewReader(content), int64(len(content)), client.StoreOptions{
		CreateOptions: client.CreateOptions{Parents: true, ChunkSize: chunkSize(s.random)},
	})
	if err != nil {
		return err
	}
	s.names, s.contents[name] = append(s.names, name), content
	return s.judge.accept(ctx, given)
}

// size favours what goes into packs, and the edges.
func (s *storer) size() int {
	switch s.random.IntN(6) {
	case 0:
		return 64 << 10
	case 1:
		return 3*(64<<10) + 17
	case 2:
		return s.random.IntN(1 << 20)
	}
	return 1 + s.random.IntN(48<<10)
}

func (s *storer) leave(context.Context) error { return nil }

func (s *storer) verify(ctx context.Context, user *client.Client) error {
	return verifyAll(ctx, user, s.contents)
}
