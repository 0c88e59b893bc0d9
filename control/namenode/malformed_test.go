package namenode

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// badPaths no request may name; the part after "=" is in the reason.
func badPaths() map[string]string {
	return map[string]string{
		"":                                  "begin with",
		"relative":                          "begin with",
		"//":                                "empty",
		"/a//b":                             "empty",
		"/a/":                               "empty",
		"/a/./b":                            `"."`,
		"/a/../b":                           `".."`,
		"/..":                               `".."`,
		"/a\x00b":                           "NUL",
		"/\xff":                             "UTF-8",
		"/é\xc3":                            "UTF-8",
		"/" + strings.Repeat("n", 256):      "256 bytes",
		strings.Repeat("/a", 4097):          "4097 elements",
		"/" + strings.Repeat("n/", 300_000): "bytes",
	}
}

func TestBadPaths(t *testing.T) {
	cluster := startCluster(t, 0, Options{Log: newFakeLog()})
	direct := &service{server: cluster.server}
	ctx := context.Background()
	for path, want := range badPaths() {
		for name, call := range map[string]func() error{
			"mkdir": func() error {
				_, err := direct.Mkdir(ctx, &controlpb.MkdirRequest{Header: cluster.client.header(), Path: path})
				return err
			},
			"create": func() error {
				_, err := direct.Create(ctx, &controlpb.CreateRequest{Header: cluster.client.header(), Path: path})
				return err
			},
			"append": func() error {
				_, err := direct.Append(ctx, &controlpb.AppendRequest{Header: cluster.client.header(), Path: path})
				return err
			},
			"remove": func() error {
				_, err := direct.Remove(ctx, &controlpb.RemoveRequest{Header: cluster.client.header(), Path: path})
				return err
			},
			"rename": func() error {
				_, err := direct.Rename(ctx,
					&controlpb.RenameRequest{Header: cluster.client.header(), Source: path, Target: "/x"})
				return err
			},
			"rename to": func() error {
				_, err := direct.Rename(ctx,
					&controlpb.RenameRequest{Header: cluster.client.header(), Source: "/x", Target: path})
				return err
			},
			"truncate": func() error {
				_, err := direct.Truncate(ctx, &controlpb.TruncateRequest{Header: cluster.client.header(), Path: path})
				return err
			},
			"recover lease": func() error {
				_, err := direct.RecoverLease(ctx,
					&controlpb.RecoverLeaseRequest{Header: cluster.client.header(), Path: path})
				return err
			},
			"list": func() error { _, err := direct.List(ctx, &controlpb.ListRequest{Path: path}); return err },
			"stat": func() error { _, err := direct.Stat(ctx, &controlpb.StatRequest{Path: path}); return err },
			"summary": func() error {
				_, err := direct.Summary(ctx, &controlpb.SummaryRequest{Path: path})
				return err
			},
			"locate": func() error { _, err := direct.Locate(ctx, &controlpb.LocateRequest{Path: path}); return err },
		} {
			err := call()
			require.ErrorIs(t, err, fault.Invalid, "%s %.20q", name, path)
			if path != "" || name != "locate" {
				require.Contains(t, err.Error(), want, "%s %.20q", name, path)
			}
		}
		if strings.ToValidUTF8(path, "") == path { // else protobuf refuses it before it is sent
			require.ErrorIs(t, cluster.client.mkdir(path), fault.Invalid, "%.20q over the wire", path)
		} else {
			require.Error(t, cluster.client.mkdir(path))
		}
	}
	require.NoError(t, cluster.client.mkdir("/"+strings.Repeat("n", 255)))
	require.Len(t, cluster.client.names("/", 0), 1)
}

