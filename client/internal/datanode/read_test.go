package datanode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

const blockBytes = chunk.ChecksumBlockBytes

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient makes a client that may not hold anything at the end of the test.
func newClient(t *testing.T) *Client {
	c := New(Options{DialTimeout: 3 * time.Second, DataTimeout: 2 * time.Second, Bandwidth: NewBandwidth(clock.Real{}),
		Buffers: bufpool.New(), Nodes: health.NewNodes(clock.Real{}), Times: &health.ReadTimes{}, Clock: clock.Real{}})
	t.Cleanup(func() {
		require.Zero(t, c.Buffers.Outstanding())
		require.Zero(t, c.Pool.InUse())
		c.Pool.Close()
	})
	return c
}

func pattern(size int) []byte {
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(i)*0x9E3779B97F4A7C15)
	}
	return b
}

// hostile serves one fixed answer to every request.
func hostile(t testing.TB, answer []byte) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				b := make([]byte, 4096)
				if _, err := c.Read(b); err == nil {
					_, _ = c.Write(answer)
				}
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); group.Wait() })
	return listener.Addr().String()
}

func readAnswer(t testing.TB, reply *wire.ReadReply, data []byte) []byte {
	b, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpReadReply}, reply)
	require.NoError(t, err)
	return append(b, data...)
}

func sumsOf(data []byte) (sums []byte) {
	for i := 0; i < len(data); i += blockBytes {
		sums = binary.LittleEndian.AppendUint64(sums, xxh3.Hash(data[i:min(i+blockBytes, len(data))]))
	}
	return sums
}

func TestRepliesThatDoNotAnswerTheRequestAreRefused(t *testing.T) {
	c := newClient(t)
	data := pattern(2 * blockBytes)
	good := wire.ReadReply{BodyVersion: 1, ReplicaLength: 2 * blockBytes, DataOffset: 0, DataLength: 2 * blockBytes,
		BlockBytes: blockBytes, Sums: sumsOf(data)}
	for name, change := range map[string]func(*wire.ReadReply){
		"another offset": func(r *wire.ReadReply) { r.DataOffset = blockBytes },
		"too much": func(r *wire.ReadReply) {
			r.DataLength, r.ReplicaLength, r.Sums = 3*blockBytes, 3*blockBytes, make([]byte, 24)
		},
		"too few sums":     func(r *wire.ReadReply) { r.Sums = r.Sums[:8] },
		"nothing":          func(r *wire.ReadReply) { r.DataLength, r.Sums = 0, nil },
		"half a block":     func(r *wire.ReadReply) { r.DataLength = blockBytes + 100 },
		"other blocks":     func(r *wire.ReadReply) { r.BlockBytes = 4096; r.Sums = make([]byte, 8*32) },
		"negative":         func(r *wire.ReadReply) { r.DataLength = -1 },
		"beyond the end":   func(r *wire.ReadReply) { r.ReplicaLength = blockBytes },
		"a sum is wrong":   func(r *wire.ReadReply) { r.Sums = append([]byte{1, 2, 3, 4, 5, 6, 7, 8}, r.Sums[8:]...) },
		"no block size":    func(r *wire.ReadReply) { r.BlockBytes = 0 },
		"replica too long": func(r *wire.ReadReply) { r.ReplicaLength = 1 << 50 },
	} {
		t.Run(name, func(t *testing.T) {
			reply := good
			reply.Sums = bytes.Clone(good.Sums)
			change(&reply)
			at := wire.Hop{NodeID: "dn", Address: hostile(t, readAnswer(t, &reply, data))}
			n, _, err := c.Read(t.Context(), at, Range{ID: chunk.ID{1}, Minimum: 1, Offset: 0, Patience: time.Second},
				make([]byte, 2*blockBytes))
			require.Error(t, err)
			require.Zero(t, n)
			var e *fault.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "dn", e.Node)
			require.Equal(t, at.Address, e.Address)
		})
	}
	at := wire.Hop{NodeID: "dn", Address: hostile(t, readAnswer(t, &good, data))}
	p := make([]byte, 1000)
	n, visible, err := c.Read(t.Context(), at,
		Range{ID: chunk.ID{1}, Minimum: 1, Offset: blockBytes - 500, Patience: time.Second}, p)
	require.NoError(t, err)
	require.Equal(t, int64(2*blockBytes), visible)
	require.True(t, bytes.Equal(data[blockBytes-500:blockBytes+500], p[:n]))
}

// FuzzReadReply: whatever a datanode sends, no byte comes out that does not match the checksum that came with it, and
// nothing panics.
func FuzzReadReply(f *testing.F) {
	data := pattern(blockBytes + 100)
	whole := readAnswer(f, &wire.ReadReply{BodyVersion: 1, ReplicaLength: int64(len(data)),
		DataLength: int64(len(data)), BlockBytes: blockBytes, Sums: sumsOf(data)}, data)
	f.Add(whole, int64(0), 200)
	f.Add(whole, int64(blockBytes-50), 100)
	f.Add(whole[:len(whole)-1], int64(0), blockBytes)
	f.Add(whole[:60], int64(3), 9)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"+strings.Repeat(" ", 40)), int64(0), 1)
	f.Fuzz(func(t *testing.T, answer []byte, offset int64, length int) {
		if offset < 0 || offset > chunk.SizeMax || length <= 0 || length > 1<<20 {
			return
		}
		c := newClient(t)
		at := wire.Hop{NodeID: "dn", Address: hostile(t, answer)}
		p := make([]byte, length)
		n, _, err := c.Read(t.Context(), at,
			Range{ID: chunk.ID{1}, Minimum: 1, Offset: offset, Patience: time.Second}, p)
		require.True(t, n >= 0 && n <= length)
		if err != nil {
			require.NotZero(t, fault.KindOf(err))
		}
	})
}

// A host that is gone answers nothing, not even the opening of a connection.
func TestAHostThatIsGoneIsLeftSoon(t *testing.T) {
	t.Parallel()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Close(socket)) }()
	require.NoError(t, unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(socket, 0))
	name, err := unix.Getsockname(socket)
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for full := false; !full; { // then the kernel drops what would open another connection
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if full = err != nil; !full {
			defer conn.Close()
		}
	}
	began := time.Now()
	_, _, err = newClient(t).Read(t.Context(), wire.Hop{NodeID: "dn", Address: address},
		Range{ID: chunk.ID{1}, Patience: 300 * time.Millisecond}, make([]byte, 10))
	require.True(t, Silent(err), "%v", err)
	require.Less(t, time.Since(began), 2*time.Second, "DialTimeout is 3 s here")
}
