package actor

import (
	"slices"
)

// retryCache keeps the first answer of each client's latest mutations (HDFS's
// retry cache). It is part of the durable state: all changes come from records.
type retryCache struct {
	clients map[ClientID]*retryClient
	// oldest and newest end the list of clients by the time of their last
	// mutation.
	oldest, newest *retryClient
	results        int
}

type retryClient struct {
	id           ClientID
	older, newer *retryClient
	last         int64 // Unix ms, record time
	// floor: results of sequences below it were forgotten.
	floor uint64
	// entries by rising sequence; all >= floor.
	entries []retryEntry
}

type retryEntry struct {
	sequence uint64
	// result is one of the result structs; never changed.
	result any
}

func newRetryCache() retryCache {
	return retryCache{clients: make(map[ClientID]*retryClient)}
}

// lookup finds the first answer. forgotten means that the sequence is below
// what the cache still knows, so that a retry cannot be told from a new call.
func (c *retryCache) lookup(id ClientID, sequence uint64) (result any, found, forgotten bool) {
	client := c.clients[id]
	if client == nil {
		return nil, false, false
	}
	if i, ok := client.find(sequence); ok {
		return client.entries[i].result, true, false
	}
	return nil, false, sequence < client.floor
}

func (c *retryClient) find(sequence uint64) (int, bool) {
	n := len(c.entries)
	if n == 0 || c.entries[n-1].sequence < sequence {
		return n, false
	}
	return slices.BinarySearchFunc(c.entries, sequence, func(e retryEntry, want uint64) int {
		switch {
		case e.sequence < want:
			return -1
		case e.sequence > want:
			return 1
		}
		return 0
	})
}

// remember stores the answer of a record. A second record with the same
// sequence (there is none in a healthy log) replaces the first.
func (c *retryCache) remember(head *header, result any) {
	client := c.clients[head.Client]
	if client == nil {
		if len(c.clients) >= retryClientsMax {
			c.drop(c.oldest)
		}
		client = &retryClient{id: head.Client}
		c.clients[head.Client] = client
	} else {
		c.unlink(client)
	}
	client.last = head.Time
	c.link(client)
	client.raise(c, head.Oldest)
	if head.Sequence < client.floor {
		return
	}
	i, found := client.find(head.Sequence)
	if found {
		client.entries[i].result = result
		return
	}
	client.entries = slices.Insert(client.entries, i, retryEntry{head.Sequence, result})
	c.results++
	if n := len(client.entries); n > retryResultsMax {
		client.raise(c, client.entries[n-retryResultsMax].sequence)
	}
}

// raise forgets the results below floor.
func (c *retryClient) raise(cache *retryCache, floor uint64) {
	if floor <= c.floor {
		return
	}
	c.floor = floor
	n := 0
	for n < len(c.entries) && c.entries[n].sequence < floor {
		n++
	}
	if n > 0 {
		kept := copy(c.entries, c.entries[n:])
		clear(c.entries[kept:])
		c.entries = c.entries[:kept]
		cache.results -= n
	}
}

// forgetIdle drops clients whose last mutation is older than limit.
func (c *retryCache) forgetIdle(limit int64) {
	for c.oldest != nil && c.oldest.last < limit {
		c.drop(c.oldest)
	}
}

func (c *retryCache) drop(client *retryClient) {
	c.unlink(client)
	delete(c.clients, client.id)
	c.results -= len(client.entries)
}

func (c *retryCache) link(client *retryClient) {
	client.older, client.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = client
	} else {
		c.oldest = client
	}
	c.newest = client
}

func (c *retryCache) unlink(client *retryClient) {
	if client.older != nil {
		client.older.newer = client.newer
	} else {
		c.oldest = client.newer
	}
	if client.newer != nil {
		client.newer.older = client.older
	} else {
		c.newest = client.older
	}
	client.older, client.newer = nil, nil
}