func TestMalformedRequests(t *testing.T) {
	cluster := startCluster(t, 0, Options{Log: newFakeLog()})
	ctx := contextOf(t)
	id := make([]byte, 16)
	id[3] = 9
	header := cluster.client.header
	mkdir := func(h *controlpb.MutationHeader) error {
		_, err := cluster.client.Mkdir(ctx, &controlpb.MkdirRequest{Header: h, Path: "/a"})
		return err
	}
	create := func(change func(*controlpb.CreateRequest)) func() error {
		return func() error {
			m := &controlpb.CreateRequest{Header: header(), Path: "/a"}
			change(m)
			_, err := cluster.client.Create(ctx, m)
			return err
		}
	}
	complete := func(commit *controlpb.ChunkCommit) func() error {
		return func() error {
			_, err := cluster.client.Complete(ctx,
				&controlpb.CompleteRequest{Header: header(), FileId: 1, Commits: []*controlpb.ChunkCommit{commit}})
			return err
		}
	}
	add := func(change func(*controlpb.AddChunksRequest)) func() error {
		return func() error {
			m := &controlpb.AddChunksRequest{Header: header(), FileId: 1, Count: 1}
			change(m)
			_, err := cluster.client.AddChunks(ctx, m)
			return err
		}
	}
	for name, call := range map[string]func() error{
		"no header":       func() error { return mkdir(nil) },
		"short client id": func() error { return mkdir(&controlpb.MutationHeader{ClientId: id[:8], Sequence: 1}) },
		"zero client id": func() error {
			return mkdir(&controlpb.MutationHeader{ClientId: make([]byte, 16), Sequence: 1})
		},
		"zero sequence": func() error { return mkdir(&controlpb.MutationHeader{ClientId: id}) },
		"oldest above": func() error {
			return mkdir(
				&controlpb.MutationHeader{ClientId: id, Sequence: 1, OldestPending: 2})
		},
		"replication":      create(func(m *controlpb.CreateRequest) { m.Replication = 1 << 31 }),
		"chunk count":      create(func(m *controlpb.CreateRequest) { m.ChunkCount = 1 << 31 }),
		"odd chunk size":   create(func(m *controlpb.CreateRequest) { m.ChunkSize = 1000 }),
		"negative size":    create(func(m *controlpb.CreateRequest) { m.ChunkSize = -65536 }),
		"huge chunk size":  create(func(m *controlpb.CreateRequest) { m.ChunkSize = 1 << 40 }),
		"long client name": create(func(m *controlpb.CreateRequest) { m.ClientName = strings.Repeat("n", 256) }),
		"many exclusions": create(func(m *controlpb.CreateRequest) {
			m.ExcludeNodes = make([]string,
				limits.NodesPerCallMax+1)
		}),
		"empty exclusion": create(func(m *controlpb.CreateRequest) { m.ExcludeNodes = []string{""} }),
		"zero file":       add(func(m *controlpb.AddChunksRequest) { m.FileId = 0 }),
		"huge count":      add(func(m *controlpb.AddChunksRequest) { m.Count = 1<<32 - 1 }),
		"many commits": add(func(m *controlpb.AddChunksRequest) {
			m.Commits = make([]*controlpb.ChunkCommit, limits.CommitsPerCallMax+1)
		}),
		"bad replacement":    add(func(m *controlpb.AddChunksRequest) { m.ReplaceChunkId = id[:1] }),
		"commit of no chunk": complete(&controlpb.ChunkCommit{Generation: 1}),
		"commit at zero":     complete(&controlpb.ChunkCommit{ChunkId: id}),
		"commit negative":    complete(&controlpb.ChunkCommit{ChunkId: id, Generation: 1, Length: -1}),
		"commit on nobody":   complete(&controlpb.ChunkCommit{ChunkId: id, Generation: 1, NodeIds: []string{""}}),
		"negative truncate": func() error {
			_, err := cluster.client.Truncate(ctx, &controlpb.TruncateRequest{Header: header(), Path: "/a", Length: -1})
			return err
		},
		"recover without chunk": func() error {
			_, err := cluster.client.RecoverPipeline(ctx,
				&controlpb.RecoverPipelineRequest{Header: header(), FileId: 1, Generation: 1})
			return err
		},
		"update without generation": func() error {
			_, err := cluster.client.UpdatePipeline(ctx,
				&controlpb.UpdatePipelineRequest{Header: header(), FileId: 1, ChunkId: id})
			return err
		},
		"abandon nothing": func() error {
			_, err := cluster.client.Abandon(ctx, &controlpb.AbandonRequest{Header: header()})
			return err
		},
		"locate nothing": func() error { _, err := cluster.client.Locate(ctx, &controlpb.LocateRequest{}); return err },
		"locate both": func() error {
			_, err := cluster.client.Locate(ctx, &controlpb.LocateRequest{Path: "/", FileId: 1})
			return err
		},
		"locate before": func() error {
			_, err := cluster.client.Locate(ctx, &controlpb.LocateRequest{FileId: 1, Offset: -1})
			return err
		},
		"list after long": func() error {
			_, err := cluster.client.List(ctx, &controlpb.ListRequest{Path: "/", After: strings.Repeat("n", 256)})
			return err
		},
		"renew for nobody": func() error {
			_, err := cluster.client.RenewLeases(ctx, &controlpb.RenewLeasesRequest{ClientId: id[:3]})
			return err
		},
		"safe mode nothing": func() error {
			_, err := cluster.client.SafeMode(ctx, &controlpb.SafeModeRequest{})
			return err
		},
		"safe mode unknown": func() error {
			_, err := cluster.client.SafeMode(ctx, &controlpb.SafeModeRequest{Action: 77})
			return err
		},
		"bad replica nowhere": func() error {
			_, err := cluster.client.ReportBadReplica(ctx,
				&controlpb.ReportBadReplicaRequest{ChunkId: id, Generation: 1})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := cluster.server.Stats()
			err := faultOf(call())
			require.ErrorIs(t, err, fault.Invalid)
			var e *fault.Error
			require.ErrorAs(t, err, &e)
			require.NotEmpty(t, e.Reason)
			require.NotEmpty(t, e.Op)
			require.Equal(t, before.Malformed+1, cluster.server.Stats().Malformed,
				"it was refused before it cost a command")
		})
	}
	require.Empty(t, cluster.client.names("/", 0))
}

// Bytes that are no HTTP/2 end their connection and nothing else.
func TestGarbageOnThePort(t *testing.T) {
	cluster := startCluster(t, 0, Options{Log: newFakeLog()})
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for name, bytes := range map[string]string{
		"text":            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"zeros":           strings.Repeat("\x00", 4096),
		"ones":            strings.Repeat("\xff", 4096),
		"huge frame":      preface + "\xff\xff\xff\x00\x00\x00\x00\x00\x01",
		"cut off preface": preface[:10],
		"bad settings":    preface + "\x00\x00\x01\x04\x00\x00\x00\x00\x00x",
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := net.Dial("tcp", cluster.server.Addr())
			require.NoError(t, err)
			defer connection.Close()
			// The server may have closed the connection before all is written.
			_, _ = connection.Write([]byte(bytes))
			_ = connection.(*net.TCPConn).CloseWrite()
			require.NoError(t, connection.SetReadDeadline(time.Now().Add(patience)))
			for buffer := make([]byte, 1024); err == nil; {
				_, err = connection.Read(buffer)
			}
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Empty(t, cluster.client.names("/", 0))
		})
	}
}
