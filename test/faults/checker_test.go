package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// checkReadable reads the file as a new client: it holds at least the first
// acked bytes of content, and nothing but content.
func (c *cluster) checkReadable(path string, content []byte, acked int) error {
	cl := c.dial()
	defer c.hangUp(cl)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := cl.Open(ctx, path)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	err = errors.Join(err, r.Close())
	switch {
	case err != nil:
		return fmt.Errorf("after %d of %d acknowledged bytes: %w", len(got), acked, err)
	case len(got) < acked:
		return fmt.Errorf("%d bytes are there, %d were acknowledged", len(got), acked)
	case len(got) > len(content):
		return fmt.Errorf("%d bytes are there, %d were written", len(got), len(content))
	}
	return same(got, content[:len(got)])
}

// errWrongBytes is what no waiting makes better.
var errWrongBytes = errors.New("wrong bytes")

// same tells where bytes differ.
func same(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Errorf("%w: %d bytes, want %d; the first difference is at byte %d", errWrongBytes,
		len(got), len(want), i)
}

// checkReplicas asks every node for every chunk of a closed file, accepting no
// generation below the present one. A node that answers has the right bytes;
// one that the namenode counts has all of them.
func (c *cluster) checkReplicas(cl *client.Client, path string, content []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	chunks, err := cl.Locate(ctx, path, 0, 0)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, location := range chunks {
		total += location.Length
		if total > int64(len(content)) {
			break
		}
		want := content[location.Offset:total]
		for _, peer := range c.nodes {
			counted := slices.ContainsFunc(location.Replicas, func(r client.Replica) bool {
				return r.NodeID == peer.id()
			})
			got, reply, err := readDirect(ctx, peer.data.address(), location.ID, location.Generation)
			switch {
			case counted && err != nil:
				return fmt.Errorf("chunk %d: the namenode counts the replica of %s: %w", location.Index, peer.name, err)
			case errors.Is(err, fault.StaleGeneration), errors.Is(err, fault.NotFound):
				continue
			case err != nil:
				return fmt.Errorf("chunk %d on %s: %w", location.Index, peer.name, err)
			case reply.Generation < uint64(location.Generation):
				return fmt.Errorf("%w: chunk %d: %s served generation %d, at least %d was asked for", errWrongBytes,
					location.Index, peer.name, reply.Generation, location.Generation)
			case counted && reply.Generation != uint64(location.Generation):
				return fmt.Errorf("chunk %d on %s: generation %d, the namenode says %d", location.Index, peer.name,
					reply.Generation, location.Generation)
			case !counted && len(got) < len(want):
				want := want[:len(got)]
				if err := same(got, want); err != nil {
					return fmt.Errorf("chunk %d on %s, not counted: %w", location.Index, peer.name, err)
				}
				continue
			}
			if err := same(got, want); err != nil {
				return fmt.Errorf("chunk %d on %s (counted: %v): %w", location.Index, peer.name, counted, err)
			}
		}
	}
	if total != int64(len(content)) {
		return fmt.Errorf("%w: the file has %d bytes, want %d", errWrongBytes, total, len(content))
	}
	return nil
}

// checkSettled reports whether the cluster has nothing left to do about a closed
// file: every chunk has all its replicas, sealed, at one generation and length,
// and no disk has anything else.
func (c *cluster) checkSettled(cl *client.Client, path string, content []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	chunks, err := cl.Locate(ctx, path, 0, 0)
	if err != nil {
		return err
	}
	known := map[chunk.ID]client.ChunkLocation{}
	for _, l := range chunks {
		if len(l.Replicas) != replication {
			return fmt.Errorf("chunk %d (%s) has %d replicas", l.Index, l.ID, len(l.Replicas))
		}
		known[l.ID] = l
	}
	held := 0
	for _, n := range c.nodes {
		for _, r := range n.store.Replicas() {
			l, ok := known[r.ID]
			if !ok || r.Generation != l.Generation || r.State != chunk.Sealed || r.Length != l.Length {
				return fmt.Errorf(
					"%s still has %s (%s, generation %d, %d bytes); the namenode knows %v, generation %d, %d bytes",
					n.name, r.ID, r.State, r.Generation, r.Length, ok, l.Generation, l.Length)
			}
			held++
		}
	}
	if held != replication*len(chunks) {
		return fmt.Errorf("%d replicas, want %d", held, replication*len(chunks))
	}
	return c.checkReplicas(cl, path, content)
}

// checkDeletions: whatever disappeared was ordered away by the namenode, or had
// to make room for a newer replica of the same chunk: one of a later generation, or
// the whole one, sealed, instead of one that was left open in the same generation.
func (c *cluster) checkDeletions() error {
	for _, peer := range c.nodes {
		present := map[chunk.ID]chunk.Replica{}
		for _, r := range peer.store.Replicas() {
			present[r.ID] = r
		}
		peer.mu.Lock()
		defer peer.mu.Unlock()
		for _, r := range peer.mu.removed {
			now := present[r.ID]
			newer := now.Generation > r.Generation ||
				now.Generation == r.Generation && now.State == chunk.Sealed && r.State != chunk.Sealed &&
					now.Length >= r.Length
			if peer.mu.ordered[r.ID] < r.Generation && !newer {
				return fmt.Errorf("%s lost %s, generation %d, without an order", peer.name, r.ID, r.Generation)
			}
		}
	}
	return nil
}
