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
	pace      time.Duration // that its source takes for 64 KiB
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
	source := &pacedSource{Reader: bytes.NewReader(content), pace: s.pace}
	_, err := user.Store(ctx, name, source, int64(len(content)), client.StoreOptions{
		CreateOptions: client.CreateOptions{Parents: true, ChunkSize: chunkSize(s.random)},
	})
	if err != nil {
		return err
	}
	s.names, s.contents[name] = append(s.names, name), content
	return s.judge.accept(ctx, given)
}

// pacedSource is a slow source, which gives the harm time to meet a put.
type pacedSource struct {
	*bytes.Reader
	pace time.Duration
}

func (s *pacedSource) ReadAt(data []byte, offset int64) (int, error) {
	pause(context.Background(), s.pace*time.Duration(len(data))/(64<<10))
	return s.Reader.ReadAt(data, offset)
}

// size favours what goes into packs, and the edges.
func (s *storer) size() int {
	if s.pace > 0 {
		return 1 + s.random.IntN(2<<20)
	}
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
