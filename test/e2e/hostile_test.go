package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/dataplane/wire"
)

// TestHostileBytes sends what no honest peer sends to every port: the process
// lives on, takes no memory for it, ends the connection, and serves others.
func TestHostileBytes(t *testing.T) {
	system := start(t, cluster.Options{})
	content := bytesOf(1, 700_000)
	mustWW(t, system, "put", localFile(t, content), "/file")
	ports := map[string]int{
		"log server": system.LogPort, "raft": system.RaftPort, "namenode": system.NamenodePort,
		"datanode": system.DataPorts[0],
	}
	pids := pidsOf(system)
	before := map[string]int64{}
	for _, p := range system.Processes() {
		before[p.Name] = residentBytes(t, p, "VmRSS")
	}
	for name, port := range ports {
		for what, b := range hostile(t) {
			t.Run(what+" to the "+name, func(t *testing.T) {
				address := fmt.Sprintf("127.0.0.1:%d", port)
				for range 8 {
					conn, err := net.DialTimeout("tcp4", address, 5*time.Second)
					require.NoError(t, err)
					_, _ = conn.Write(b)                 // the daemon may hang up
					_ = conn.(*net.TCPConn).CloseWrite() // before or after any of it
					require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
					_, err = io.Copy(io.Discard, conn)
					var timeout net.Error
					if errors.As(err, &timeout) && timeout.Timeout() {
						t.Errorf("the connection is still open after 30 s")
					}
					conn.Close()
				}
			})
		}
	}
	require.Equal(t, pids, pidsOf(system), "no process ended")
	for _, p := range system.Processes() {
		grown := residentBytes(t, p, "VmRSS") - before[p.Name]
		require.Less(t, grown, int64(96<<20), "%s grew by %d MiB", p.Name, grown>>20)
	}
	sameBytes(t, content, []byte(mustWW(t, system, "cat", "/file")), "/file")
	mustWW(t, system, "put", localFile(t, content), "/after")
}

// TestStalledPeers opens connections that say nothing, or half a packet, and
// leaves them open: others are served meanwhile.
func TestStalledPeers(t *testing.T) {
	system := start(t, cluster.Options{})
	content := bytesOf(1, 700_000)
	half := dataPacket(t, bytesOf(2, 1000))[:500]
	for _, port := range append([]int{system.LogPort, system.RaftPort, system.NamenodePort}, system.DataPorts...) {
		for i := range 50 {
			conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second)
			require.NoError(t, err)
			defer conn.Close()
			if i%2 == 0 {
				_, err = conn.Write(half)
				require.NoError(t, err)
			}
		}
	}
	for i := range 5 {
		name := fmt.Sprintf("/file-%d", i)
		mustWW(t, system, "put", localFile(t, content), name)
		sameBytes(t, content, []byte(mustWW(t, system, "cat", name)), name)
	}
}

// hostile lists what is sent.
func hostile(t *testing.T) map[string][]byte {
	t.Helper()
	good := dataPacket(t, bytesOf(3, 1000))
	header := func(change func(b []byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		return b
	}
	preface := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	return map[string][]byte{
		"nothing":           nil,
		"one byte":          {0},
		"random bytes":      bytesOf(4, 100_000),
		"zeros":             make([]byte, 1<<20),
		"ones":              bytes.Repeat([]byte{0xff}, 1<<20),
		"an HTTP request":   []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"a TLS greeting":    {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03},
		"an endless line":   bytes.Repeat([]byte("a"), 1<<20),
		"an HTTP/2 preface": preface,
		// Frame of 2^24-1 bytes on stream 0, of a kind that nobody knows.
		"a huge HTTP/2 frame": append(bytes.Clone(preface),
			append([]byte{0xff, 0xff, 0xff, 0xee, 0, 0, 0, 0, 0}, make([]byte, 1<<20)...)...),
		"half a packet":               good[:len(good)/2],
		"half a header":               good[:wire.HeaderBytes/2],
		"a packet without a session":  good,
		"a packet with a wrong sum":   header(func(b []byte) { b[len(b)-1] ^= 1 }),
		"a packet of another version": header(func(b []byte) { b[4] = 99 }),
		"a packet of an unknown op":   header(func(b []byte) { b[5] = 250 }),
		"a packet that claims 4 GiB":  header(func(b []byte) { binary.LittleEndian.PutUint32(b[16:], 1<<32-1) }),
		"a packet one byte over limits": header(func(b []byte) {
			binary.LittleEndian.PutUint32(b[16:], wire.PayloadBytesMax+1)
		}),
		"a body that is no msgpack": sealed(wire.Header{Op: wire.OpOpenRead}, bytes.Repeat([]byte{0xc1}, 100)),
		"a body that claims a huge array": sealed(wire.Header{Op: wire.OpOpenWrite},
			[]byte{0xdd, 0xff, 0xff, 0xff, 0xff, 0x01}),
		"a body that claims huge bytes": sealed(wire.Header{Op: wire.OpOpenRead},
			[]byte{0x95, 0x01, 0xc6, 0xff, 0xff, 0xff, 0xff}),
		"an empty body":                  sealed(wire.Header{Op: wire.OpOpenWrite}, nil),
		"an answer instead of a request": sealed(wire.Header{Op: wire.OpReadReply}, []byte{0x90}),
		"a read of a chunk with a short id": openRead(t,
			wire.OpenRead{BodyVersion: 1, ChunkID: []byte{1, 2, 3}, Length: -1}),
		"a read from a negative offset": openRead(t, wire.OpenRead{BodyVersion: 1, ChunkID: make([]byte, 16),
			Offset: -5, Length: 10}),
		"a read of 2^63-1 bytes": openRead(t, wire.OpenRead{BodyVersion: 1, ChunkID: make([]byte, 16),
			Length: 1<<63 - 1}),
		"a raft command with a huge payload": append([]byte{0x01},
			bytes.Repeat([]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, 1000)...),
	}
}

func dataPacket(t *testing.T, payload []byte) []byte {
	t.Helper()
	return sealed(wire.Header{Op: wire.OpData, Seqno: 1}, payload)
}

// sealed builds a packet whose checksum is right.
func sealed(h wire.Header, payload []byte) []byte {
	b := make([]byte, wire.HeaderBytes, wire.HeaderBytes+len(payload))
	h.Length = uint32(len(payload))
	b = append(b, payload...)
	wire.PutHeader(b, h)
	wire.Seal(b)
	return b
}

func openRead(t *testing.T, body wire.OpenRead) []byte {
	t.Helper()
	b, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenRead}, &body)
	require.NoError(t, err)
	return b
}

func pidsOf(system *cluster.Cluster) map[string]int {
	out := map[string]int{}
	for _, p := range system.Processes() {
		out[p.Name] = p.Pid()
	}
	return out
}

// residentBytes reads a memory figure of a process: VmRSS now, VmHWM at most so
// far.
func residentBytes(t *testing.T, process *cluster.Process, figure string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Pid()))
	require.NoError(t, err, process.Name)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, figure+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			require.NoError(t, err)
			return kib << 10
		}
	}
	require.Fail(t, "no "+figure+" of "+process.Name)
	return 0
}
